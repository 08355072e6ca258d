"""Writes lexical.json: what scikit-learn makes of texts that are easy to get wrong.

    pip install scikit-learn==1.9.1
    python lexical.py > lexical.json

BM25 and first words, which scikit-learn does not have, are computed from its counts by their
definitions. Tokens are runs of letters, marks, numbers and underscores; scikit-learn's own pattern leaves
marks out, so the first case, whose texts have none, uses that pattern to show that the two agree.
"""

import json
import unicodedata

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize

PLAIN = [
    "Is the card still coming? I'm waiting, waiting, waiting!",
    "  What can I do if my card still hasn't arrived after 2 weeks?\t\n",
    "Wo bleibt meine KARTE? STRASSE straße größer",
    "",
    "a",
    "a b c I x_y _ __ 3.5% 1,000 x²",
    "ΟΔΟΣ ΣΟΦΟΣ Σ. ΑΣ Σίσυφος",
    "日本語の文章 中文 한국어 ｆｕｌｌ１２３ ﬁne",
    "naïve café CAFÉ Ångström crème brûlée",
    "emoji 😀😀 👍🏽 e-mail@example.com http://x.y/z?q=1",
    "tabs\tand\u00a0no-break\u2003spaces\u3000here\x1cthere\u200bzero",
    "DŽ ǅ ŉ ẞ Iğdır",
]
MARKS = PLAIN + [
    "हिन्दी में लिखा हुआ पाठ",
    "cafe\u0301 de\u0301ja\u0300 vu",
    "ภาษาไทย คำ",
    "שָׁלוֹם עולם",
    "İstanbul",
]
UNSEEN = [
    "the card is waiting waiting for you, unseen words zebra",
    "",
    "zzzz qqqq",
    "CAFÉ café cafe\u0301 हिन्दी ΟΔΟΣ",
    "a",
    "card " * 7,
]


def tokens(shortest):
    def split(text):
        words = "".join(
            c if c == "_" or unicodedata.category(c)[0] in "LMN" else " " for c in text
        )
        return [word for word in words.split(" ") if len(word) >= shortest]

    return split


def words(low, high, shortest="two"):
    return {"words": {"min": low, "max": high, "shortest": shortest}}


def characters(low, high):
    return {"characters": {"min": low, "max": high}}


def first_words(count, high, shortest="two"):
    return {"first_words": {"words": count, "max": high, "shortest": shortest}}


def placed(grams, lower):
    """The analyzer of the first words: runs of tokens behind the place of their first."""
    split = tokens({"one": 1, "two": 2}[grams["shortest"]])

    def analyze(text):
        words = split(text.lower() if lower else text)[: grams["words"]]
        return [
            f"{at}:{' '.join(words[at : at + length])}"
            for at in range(len(words))
            for length in range(1, grams["max"] + 1)
            if at + length <= len(words)
        ]

    return analyze


def bm25(counts, lengths, average, texts, settings):
    """Okapi BM25 and the weights of its n-grams, from counts; the first rows are the texts."""
    k1, b = settings["k1"], settings["b"]
    counts = counts.toarray().astype(np.float64)
    documents = (counts[:texts] > 0).sum(axis=0)
    weights = np.log(1 + (texts - documents + 0.5) / (documents + 0.5))
    saturation = k1 * (1 - b + b * np.array(lengths) / average)[:, None]
    return csr_matrix(counts * (k1 + 1) / (counts + saturation) * weights), weights


def block(grams, weighting, least=1, share=1.0, scale=1.0):
    return {
        "grams": grams,
        "weighting": weighting,
        "min_documents": least,
        "max_document_share": share,
        "max_features": None,
        "scale": scale,
    }


SUBLINEAR = {"tf_idf": {"sublinear": True}}
TF_IDF = {"tf_idf": {"sublinear": False}}


def case(name, texts, blocks, normalisation="per_block", case="lower", accents="keep", own=False):
    config = {
        "case": case,
        "accents": accents,
        "blocks": blocks,
        "normalisation": normalisation,
    }
    fitted, rows = [], []
    for part in blocks:
        kind, grams = next(iter(part["grams"].items()))
        options = {
            "lowercase": case == "lower",
            "strip_accents": "unicode" if accents == "strip" else None,
            "min_df": part["min_documents"],
            "max_df": part["max_document_share"],
        }
        if kind != "first_words":
            options["ngram_range"] = (grams["min"], grams["max"])
        if kind == "first_words":
            options["analyzer"] = placed(grams, case == "lower")
        elif kind == "characters":
            options["analyzer"] = "char_wb"
        elif not own:
            options["tokenizer"] = tokens({"one": 1, "two": 2}[grams["shortest"]])
            options["token_pattern"] = None
        weighting = part["weighting"]
        if weighting in ("binary", "counts") or "bm25" in weighting:
            vectorizer = CountVectorizer(binary=weighting == "binary", **options)
        else:
            sublinear = weighting["tf_idf"]["sublinear"]
            vectorizer = TfidfVectorizer(sublinear_tf=sublinear, norm=None, **options)
        vectorizer.fit(texts)
        idf = getattr(vectorizer, "idf_", None)
        names = vectorizer.get_feature_names_out()
        matrix = vectorizer.transform(texts + UNSEEN).astype(np.float64)
        if "bm25" in weighting:
            analyze = vectorizer.build_analyzer()
            lengths = [len(analyze(text)) for text in texts + UNSEEN]
            average = np.mean(lengths[: len(texts)])
            matrix, idf = bm25(matrix, lengths, average, len(texts), weighting["bm25"])
        if normalisation == "per_block":
            matrix = normalize(matrix)
        rows.append(matrix * part["scale"])
        fitted.append({name: 1.0 if idf is None else idf[i] for i, name in enumerate(names)})
    if normalisation == "joint":
        squares = sum(np.asarray(part.multiply(part).sum(axis=1)).ravel() for part in rows)
        norms = np.where(squares > 0, np.sqrt(squares), 1.0)
        rows = [part.multiply(1 / norms[:, None]).tocsr() for part in rows]
    out = []
    for index in range(len(texts) + len(UNSEEN)):
        entries = []
        for part, names in zip(rows, fitted):
            names = list(names)
            row = part[index]
            entries.append({names[j]: round(v, 9) for j, v in zip(row.indices, row.data)})
        out.append(entries)
    vocabularies = [{name: round(v, 9) for name, v in part.items()} for part in fitted]
    return {
        "name": name,
        "config": config,
        "texts": texts,
        "vocabularies": vocabularies,
        "rows": out,
    }


CASES = [
    case("own_pattern", PLAIN, [block(words(1, 2), SUBLINEAR)], own=True),
    case(
        "words_and_characters",
        MARKS,
        [block(words(1, 2), SUBLINEAR), block(characters(3, 4), SUBLINEAR)],
    ),
    case(
        "joint",
        MARKS,
        [block(words(2, 3, "one"), TF_IDF, scale=0.5), block(characters(2, 3), TF_IDF, least=2)],
        normalisation="joint",
    ),
    case("cut", MARKS, [block(words(1, 1, "one"), "counts", 2, 0.2)], normalisation="nothing"),
    case("kept_case", MARKS, [block(words(1, 1), "binary")], case="keep", normalisation="nothing"),
    case(
        "stripped",
        MARKS,
        [block(words(1, 1), TF_IDF, scale=2.0), block(characters(1, 2), "counts", 2)],
        accents="strip",
    ),
    case("long_characters", PLAIN[:4], [block(characters(6, 8), SUBLINEAR)]),
    case(
        "bm25",
        MARKS,
        [
            block(words(1, 2), {"bm25": {"k1": 1.25, "b": 0.75}}, least=2),
            block(characters(3, 4), {"bm25": {"k1": 2.0, "b": 0.0}}),
        ],
        normalisation="nothing",
    ),
    case(
        "first_words",
        MARKS,
        [block(words(1, 1), SUBLINEAR), block(first_words(3, 2, "one"), TF_IDF, scale=0.5)],
    ),
]
print(json.dumps({"unseen": UNSEEN, "cases": CASES}, ensure_ascii=True, separators=(",", ":")))

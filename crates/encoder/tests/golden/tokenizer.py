"""What the reference tokenizer makes of thousands of awkward texts.

    pip install tokenizers==0.23.3
    python3 tokenizer.py TOKENIZER_JSON

TOKENIZER_JSON is the published one. Writes to this folder:
- vocabulary.txt: a small part of its vocabulary, so that the test needs no download;
- tokenizer.json: fragments, from which both sides build texts by the same random numbers;
  some texts with their ids; and of all texts, and of every code point between two letters,
  hashes of their ids in blocks, for the small vocabulary and for the whole one.
"""

import hashlib
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

MAX_TOKENS, TEXTS, TEXT_BLOCK, CODE_BLOCK = 40, 6000, 50, 4096
folder = Path(__file__).parent

fragments = """How|do|I|locate|my|card?|CARD|Card's|payments|unaffordable|re-ordered|top-up|£5.00|$3|€|a|b|z
the|THE|ing|##ing|##|#|un|believable|antidisestablishmentarianism|x=y+z|e.g.|U.S.A.|3.14|1,000,000|50%|@user|#tag|a_b
http://example.org/p?q=1&r=2|me@example.org|C++|C#|.NET|:-)|...|!!|?!|--|“quoted”|‘q’|«fr»|–|—|…|·|•|©|®|™|°|½|²|№
naïve|déjà|Ünïcödé|Zürich|Straße|ẞ|İstanbul|ıI|ŁÓDŹ|Ångström|Å|ﬁ|ﬂ|Ǆ|ǅ|ñ|Ñ|ņ|ё|й|Ё|Й|Москва|Україна
Ελλάδα|ΣΑΣ|ς|ΐ|ᾳ|東京|東京タワー|中国|漢字かな|カタカナ|ｶﾀｶﾅ|Ｆｕｌｌ|한국어|각|ㄱ|העברית|שָׁלוֹם|العربية|مُحَمَّد|हिन्दी|क्ष|ไทย|ก็|தமிழ்|বাংলা
😀|👍🏽|👨‍👩‍👧|🇩🇪|❤️|𝒜|𝟘|𠀀|𪛟|𫠠|豈|㐀|〇|々|〜|。|、|「|」|・|！|？
[CLS]|[SEP]|[MASK]|[PAD]|[UNK]|[cls]|[MASK|MASK]|[[SEP]]|[SEP][SEP]|[unused1]""".replace(
    "\n", "|"
).split("|")
fragments += [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u2028", "\u0085", "\x0b", "\x0c"]
fragments += ["\0", "\x01", "\x1f", "\x7f", "\u00ad", "\u200b", "\u200c", "\u200d", "\ufeff", "\ufffd", "\ue000", "\u202e"]
fragments += ["\u0301", "\u0308", "a\u0301", "e\u0323\u0302", "\u0302\u0323", "\u093c", "\u0f71\u0f72", "\u1e9b\u0323", "\u3099", "か\u3099"]
fragments += ["\u180e", "\u2061", "\u1734", "\u0378", "\U000e0001", "\U0010ffff", "\u212b", "\u2126", "\u0345"]
fragments += ["a" * n for n in (99, 100, 101, 200)] + ["é" * n for n in (99, 100, 101)]
fragments += ["e\u0301" * 100, "東" * 30, "card" * 25, "card" * 26, "." * 40]


class Random:
    """A linear congruential generator, of which the high bits are used."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % limit


def random_texts():
    random = Random(2024)
    for _ in range(TEXTS):
        parts = []
        for _ in range(1 + random.below(12)):
            parts.append(fragments[random.below(len(fragments))])
            if random.below(2):
                parts.append(" ")
        yield "".join(parts)


def blocks(items, size):
    items = list(items)
    return [items[start : start + size] for start in range(0, len(items), size)]


def digest(tokenizer, texts):
    sha = hashlib.sha256()
    for encoding in tokenizer.encode_batch(texts):
        for number in [len(encoding.ids), *encoding.ids]:
            sha.update(number.to_bytes(4, "little"))
    return sha.hexdigest()[:12]


def digests(definition):
    tokenizer = Tokenizer.from_str(json.dumps(definition))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    return {
        "texts": [digest(tokenizer, block) for block in blocks(texts, TEXT_BLOCK)],
        "codes": [
            digest(tokenizer, [f"a{chr(code)}b" for code in block])
            for block in blocks(codes, CODE_BLOCK)
        ],
    }, tokenizer


texts = list(random_texts())
whole = json.loads(Path(sys.argv[1]).read_text())
entries = sorted(whole["model"]["vocab"], key=whole["model"]["vocab"].get)
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
full = Tokenizer.from_file(sys.argv[1])
used = {token for block in blocks(texts, 500) for e in full.encode_batch(block) for token in e.tokens}
short = [e for e in entries if len(e.removeprefix("##")) == 1]
part = special + [e for e in entries if e not in special and (e in used or e in short[::2])]
small = json.loads(json.dumps(whole))
small["model"]["vocab"] = {entry: id for id, entry in enumerate(part)}
for token in small["added_tokens"]:
    token["id"] = special.index(token["content"])
for token in small["post_processor"]["special_tokens"].values():
    token["ids"] = [special.index(token["id"])]
small_digests, tokenizer = digests(small)
whole_digests, _ = digests(whole)
# An entry holds no line break.
(folder / "vocabulary.txt").write_text("\n".join(part) + "\n")
(folder / "tokenizer.json").write_text(
    json.dumps(
        {
            "max_tokens": MAX_TOKENS,
            "texts": TEXTS,
            "text_block": TEXT_BLOCK,
            "code_block": CODE_BLOCK,
            "fragments": fragments,
            "examples": [
                {"text": text, "ids": tokenizer.encode(text).ids} for text in texts[:60]
            ],
            "small": small_digests,
            "whole": whole_digests,
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )
)

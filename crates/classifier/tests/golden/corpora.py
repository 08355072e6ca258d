"""Prints the table of tests/classifier/corpora.rs: scikit-learn's features of whole data sets.

    pip install scikit-learn==1.9.1
    python corpora.py DATA_FOLDER
"""

import json
import sys
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion


def texts(path):
    return [json.loads(line)["text"] for line in open(path)]


for name in ["banking77", "clinc150", "trec"]:
    folder = Path(sys.argv[1]) / name
    train, test = texts(folder / "train.jsonl"), texts(folder / "test.jsonl")
    for min_df in (1, 2):
        options = {"sublinear_tf": True, "min_df": min_df}
        words = TfidfVectorizer(ngram_range=(1, 2), **options)
        characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), **options)
        union = FeatureUnion([("words", words), ("characters", characters)])
        fitted, unseen = union.fit_transform(train), union.transform(test)
        print(name, min_df, fitted.shape[1], fitted.nnz, unseen.nnz, fitted.sum(), unseen.sum())

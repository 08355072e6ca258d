"""Fits the model that the peers of `bench serving` answer with, and says how often it is right.

    python bench/peers/serving_model.py TRAIN.jsonl HELD_OUT.jsonl MODEL.joblib

Words and characters as the usual first choice with scikit-learn, logistic regression above them.
Prints a JSON object with the accuracy on the held-out rows.
"""

import json
import pathlib
import sys

import joblib
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline


def load(path):
    rows = [json.loads(line) for line in pathlib.Path(path).open(encoding="utf-8")]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def main():
    train, held_out, output = sys.argv[1:]
    features = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)),
            ("chars", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=2, sublinear_tf=True)),
        ]
    )
    model = make_pipeline(features, LogisticRegression(C=20.0, max_iter=300))
    model.fit(*load(train))
    joblib.dump(model, output)
    print(json.dumps({"accuracy": model.score(*load(held_out))}))


if __name__ == "__main__":
    main()

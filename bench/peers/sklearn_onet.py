"""The test accuracy of scikit-learn's TF-IDF and LinearSVC on O*NET titles.

    python bench/peers/sklearn_onet.py FOLDER

FOLDER holds train.jsonl and test.jsonl, one object with `text` and `labels` a line, as the example
`quality` exports them: the same rows that Corral is trained and tested on. A title with several codes
is one row for each of them. Prints one JSON line: the share of test titles whose best answer, and one
of whose five best answers, is any of the title's codes, in points, and the CPU seconds.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import json
import pathlib
import sys
import time

import numpy as np
import sklearn
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion
from sklearn.svm import LinearSVC


def load(path):
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def main():
    folder = pathlib.Path(sys.argv[1])
    train = [(row["text"], label) for row in load(folder / "train.jsonl") for label in row["labels"]]
    test = load(folder / "test.jsonl")
    begin = time.process_time()
    features = FeatureUnion([
        ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)),
        ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)),
    ])
    model = LinearSVC().fit(features.fit_transform([text for text, _ in train]), [label for _, label in train])
    done = time.process_time()
    hits = np.zeros(5)
    for start in range(0, len(test), 512):
        rows = test[start:start + 512]
        scores = model.decision_function(features.transform([row["text"] for row in rows]))
        best = np.argsort(-scores, axis=1)[:, :5]
        for row, places in zip(rows, model.classes_[best]):
            hits += np.maximum.accumulate([place in row["labels"] for place in places])
    print(json.dumps({
        "system": f"scikit-learn {sklearn.__version__}",
        "top_1": 100 * hits[0] / len(test),
        "top_5": 100 * hits[4] / len(test),
        "cpu_seconds": done - begin,
    }))


if __name__ == "__main__":
    main()

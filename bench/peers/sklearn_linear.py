"""The CPU time and accuracy of scikit-learn's TF-IDF and one linear fit on Banking77.

    python bench/peers/sklearn_linear.py svm|softmax [C] [repetitions]

Prints one JSON line a repetition, as `cargo run --release -p corral-training --example svm_speed`
does. One thread; the data stand where CORRAL_TEST_DATA says (default ../shared/data).
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
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion
from sklearn.svm import LinearSVC


def load(folder, split):
    rows = [json.loads(line) for line in (folder / f"{split}.jsonl").open(encoding="utf-8")]
    return [row["text"] for row in rows], np.array([row["label"] for row in rows])


def main():
    learner = sys.argv[1] if len(sys.argv) > 1 else "svm"
    cost = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    repetitions = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    workspace = pathlib.Path(__file__).resolve().parents[2]
    data = pathlib.Path(os.environ.get("CORRAL_TEST_DATA", workspace / "../shared/data"))
    if not (data / "banking77").exists():
        print(f"skipped: no data set at {data / 'banking77'}")
        return
    texts, labels = load(data / "banking77", "train")
    test_texts, test_labels = load(data / "banking77", "test")
    for _ in range(repetitions):
        begin = time.process_time()
        features = FeatureUnion([
            ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)),
            ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)),
        ])
        rows = features.fit_transform(texts)
        featurized = time.process_time()
        model = LinearSVC(C=cost) if learner == "svm" else LogisticRegression(C=cost, max_iter=1000)
        model.fit(rows, labels)
        done = time.process_time()
        accuracy = float((model.predict(features.transform(test_texts)) == test_labels).mean())
        print(json.dumps({
            "system": f"scikit-learn {sklearn.__version__}", "learner": learner, "cost": cost, "threads": 1,
            "featurize_cpu_seconds": featurized - begin,
            "fit_cpu_seconds": done - featurized,
            "cpu_seconds": done - begin,
            "accuracy": accuracy,
        }), flush=True)


if __name__ == "__main__":
    main()

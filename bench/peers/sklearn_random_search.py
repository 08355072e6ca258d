"""What scikit-learn's RandomizedSearchCV takes for 20 costs × 3 folds on Banking77's lexical features.

    python bench/peers/sklearn_random_search.py JOBS

Prints one JSON line: the costs drawn, the best mean accuracy over the folds, and the CPU seconds of
all processes, features, search and the refit of the best included. Features are computed once,
before the search, and not once a fold in a pipeline: that leaks the vocabulary into the held-out
folds and saves most of the time. The data stand where CORRAL_TEST_DATA says (default
../shared/data); test rows are not read.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import json
import pathlib
import sys
import warnings

import numpy as np
import scipy.stats
import sklearn
from joblib.externals.loky import get_reusable_executor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import RandomizedSearchCV, StratifiedKFold
from sklearn.pipeline import FeatureUnion
from sklearn.svm import LinearSVC

SETTINGS = 20
FOLDS = 3


def main():
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    workspace = pathlib.Path(__file__).resolve().parents[2]
    data = pathlib.Path(os.environ.get("CORRAL_TEST_DATA", workspace / "../shared/data"))
    rows = [json.loads(line) for line in (data / "banking77/train.jsonl").open(encoding="utf-8")]
    labels = np.array([row["label"] for row in rows])
    begin = sum(os.times()[:4])
    features = FeatureUnion([
        ("words", TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)),
        ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=2, sublinear_tf=True)),
    ])
    matrix = features.fit_transform([row["text"] for row in rows])
    search = RandomizedSearchCV(
        LinearSVC(),
        {"C": scipy.stats.loguniform(0.03, 4)},
        n_iter=SETTINGS,
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=0),
        n_jobs=jobs,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(matrix, labels)
    # The CPU time of workers is known once they have ended.
    get_reusable_executor().shutdown(wait=True)
    print(json.dumps({
        "system": f"scikit-learn {sklearn.__version__}",
        "jobs": jobs,
        "costs": [float(setting["C"]) for setting in search.cv_results_["params"]],
        "score": float(search.best_score_),
        "cpu_seconds": sum(os.times()[:4]) - begin,
    }))


if __name__ == "__main__":
    main()

"""Golden values of further linear learners: `python linear.py > linear.json`, beside golden.json.

Made with scikit-learn 1.9.1 and numpy, on the problem that golden.json holds.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.naive_bayes import ComplementNB
from sklearn.svm import LinearSVC

given = json.loads((Path(__file__).parent / "golden.json").read_text())
sparse, dense = np.array(given["sparse"]), given["dense_scale"] * np.array(given["dense"])
labels, weights, classes = np.array(given["labels"]), np.array(given["weights"]), given["classes"]
ones = np.ones((len(labels), 1))
joined = np.hstack([sparse, dense, ones])


def complement_bayes(alpha, norm):
    model = ComplementNB(alpha=alpha, norm=norm, force_alpha=True)
    model.fit(sparse, labels, sample_weight=weights)
    scores = sparse[:5] @ model.feature_log_prob_.T
    return {"smoothing": alpha, "normalised": norm, "scores": scores.tolist()}


def ridge(cost):
    model = RidgeClassifier(alpha=1 / (2 * cost), fit_intercept=False, solver="cholesky")
    model.fit(joined, labels, sample_weight=weights)
    return {"cost": cost, "scores": (joined[:5] @ model.coef_.T).tolist()}


def nb_svm(cost, alpha, beta):
    """Wang and Manning's machine; counts are rows that have the feature, by their weights."""
    scores = []
    for k in range(classes):
        own = labels == k
        has = (sparse > 0) * weights[:, None]
        p, q = alpha + has[own].sum(0), alpha + has[~own].sum(0)
        r = np.log((p / p.sum()) / (q / q.sum()))
        scaled = np.hstack([sparse * r, dense, ones])
        model = LinearSVC(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1_000_000)
        model.fit(scaled, np.where(own, 1, -1), sample_weight=cost * weights)
        w = model.coef_[0].copy()
        counts = slice(0, sparse.shape[1])
        w[counts] = (1 - beta) * np.abs(w[counts]).mean() + beta * w[counts]
        scores.append(scaled[:5] @ w)
    return {"cost": cost, "smoothing": alpha, "interpolation": beta, "scores": np.array(scores).T.tolist()}


def centroid(contrast):
    rows, scores = joined[:, :-1], []
    for k in range(classes):
        own = labels == k
        mean = lambda of: (weights[of, None] * rows[of]).sum(0) / weights[of].sum()
        direction = mean(own) - contrast * mean(~own)
        scores.append(rows[:5] @ direction / np.linalg.norm(direction))
    return {"contrast": contrast, "scores": np.array(scores).T.tolist()}


print(json.dumps({
    "complement_bayes": [complement_bayes(1.0, False), complement_bayes(0.1, True)],
    "ridge": [ridge(0.5), ridge(5.0)],
    "nb_svm": [nb_svm(1.0, 1.0, 0.25), nb_svm(0.1, 0.5, 1.0)],
    "centroid": [centroid(0.0), centroid(0.5)],
}))

"""Golden values from scikit-learn: `python generate.py > golden.json`.

Made with scikit-learn 1.9.1, numpy, scipy. Problems are small and printed with the answers.
"""

import json

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.calibration import _sigmoid_calibration
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support, top_k_accuracy_score
from sklearn.svm import LinearSVC

random = np.random.default_rng(7)
rows, sparse_columns, dense_columns, classes = 60, 40, 6, 19

# Rows with few sparse values and a dense part, and labels that depend on both.
sparse = np.where(random.random((rows, sparse_columns)) < 0.15, random.random((rows, sparse_columns)), 0)
sparse = np.round(sparse, 3).astype("f4").astype("f8")
dense = np.round(random.normal(size=(rows, dense_columns)), 3).astype("f4").astype("f8")
joined = np.hstack([sparse, 0.5 * dense, np.ones((rows, 1))])
truth = joined @ random.normal(size=(joined.shape[1], classes))
labels = (truth + random.gumbel(size=truth.shape)).argmax(1)
labels[:classes] = np.arange(classes)
weights = np.round(random.uniform(0.5, 2.0, size=rows), 2)


def svm(cost, class_weight=None):
    total, scores = 0.0, []
    for k in range(classes):
        sign = np.where(labels == k, 1.0, -1.0)
        row_cost = cost * weights * np.where(labels == k, (class_weight or {}).get(k, 1.0), 1.0)
        model = LinearSVC(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1_000_000)
        model.fit(joined, sign, sample_weight=row_cost)
        w = model.coef_[0]
        margin = np.maximum(0, 1 - sign * (joined @ w))
        total += 0.5 * w @ w + (row_cost * margin**2).sum()
        scores.append(joined[:5] @ w)
    return {"cost": cost, "objective": total, "scores": np.array(scores).T.tolist()}


def softmax(cost, targets):
    """The optimum of the soft-label objective, by L-BFGS in double precision."""

    def value(flat):
        w = flat.reshape(classes, -1)
        z = joined @ w.T
        total = logsumexp(z, axis=1)
        loss = cost * (weights * (total - (targets * z).sum(1))).sum()
        gradient = w + cost * ((weights[:, None] * (np.exp(z - total[:, None]) - targets)).T @ joined)
        return 0.5 * (flat @ flat) + loss, gradient.ravel()

    best = minimize(value, np.zeros(classes * joined.shape[1]), jac=True, method="L-BFGS-B",
                    options={"maxiter": 20000, "ftol": 1e-15, "gtol": 1e-9})
    w = best.x.reshape(classes, -1)
    return {"cost": cost, "objective": best.fun, "scores": (joined[:5] @ w.T).tolist()}


hard = np.eye(classes)[labels]
soft = 0.7 * hard + 0.3 * np.eye(classes)[(labels + 3) % classes]
reference = LogisticRegression(C=3.0, fit_intercept=False, tol=1e-10, max_iter=20000)
reference.fit(joined, labels, sample_weight=weights)
z = joined @ reference.coef_.T
reference_objective = 0.5 * (reference.coef_**2).sum() + 3.0 * (
    weights * (logsumexp(z, axis=1) - z[np.arange(rows), labels])).sum()

# Metrics of predictions over seven classes, one of which never occurs.
count, kinds = 50, 7
right = random.integers(0, kinds - 1, size=count)
probabilities = random.dirichlet(np.ones(kinds) * 0.5, size=count)
probabilities[np.arange(count), right] += 0.4 * random.random(count)
probabilities = np.round(probabilities / probabilities.sum(1, keepdims=True), 4).astype("f4").astype("f8")
predicted = probabilities.argmax(1)
confidence, hit = probabilities.max(1), predicted == right
ece = 0.0
for low in range(15):
    inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
    if inside.any():
        ece += abs(confidence[inside].mean() - hit[inside].mean()) * inside.mean()
present = sorted(set(right) | set(predicted))
precision, recall, f1, support = precision_recall_fscore_support(right, predicted, labels=present, zero_division=0)

# A temperature, by a scan and a bounded search.
logits = np.round(random.normal(size=(count, kinds)) * 3, 3).astype("f4").astype("f8")
logits[np.arange(count), right] += 1.5
logits = logits.astype("f4").astype("f8")
negative = lambda t: -(logits[np.arange(count), right] / t - logsumexp(logits / t, axis=1)).sum()
grid = np.exp(np.linspace(-3, 3, 2001))
around = grid[np.argmin([negative(t) for t in grid])]
from scipy.optimize import minimize_scalar
temperature = minimize_scalar(negative, bounds=(around / 1.01, around * 1.01), method="bounded",
                              options={"xatol": 1e-10}).x

decision = np.round(random.normal(size=80), 3).astype("f4").astype("f8")
is_positive = (decision + random.normal(size=80) > 0.4).astype(int)
a, b = _sigmoid_calibration(decision, is_positive)

print(json.dumps({
    "rows": rows, "classes": classes,
    "sparse": sparse.tolist(), "dense": dense.tolist(), "dense_scale": 0.5,
    "labels": labels.tolist(), "weights": weights.tolist(),
    "svm": [svm(1.0), svm(0.1), svm(20.0)],
    "svm_weighted": svm(1.0, {2: 4.0, 5: 0.25}),
    "softmax": [softmax(1.0, hard), softmax(0.1, hard), softmax(100.0, hard)],
    "softmax_soft": softmax(10.0, soft),
    "softmax_reference": {"cost": 3.0, "objective": reference_objective},
    "metrics": {
        "right": right.tolist(), "probabilities": probabilities.tolist(),
        "accuracy": float((predicted == right).mean()),
        "macro_f1": f1_score(right, predicted, average="macro"),
        "weighted_f1": f1_score(right, predicted, average="weighted"),
        "top_5": top_k_accuracy_score(right, probabilities, k=5, labels=range(kinds)),
        "log_loss": log_loss(right, probabilities, labels=range(kinds)),
        "ece": ece,
        "classes": [
            {"class": int(c), "precision": p, "recall": r, "f1": f, "support": int(s)}
            for c, p, r, f, s in zip(present, precision, recall, f1, support)
        ],
    },
    "temperature": {"right": right.tolist(), "logits": logits.tolist(), "value": float(temperature)},
    "sigmoid": {"scores": decision.tolist(), "is_positive": is_positive.tolist(), "slope": -a, "offset": -b},
}))

"""Golden values of heads that are not linear: `python heads.py > heads.json`.

Made with scikit-learn 1.9.1 and numpy. Problems are small and printed with the answers.
"""

import json

import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

random = np.random.default_rng(11)
rows, asked, sparse_columns, dense_columns, classes = 70, 12, 30, 10, 5
count = rows + asked

sparse = np.where(random.random((count, sparse_columns)) < 0.2, random.random((count, sparse_columns)), 0)
sparse = np.round(sparse, 3).astype("f4").astype("f8")
dense = np.round(random.normal(size=(count, dense_columns)), 3).astype("f4").astype("f8")
joined = np.hstack([sparse, dense])
truth = joined @ random.normal(size=(joined.shape[1], classes))
labels = (truth + random.gumbel(size=truth.shape)).argmax(1)[:rows]
labels[:classes] = np.arange(classes)
weights = np.round(random.uniform(0.5, 2.0, size=rows), 2)


def neighbours(k, sharpness):
    vote = lambda distances: np.exp(-sharpness * distances)
    model = KNeighborsClassifier(k, weights=vote, metric="cosine").fit(dense[:rows], labels)
    return {"neighbours": k, "sharpness": sharpness, "probabilities": model.predict_proba(dense[rows:]).tolist()}


def kernel_ridge(ridge, decay, scale):
    units = dense / np.linalg.norm(dense, axis=1, keepdims=True)
    kernels = sparse @ sparse.T + scale**2 * np.exp(decay * (units @ units.T - 1))
    shares = np.eye(classes)[labels]
    means = (weights[:, None] * shares).sum(0) / weights.sum()
    model = KernelRidge(alpha=ridge, kernel="precomputed")
    model.fit(kernels[:rows, :rows], shares - means, sample_weight=weights)
    return {"ridge": ridge, "decay": decay, "scale": scale,
            "scores": (model.predict(kernels[rows:, :rows]) + means).tolist()}


def network(activation):
    model = MLPClassifier(16, activation=activation, max_iter=60, random_state=3)
    model.fit(joined[:rows], labels)
    return {"activation": activation, "weights": [w.ravel().tolist() for w in model.coefs_],
            "biases": [b.tolist() for b in model.intercepts_],
            "probabilities": model.predict_proba(joined[rows:]).tolist()}


print(json.dumps({
    "rows": rows, "classes": classes, "sparse": sparse.tolist(), "dense": dense.tolist(),
    "labels": labels.tolist(), "weights": weights.tolist(),
    "neighbours": [neighbours(1, 5.0), neighbours(7, 5.0), neighbours(20, 12.0)],
    "kernel_ridge": [kernel_ridge(0.5, 3.0, 1.0), kernel_ridge(0.1, 1.0, 2.0)],
    "network": [network("identity"), network("relu")],
}, separators=(",", ":")))

"""Golden values of metrics over rows with weights and probabilistic labels.

A row with shares of several classes is, to scikit-learn, one row for each of them whose
`sample_weight` is the row's weight times the share. Run with scikit-learn 1.9:
`python weights.py > weights.json`.
"""

import json

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, log_loss, top_k_accuracy_score

random = np.random.default_rng(23)
rows, kinds = 90, 8
logits = random.normal(size=(rows, kinds))
probabilities = np.exp(2 * logits)
probabilities = (probabilities / probabilities.sum(1, keepdims=True)).astype("f4").astype("f8")
weights = np.round(random.uniform(0.1, 3.0, size=rows), 2)
weights[::11] = 0.0
labels = []
for row in range(rows):
    first = int((logits[row] + random.gumbel(size=kinds)).argmax())
    if row % 2 == 0:
        labels.append([[first, 1.0]])
    else:
        second = (first + 1 + int(random.integers(kinds - 1))) % kinds
        share = float(np.round(random.uniform(0.3, 0.95), 2))
        labels.append([[first, share], [second, round(1 - share, 2)]])

spread = [(row, c, weights[row] * share) for row in range(rows) for c, share in labels[row]]
at = np.array([row for row, _, _ in spread])
right = np.array([c for _, c, _ in spread])
counts = np.array([weight for _, _, weight in spread])
predicted = probabilities.argmax(1)
confidence = probabilities.max(1)

worth = np.array([sum(share for c, share in labels[row] if c == predicted[row]) for row in range(rows)])
bins = np.clip(np.ceil(confidence * 15).astype(int), 1, 15)
error = sum(abs((weights * (confidence - worth))[bins == b].sum()) for b in range(1, 16))

wanted = (random.random((rows, kinds)) < 0.3).astype(int)
said = (probabilities >= 0.2).astype(int)

print(json.dumps({
    "probabilities": probabilities.tolist(), "weights": weights.tolist(), "labels": labels,
    "accuracy": accuracy_score(right, predicted[at], sample_weight=counts),
    "macro_f1": f1_score(right, predicted[at], average="macro", sample_weight=counts),
    "weighted_f1": f1_score(right, predicted[at], average="weighted", sample_weight=counts),
    "top_5": top_k_accuracy_score(right, probabilities[at], k=5, labels=range(kinds), sample_weight=counts),
    "log_loss": log_loss(right, probabilities[at], labels=range(kinds), sample_weight=counts),
    "ece": error / weights.sum(),
    "multi_label": {
        "right": [np.flatnonzero(row).tolist() for row in wanted],
        # Said from 0.2 on; the metric's own threshold is one half, so 0.3 is added.
        "raised": (0.3 + probabilities).clip(0, 1).tolist(),
        "accuracy": accuracy_score(wanted, said, sample_weight=weights),
        "macro_f1": f1_score(wanted, said, average="macro", sample_weight=weights, zero_division=0),
        "micro_f1": f1_score(wanted, said, average="micro", sample_weight=weights),
        "weighted_f1": f1_score(wanted, said, average="weighted", sample_weight=weights, zero_division=0),
    },
}))

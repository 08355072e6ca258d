"""Writes detector.json: logistic regression by scikit-learn over made-up signals.

    python detector.py > detector.json        # scikit-learn 1.9
"""

import json

import numpy as np
from sklearn.linear_model import LogisticRegression

rng = np.random.default_rng(5)
none_rows, others = 30, 170
signals = rng.normal(size=(none_rows + others, 4)) * [1.0, 20.0, 0.05, 0.0] + [0.0, 5.0, 1.0, 2.0]
is_none = np.arange(none_rows + others) < none_rows
signals[is_none] += [1.5, -10.0, 0.03, 0.0]
signals = np.round(signals, 4).astype(np.float32).astype(float)

weights = np.where(is_none, 1.0, none_rows / others)
mean = np.average(signals, axis=0, weights=weights)
deviation = np.sqrt(np.average((signals - mean) ** 2, axis=0, weights=weights))
factor = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)
model = LogisticRegression(C=10.0, tol=1e-12, max_iter=10_000)
model.fit((signals - mean) * factor, is_none, sample_weight=weights)
found = model.coef_[0] * factor
print(
    json.dumps(
        {
            "signals": signals.tolist(),
            "is_none": is_none.tolist(),
            "weights": found.tolist(),
            "bias": float(model.intercept_[0] - found @ mean),
        }
    )
)

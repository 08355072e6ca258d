"""Golden values of Snorkel 0.10: `python golden.py > golden.json` in an environment with it."""

import json

import numpy as np
from snorkel.labeling import LFAnalysis
from snorkel.labeling.model import LabelModel, MajorityLabelVoter


def planted(rows, functions, classes, seed):
    """Votes of functions that err independently."""
    random = np.random.default_rng(seed)
    truth = random.integers(classes, size=rows)
    votes = np.full((rows, functions), -1)
    for j in range(functions):
        accuracy, coverage = random.uniform(0.5, 0.95), random.uniform(0.2, 0.8)
        right = random.random(rows) < accuracy
        wrong = (truth + random.integers(1, classes, size=rows)) % classes
        votes[:, j] = np.where(random.random(rows) < coverage, np.where(right, truth, wrong), -1)
    return votes, truth


def case(rows, functions, classes, seed):
    votes, truth = planted(rows, functions, classes, seed)
    analysis = LFAnalysis(votes)
    summary = analysis.lf_summary(truth)
    majority = MajorityLabelVoter(cardinality=classes).predict_proba(votes)
    model = LabelModel(cardinality=classes, verbose=False)
    # The start is multiplied with the first random number of the seed.
    np.random.seed(7)
    scale = np.random.random()
    model.fit(votes, n_epochs=500, lr=0.01, seed=7, progress_bar=False)
    mu = model.mu.cpu().detach().numpy()
    return {
        "classes": classes,
        "votes": votes.tolist(),
        "truth": truth.tolist(),
        "coverage": summary["Coverage"].tolist(),
        "overlaps": summary["Overlaps"].tolist(),
        "conflicts": summary["Conflicts"].tolist(),
        "accuracies": summary["Emp. Acc."].tolist(),
        "label_coverage": analysis.label_coverage(),
        "label_conflict": analysis.label_conflict(),
        "majority": majority.tolist(),
        "start_scale": scale,
        "mu": mu.tolist(),
        "probabilities": model.predict_proba(votes).tolist(),
    }


print(json.dumps([case(400, 6, 2, 1), case(300, 5, 4, 2)]))

"""Snorkel on the rows that `labeling_speed make FOLDER` wrote: one part, as JSON."""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from snorkel.labeling import LFAnalysis, PandasLFApplier, labeling_function
from snorkel.labeling.model import LabelModel

torch.set_num_threads(1)
part, folder = sys.argv[1], Path(sys.argv[2])


def function_of(definition, classes):
    if definition["kind"] == "keyword":
        pattern = r"(?i)\b(" + "|".join(map(re.escape, definition["any"])) + r")\b"
    else:
        pattern = definition["pattern"]
    found, label = re.compile(pattern), classes.index(definition["class"])

    @labeling_function(name=definition["name"])
    def function(row):
        return label if found.search(row.text) else -1

    return function


def apply():
    texts = pd.DataFrame(map(json.loads, (folder / "texts.jsonl").open()))
    definitions = json.loads((folder / "functions.json").read_text())
    classes = sorted({definition["class"] for definition in definitions})
    functions = [function_of(definition, classes) for definition in definitions]
    begun = time.process_time()
    votes = PandasLFApplier(functions).apply(texts, progress_bar=False)
    seconds = time.process_time() - begun
    return {"seconds": seconds, "votes": (votes >= 0).sum(axis=0).tolist()}


def models():
    truth = np.frombuffer((folder / "truth.bin").read_bytes(), dtype=np.uint8).astype(int)
    votes = np.frombuffer((folder / "votes.bin").read_bytes(), dtype=np.int8)
    votes = votes.reshape(len(truth), -1).astype(int)
    begun = time.process_time()
    LFAnalysis(votes).lf_summary(truth)
    statistics = time.process_time() - begun
    begun = time.process_time()
    model = LabelModel(cardinality=2, verbose=False)
    model.fit(votes, n_epochs=500, seed=0, progress_bar=False)
    labels = model.predict_proba(votes).argmax(axis=1)
    fitting = time.process_time() - begun
    accuracy = float((labels == truth).mean())
    return {"statistics_seconds": statistics, "fit_predict_seconds": fitting, "accuracy": accuracy}


print(json.dumps({"apply": apply, "models": models}[part]()))

"""Idle containers that imported numpy and scikit-learn.

    python memory.py CONTAINERS

Says when all are idle, and ends them when its input ends.
"""

import json
import os
import sys
import time

import modal

CONTAINERS = int(sys.argv[1]) if modal.is_local() else 1
READY_S = 600

app = modal.App("bench-memory")
image = modal.Image.debian_slim().pip_install("numpy", "scikit-learn")

with image.imports():
    import numpy  # noqa: F401
    import sklearn.linear_model  # noqa: F401


@app.function(
    image=image,
    cpu=0.01,
    memory=64,
    min_containers=CONTAINERS,
    max_containers=CONTAINERS,
)
def idle(rest_s):
    time.sleep(rest_s)
    return os.environ["MODAL_TASK_ID"]


if __name__ == "__main__":
    with app.run():
        until = time.monotonic() + READY_S
        answered = set()
        while len(answered) < CONTAINERS:
            if time.monotonic() > until:
                raise SystemExit(f"{len(answered)} containers of {CONTAINERS} answered in time")
            answered.update(idle.map([0.5] * CONTAINERS))
        print(json.dumps({"idle": idle.object_id}), flush=True)
        sys.stdin.read()

"""A deployed function that takes one input and keeps it: what comes after it waits.

Prints its id.
"""

import json
import time

import modal

app = modal.App("bench-sink")


@app.function(max_containers=1, timeout=24 * 3600)
def sink():
    time.sleep(24 * 3600)


if __name__ == "__main__":
    app.deploy()
    sink.spawn()
    print(json.dumps({"sink": sink.object_id}))

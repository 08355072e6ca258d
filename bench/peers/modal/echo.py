"""A deployed function that gives back its argument, tried again where its container is killed.

Prints its id.
"""

import json

import modal

app = modal.App("bench-echo")


@app.function(
    max_containers=3,
    retries=modal.Retries(max_retries=10, initial_delay=0.0, backoff_coefficient=1.0),
)
def echo(text):
    return text


if __name__ == "__main__":
    app.deploy()
    print(json.dumps({"echo": echo.object_id}))

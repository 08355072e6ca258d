"""A function whose module fails where it runs."""

import modal

app = modal.App("broken")

if not modal.is_local():
    raise RuntimeError("this module does not work there")


@app.function()
def f():
    return 1


@app.local_entrypoint()
def main():
    try:
        f.remote()
    except RuntimeError as error:
        print("it said:", error)

"""Served while it is edited."""

import modal

app = modal.App("served")

VERSION = 1


@app.function(min_containers=1)
def tell():
    return VERSION


if not modal.is_local():
    print(f"version {VERSION} is here", flush=True)

"""An app that takes its time."""

import time

import modal

app = modal.App("detached")


@app.function()
def wait():
    print("waiting")
    time.sleep(600)


@app.local_entrypoint()
def main():
    wait.remote()

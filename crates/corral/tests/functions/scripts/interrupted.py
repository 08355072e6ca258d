"""Runs until someone presses Ctrl-C, or for a while after its client has gone."""

import time

import modal

app = modal.App("interrupted")


@app.function()
def work(seconds: int = 600):
    print("at work", flush=True)
    for _ in range(seconds):
        time.sleep(1)
    print("work is done", flush=True)


@app.local_entrypoint()
def main(seconds: int = 600):
    work.remote(seconds)


@app.local_entrypoint()
def spawned(seconds: int = 3):
    work.spawn(seconds)

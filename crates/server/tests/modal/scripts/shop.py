"""An app that is deployed: what `ask_shop.py` looks up."""

import os
import time

import modal

app = modal.App("shop")


@app.function(secrets=[modal.Secret.from_dict({"GREETING": "good day"})])
def greet(name: str) -> str:
    return f"{os.environ['GREETING']}, {name}"


@app.function()
def size(data: bytes) -> bytes:
    return data * 2


@app.function()
def fail(kind: str):
    raise ValueError(f"a {kind} mistake")


attempts = 0


@app.function(retries=modal.Retries(max_retries=3, initial_delay=0.1, backoff_coefficient=1.0))
def at_last(n: int) -> int:
    global attempts
    attempts += 1
    if attempts < n:
        raise RuntimeError("not yet")
    return attempts


@app.function()
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.function(timeout=1, startup_timeout=60)
def too_slow():
    time.sleep(30)


@app.function()
@modal.batched(max_batch_size=4, wait_ms=500)
def batch(xs: list[int]) -> list[str]:
    return [f"{x} of {len(xs)}" for x in xs]


@app.function()
@modal.concurrent(max_inputs=8)
async def together(seconds: float) -> float:
    import asyncio

    began = time.time()
    await asyncio.sleep(seconds)
    return began


@app.function()
def ask_other(name: str) -> str:
    return greet.remote(name) + "!"


@app.cls()
class Counter:
    start: int = modal.parameter(default=10)

    @modal.enter()
    def enter(self):
        self.value = self.start
        print("entered", self.start)

    @modal.method()
    def add(self, n: int) -> int:
        self.value += n
        return self.value

    @modal.method()
    def upto(self, n: int):
        for i in range(n):
            yield self.start + i

    @modal.exit()
    def leave(self):
        print("left", self.value)

"""A first app: a function, entry points with arguments, and logs while it runs."""

import sys
import time

import modal

app = modal.App("hello")


@app.function()
def greet(name: str, excited: bool = False) -> str:
    print(f"greeting {name}")
    print("a line on standard error", file=sys.stderr)
    return f"Hello, {name}{'!' if excited else '.'}"


@app.function()
def patient():
    print("a line while it runs")
    time.sleep(2)


@app.local_entrypoint()
def main(name: str = "world", times: int = 1, excited: bool = False):
    from proof import part

    with part("arguments"):
        assert [greet.remote(name, excited) for _ in range(times)] == ["Hello, Ada!"] * 2
    with part("local"):
        assert greet.local("Ada") == "Hello, Ada."


@app.local_entrypoint()
def live():
    patient.remote()
    print("after the call")

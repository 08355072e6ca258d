"""An app as people wrote it for clients of 2024."""

import modal

app = modal.App("old")


@app.function(keep_warm=1, concurrency_limit=2, container_idle_timeout=30)
def double(x: int) -> int:
    return 2 * x


@app.local_entrypoint()
def main():
    assert double.remote(4) == 8
    assert list(double.map([1, 2, 3])) == [2, 4, 6]
    assert double.spawn(5).get() == 10
    print("the old one is well")

"""An app without anything that differs between clients."""

import modal

app = modal.App("plain")


@app.function(min_containers=1)
def double(x: int) -> int:
    return 2 * x


@app.local_entrypoint()
def main():
    assert double.remote(4) == 8
    assert list(double.map([1, 2, 3])) == [2, 4, 6]
    print("the plain one is well")

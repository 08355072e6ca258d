"""An app with a function, a generator and a way to start them."""

import modal

app = modal.App("hello")


@app.function()
def square(x: int) -> int:
    print("squaring", x)
    return x * x


@app.function()
def count(n: int):
    for i in range(n):
        yield i


@app.local_entrypoint()
def main():
    assert square.remote(7) == 49
    assert list(square.map(range(60))) == [x * x for x in range(60)]
    call = square.spawn(9)
    assert call.get() == 81
    assert list(count.remote_gen(5)) == [0, 1, 2, 3, 4]
    print("all is well")

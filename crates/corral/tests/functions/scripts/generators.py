"""Functions that yield."""

import asyncio

import modal

app = modal.App("generators")


@app.function()
def count(to: int, fail_at: int = -1):
    for number in range(to):
        if number == fail_at:
            raise RuntimeError(f"no {number}")
        yield number


@app.function()
async def letters(text: str):
    for letter in text:
        await asyncio.sleep(0.01)
        yield letter


@app.local_entrypoint()
def main():
    from proof import part, raises

    with part("generator"):
        assert list(count.remote_gen(1000)) == list(range(1000))
        assert list(count.remote_gen(0)) == []
    with part("generator raises"):
        seen = []
        with raises(RuntimeError, containing="no 3"):
            for number in count.remote_gen(5, fail_at=3):
                seen.append(number)
        # What was yielded just before may be overtaken by the exception.
        assert seen == [0, 1, 2][: len(seen)]
    with part("async generator"):
        assert "".join(letters.remote_gen("corral")) == "corral"
        asyncio.run(asynchronously())


async def asynchronously():
    assert [letter async for letter in letters.remote_gen.aio("abc")] == ["a", "b", "c"]

"""Functions that call functions: of their own app, and of others by name."""

import modal

app = modal.App("inside")


@app.function(max_containers=1)
def leaf(x: int) -> int:
    return x + 1


@app.function()
def branch(x: int):
    spawned = leaf.spawn(x)
    mapped = list(leaf.map(range(3)))
    return leaf.remote(x), spawned.get(), mapped, list(grow.remote_gen(3))


@app.function()
async def branch_async(x: int):
    return await leaf.remote.aio(x), [y async for y in leaf.map.aio(range(3))]


@app.function()
def grow(to: int):
    yield from range(to)


@app.function()
def fails_below():
    broken.remote()


@app.function(max_containers=1)
def broken():
    raise KeyError("a leaf")


@app.cls()
class Tree:
    height: int = modal.parameter(default=1)

    @modal.method()
    def top(self) -> int:
        return leaf.remote(self.height)


@app.function()
def by_name():
    shout = modal.Function.from_name("library", "shout")
    Shelf = modal.Cls.from_name("library", "Shelf")
    return shout.remote("abc"), Shelf(label="inside").add.remote("x")


@app.function()
def ids():
    return modal.current_input_id(), modal.current_function_call_id(), modal.is_local()


@app.local_entrypoint()
def main():
    from proof import part, raises

    with part("calls from a function"):
        assert branch.remote(1) == (2, 2, [1, 2, 3], [0, 1, 2])
    with part("calls from an async function"):
        assert branch_async.remote(1) == (2, [1, 2, 3])
    with part("calls from a method"):
        assert Tree(height=4).top.remote() == 5
    with part("exception from a call inside"):
        with raises(KeyError, containing="a leaf"):
            fails_below.remote()
    with part("calls to another app"):
        assert by_name.remote() == ("ABC", ["inside", "x"])
    with part("who am I"):
        input_id, call_id, local = ids.remote()
        assert input_id.startswith("in-") and call_id.startswith("fc-") and not local

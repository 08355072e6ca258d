"""Every way to call a function."""

import asyncio
import time

import modal

app = modal.App("calls")


@app.function(max_containers=2)
def square(x: int, offset: int = 0) -> int:
    return x * x + offset


@app.function(max_containers=2)
def add(a, b):
    if b < 0:
        raise ValueError(f"{b} is less than nothing")
    return a + b


@app.function(max_containers=1)
def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.function(max_containers=1)
async def later(x):
    await asyncio.sleep(0.01)
    return x + 1


@app.cls(max_containers=1)
class Tally:
    @modal.enter()
    def begin(self):
        self.seen = []

    @modal.method()
    def note(self, x):
        self.seen.append(x)

    @modal.method()
    def all(self):
        return sorted(self.seen)


@app.local_entrypoint()
def main():
    from proof import part, raises

    with part("remote"):
        assert square.remote(7) == 49
        assert square.remote(7, offset=1) == 50
    with part("map"):
        assert list(square.map(range(100))) == [x * x for x in range(100)]
        assert list(square.map([1, 2], kwargs={"offset": 5})) == [6, 9]
        assert list(square.map([])) == []
    with part("map unordered"):
        assert sorted(square.map(range(30), order_outputs=False)) == [x * x for x in range(30)]
    with part("starmap"):
        assert list(add.starmap([(1, 2), (3, 4)])) == [3, 7]
    with part("for_each"):
        add.for_each([1, 2], [3, 4])
    with part("return_exceptions"):
        results = list(add.starmap([(1, 2), (1, -2)], return_exceptions=True))
        assert results[0] == 3
        assert isinstance(results[1], Exception) and "less than nothing" in repr(results[1])
    with part("map raises"):
        with raises(ValueError, containing="less than nothing"):
            list(add.starmap([(1, 2), (1, -2)]))
    with part("spawn"):
        call = square.spawn(9)
        assert call.object_id.startswith("fc-")
        assert call.get() == 81
        assert call.get(timeout=5) == 81, "a result can be read again"
    with part("get timeout"):
        call = slow.spawn(3)
        with raises(TimeoutError, modal.exception.TimeoutError):
            call.get(timeout=0)
        with raises(TimeoutError, modal.exception.TimeoutError):
            call.get(timeout=0.5)
        assert call.get(timeout=30) == 3
    with part("from_id"):
        call = square.spawn(11)
        assert modal.FunctionCall.from_id(call.object_id).get(timeout=30) == 121
    with part("gather"):
        gather = modal.FunctionCall.gather
        assert list(gather(square.spawn(2), add.spawn(1, 1))) == [4, 2]
    with part("async"):
        asyncio.run(asynchronously())


@app.local_entrypoint()
def spawned():
    from proof import part, wait_until

    with part("spawn_map"):
        tally = Tally()
        tally.note.spawn_map(range(10))
        wait_until(lambda: tally.all.remote() == list(range(10)), "ten spawned inputs")
    with part("results of spawned inputs"):
        call = square.experimental_spawn_map(range(5))
        assert sorted(call.iter()) == [0, 1, 4, 9, 16]


async def asynchronously():
    assert await later.remote.aio(1) == 2
    assert [x async for x in later.map.aio(range(5))] == [1, 2, 3, 4, 5]
    assert await asyncio.gather(*(later.remote.aio(x) for x in range(5))) == [1, 2, 3, 4, 5]
    call = await later.spawn.aio(10)
    assert await call.get.aio() == 11

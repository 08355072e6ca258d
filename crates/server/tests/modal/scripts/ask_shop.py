"""Looks up what `shop.py` deployed, and calls it in every way."""

import asyncio
import time

import modal

greet = modal.Function.from_name("shop", "greet")
assert greet.remote("Ada") == "good day, Ada"
assert modal.Function.from_name("shop", "ask_other").remote("Bob") == "good day, Bob!"

# Results of any size.
size = modal.Function.from_name("shop", "size")
for n in [0, 1, 20_000, 3_000_000, 12_000_000]:
    data = b"x" * n
    assert size.remote(data) == data * 2, n

# Exceptions come as themselves, with where they were raised.
fail = modal.Function.from_name("shop", "fail")
try:
    fail.remote("small")
    raise AssertionError("it did not fail")
except ValueError as error:
    assert str(error) == "a small mistake"
results = list(fail.map(["a", "b"], return_exceptions=True))
assert [str(error) for error in results] == ["a a mistake", "a b mistake"], results

# Retries and timeouts.
assert modal.Function.from_name("shop", "at_last").remote(3) == 3
try:
    modal.Function.from_name("shop", "too_slow").remote()
    raise AssertionError("it was not too slow")
except modal.exception.FunctionTimeoutError:
    pass

# Spawned, and fetched by its id.
sleep = modal.Function.from_name("shop", "sleep")
call = sleep.spawn(1.0)
try:
    call.get(timeout=0)
    raise AssertionError("it was too fast")
except TimeoutError:
    pass
again = modal.FunctionCall.from_id(call.object_id)
assert again.get(timeout=30) == 1.0
assert modal.FunctionCall.gather(sleep.spawn(0.1), sleep.spawn(0.2)) == [0.1, 0.2]

# Cancelled.
call = sleep.spawn(60)
time.sleep(1)
call.cancel()
try:
    call.get(timeout=30)
    raise AssertionError("it was not cancelled")
except modal.exception.InputCancellation:
    pass
except modal.exception.RemoteError:
    pass

# Maps: in order, without order, with several arguments.
assert list(sleep.map([0.2, 0.1, 0.0])) == [0.2, 0.1, 0.0]
assert sorted(sleep.map([0.2, 0.1, 0.0], order_outputs=False)) == [0.0, 0.1, 0.2]
assert list(greet.starmap([("a",), ("b",)])) == ["good day, a", "good day, b"]
sleep.for_each([0.0, 0.0])

# Batches, and inputs that share a container.
answers = list(modal.Function.from_name("shop", "batch").map(range(8)))
assert [answer.split()[0] for answer in answers] == [str(n) for n in range(8)], answers
assert any(answer.endswith("of 4") for answer in answers), answers
begins = list(modal.Function.from_name("shop", "together").map([1.0] * 4))
assert max(begins) - min(begins) < 0.9, begins

# A class, with and without parameters and options.
Counter = modal.Cls.from_name("shop", "Counter")
assert Counter().add.remote(1) == 11
assert Counter(start=100).add.remote(5) == 105
assert list(Counter(start=3).upto.remote_gen(3)) == [3, 4, 5]
assert Counter.with_options(timeout=50, max_containers=1)(start=7).add.remote(1) == 8


async def main():
    assert await greet.remote.aio("Eve") == "good day, Eve"
    found = [x async for x in sleep.map.aio([0.0, 0.1])]
    assert found == [0.0, 0.1]


asyncio.run(main())
stats = greet.get_current_stats()
assert stats.backlog == 0, stats
print("the shop is fine")

"""How many containers there are, and what each of them takes at once."""

import os
import time

import modal

app = modal.App("scaling")


def container() -> str:
    return os.environ["MODAL_TASK_ID"]


@app.function(max_containers=1)
@modal.concurrent(max_inputs=8)
def at_once(number: int):
    time.sleep(1)
    return container()


@app.function(max_containers=1)
@modal.concurrent(max_inputs=8)
async def at_once_async(number: int):
    import asyncio

    await asyncio.sleep(1)
    return container()


@app.function(max_containers=1)
@modal.batched(max_batch_size=4, wait_ms=500)
def double(numbers: list):
    return [(number * 2, len(numbers)) for number in numbers]


@app.function(max_containers=2)
def one_of_two(number: int):
    time.sleep(0.2)
    return container()


@app.function(min_containers=1)
def kept():
    return container()


@app.function(scaledown_window=2)
def brief():
    return container()


@app.local_entrypoint()
def main():
    from proof import part, wait_until

    with part("concurrent"):
        at_once.remote(0)
        for function in (at_once, at_once_async):
            function.remote(0)
            begin = time.monotonic()
            assert len(set(function.map(range(8)))) == 1, "one container"
            took = time.monotonic() - begin
            assert took < 4, f"eight inputs of 1 s took {took:.1f} s"
    with part("batched"):
        results = list(double.map(range(8)))
        assert [number for number, _ in results] == [2 * number for number in range(8)]
        sizes = {size for _, size in results}
        assert max(sizes) > 1 and max(sizes) <= 4, f"batches of {sizes}"
    with part("max_containers"):
        assert 1 <= len(set(one_of_two.map(range(20)))) <= 2
    with part("min_containers"):
        running = lambda function: function.get_current_stats().num_total_runners
        wait_until(lambda: running(kept) == 1, "a container without a call")
    with part("scaledown_window"):
        brief.remote()
        wait_until(lambda: running(brief) == 0, "the container's end")


@app.function(single_use_containers=True) if modal.__version__ >= "1.3" else lambda function: function
def once():
    return container()


@app.local_entrypoint()
def newest():
    from proof import part, wait_until

    with part("single_use_containers"):
        assert len({once.remote() for _ in range(3)}) == 3
    with part("update_autoscaler"):
        running = lambda: brief.get_current_stats().num_total_runners
        assert running() == 0
        brief.update_autoscaler(min_containers=1)
        wait_until(lambda: running() == 1, "the container that is kept now")
    with part("with_options of a function"):
        assert brief.with_options(timeout=30).remote().startswith("ta-")

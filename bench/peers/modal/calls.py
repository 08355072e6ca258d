"""Calls of the official client, timed by itself: prints one JSON object.

    python calls.py REMOTES MAPPED SPAWNS
"""

import json
import os
import sys
import time

import modal

app = modal.App("bench-calls")


@app.function(min_containers=1, max_containers=1, timeout=3600)
def one(value=None):
    return value


@app.function(min_containers=2, max_containers=2, timeout=3600)
def two(value):
    if value is None:
        time.sleep(0.05)
        return os.environ["MODAL_TASK_ID"]
    return value


# The number of calls before those that are timed.
WARM_CALLS = 100
READY_S = 300


def wait_for_two():
    """Until both containers take inputs."""
    until = time.monotonic() + READY_S
    while len(set(two.map([None] * 8))) < 2:
        if time.monotonic() > until:
            raise SystemExit(f"two containers were not ready within {READY_S} s")


def remote_ms(count):
    times_ms = []
    for number in range(WARM_CALLS + count):
        begun = time.perf_counter()
        answer = one.remote(number)
        times_ms.append((time.perf_counter() - begun) * 1000)
        assert answer == number, (answer, number)
    return times_ms[WARM_CALLS:]


def mapped_s(count):
    assert list(two.map(range(WARM_CALLS))) == list(range(WARM_CALLS))
    begun = time.perf_counter()
    answers = list(two.map(range(count)))
    took = time.perf_counter() - begun
    assert answers == list(range(count))
    return took


def spawned_s(count):
    begun = time.perf_counter()
    calls = [one.spawn(number) for number in range(count)]
    took = time.perf_counter() - begun
    for number, call in list(enumerate(calls))[:: max(1, count // 20)]:
        assert call.get(timeout=60) == number
    return took


def main():
    remotes, mapped, spawns = map(int, sys.argv[1:])
    with app.run():
        wait_for_two()
        print(
            json.dumps(
                {
                    "remote_ms": remote_ms(remotes),
                    "mapped_s": mapped_s(mapped),
                    "spawned_s": spawned_s(spawns),
                }
            )
        )


if __name__ == "__main__":
    main()

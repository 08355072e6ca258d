"""What callers see when a function fails, hangs, is cancelled or is tried again."""

import os
import sys
import time
import traceback

import modal

app = modal.App("failures")

CANCELLED = (modal.exception.RemoteError, modal.exception.InputCancellation)


class OutOfStock(Exception):
    pass


class Stubborn(Exception):
    """Cannot be brought over the wire."""

    def __reduce__(self):
        raise TypeError("stays where it is")


@app.function(max_containers=1)
def fail(how: str):
    if how == "stubborn":
        raise Stubborn("an exception that stays")
    if how == "exit":
        os._exit(3)
    look_up({"a": 1}, how)


def look_up(shelf, name):
    if name not in shelf:
        raise OutOfStock(f"no {name} on the shelf")


@app.function(max_containers=1)
def container_after(seconds: float) -> str:
    time.sleep(seconds)
    return os.environ["MODAL_TASK_ID"]


@app.function(timeout=2, max_containers=1)
def too_slow():
    time.sleep(60)


tries = []


@app.function(
    retries=modal.Retries(max_retries=3, initial_delay=1.0, backoff_coefficient=2.0),
    max_containers=1,
)
def third_time_lucky():
    tries.append(time.time())
    if len(tries) < 3:
        raise ConnectionError("not yet")
    return tries


@app.function(retries=1, max_containers=1)
def never():
    raise ConnectionError("not ever")


@app.local_entrypoint()
def main():
    from proof import part, raises

    with part("exception"):
        try:
            fail.remote("pear")
            raise AssertionError("nothing was raised")
        except OutOfStock as error:
            assert str(error) == "no pear on the shelf"
            frames = "".join(traceback.format_exception(*sys.exc_info()))
            assert "look_up" in frames, f"no remote frame in {frames}"
    with part("exception that cannot travel"):
        with raises(modal.exception.Error, containing="stays"):
            fail.remote("stubborn")
    with part("exit"):
        with raises(modal.exception.Error, containing="3"):
            fail.remote("exit")
        with raises(OutOfStock):
            fail.remote("a container after the one that ended")
    with part("timeout"):
        begin = time.monotonic()
        with raises(modal.exception.FunctionTimeoutError):
            too_slow.remote()
        assert time.monotonic() - begin < 20
    with part("retries"):
        first, second, third = third_time_lucky.remote()
        assert 0.9 < second - first < 1.9, f"{second - first} s before the first retry"
        assert 1.9 < third - second < 3.5, f"{third - second} s before the second retry"
        with raises(ConnectionError, containing="not ever"):
            never.remote()
    with part("cancel"):
        container = container_after.remote(0)
        call = container_after.spawn(300)
        with raises(TimeoutError, modal.exception.TimeoutError):
            call.get(timeout=1)
        call.cancel()
        with raises(*CANCELLED):
            call.get(timeout=20)
        assert container_after.remote(0) == container, "the container lives on"
    with part("cancel and end"):
        call = container_after.spawn(300)
        with raises(TimeoutError, modal.exception.TimeoutError):
            call.get(timeout=1)
        call.cancel(terminate_containers=True)
        with raises(*CANCELLED):
            call.get(timeout=20)
        assert container_after.remote(0) != container, "another container answers"

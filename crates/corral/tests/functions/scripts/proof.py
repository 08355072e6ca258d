"""Says of each part of the surface whether it worked, on a line of its own.

Imported where the client runs, never in a container.
"""

import contextlib
import signal
import time
import traceback

# A part that says nothing for this long is given up, so that those after it are tried as well.
PART_LIMIT_S = 60


class NoAnswer(Exception):
    pass


def _give_up(_signal, _frame):
    raise NoAnswer(f"no answer within {PART_LIMIT_S} s")


@contextlib.contextmanager
def part(name):
    """`works: NAME`, or `fails: NAME: WHY`."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(PART_LIMIT_S)
    begin = time.monotonic()
    try:
        yield
    except Exception as error:
        signal.alarm(0)
        traceback.print_exc()
        said = " ".join(str(error).split()) or traceback.extract_tb(error.__traceback__)[-1].line
        print(f"fails: {name}: {type(error).__name__}: {said}", flush=True)
    else:
        signal.alarm(0)
        print(f"works: {name} ({time.monotonic() - begin:.1f} s)", flush=True)


@contextlib.contextmanager
def raises(*kinds, containing=""):
    """The body must raise one of `kinds`, with `containing` in what it says."""
    try:
        yield
    except kinds as error:
        assert containing in str(error), f"{containing!r} is not in {str(error)!r}"
    else:
        raise AssertionError(f"nothing was raised; {[kind.__name__ for kind in kinds]} was expected")


def wait_until(condition, what, limit_s=40):
    """Asks again and again until `condition` holds."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < limit_s, f"waited {limit_s} s for {what}"
        time.sleep(0.2)

"""Lengths of time and sizes as people write them, into the API's units."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TypeAlias

from .errors import InvalidError

Duration: TypeAlias = "int | float | str | timedelta"
Size: TypeAlias = "int | str"

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_BYTES = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Zµ]*)\s*")


def seconds(value: Duration) -> int:
    """Whole seconds, at least one, from a number of them, a `timedelta`, or `90s`, `5m`, `2h`."""
    return max(1, round(_seconds(value)))


def microseconds(value: Duration) -> int:
    """Whole microseconds, at least one, from seconds, a `timedelta`, or `0.5ms`."""
    return max(1, round(_seconds(value) * 1e6))


def _seconds(value: Duration) -> float:
    if isinstance(value, timedelta):
        length = value.total_seconds()
    elif isinstance(value, str):
        found = _NUMBER_AND_UNIT.fullmatch(value)
        unit = _SECONDS.get((found[2] or "s").replace("µ", "u")) if found else None
        length = float(found[1]) * unit if found and unit else 0.0
    else:
        length = float(value)
    if not 0 < length < 1e9:
        raise InvalidError(
            f"{value!r} is not a length of time",
            hint="give a number of seconds, a timedelta, or a text such as 90s, 5m or 2h",
        )
    return length


def size_bytes(value: Size) -> int:
    """Bytes from a number of them, or `512MiB`."""
    if isinstance(value, int):
        return value
    found = _NUMBER_AND_UNIT.fullmatch(value)
    unit = _BYTES.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise InvalidError(
            f"{value!r} is not a size", hint="give a number of bytes, or a text such as 512MiB"
        )
    return int(float(found[1]) * unit)


def display_bytes(count: float) -> str:
    """A size for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def display_seconds(length: float) -> str:
    """Seconds, or minutes where there are several: nobody waits by the second for those."""
    return f"{length:.0f} s" if length < 100 else f"{length / 60:.0f} min"

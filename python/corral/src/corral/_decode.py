"""JSON answers as dataclasses.

Unknown fields are ignored, since the server's shapes change by addition; a field that is absent
takes the dataclass's default.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from datetime import datetime
from typing import Any, TypeVar

from .errors import InternalError

T = TypeVar("T")


def decode(shape: type[T], value: object) -> T:
    """`value` as an instance of the dataclass `shape`, its fields read by their types."""
    return typing.cast(T, _read(shape, value, shape.__name__))


def _read(shape: Any, value: Any, at: str) -> Any:
    origin = typing.get_origin(shape)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        inner = next(part for part in typing.get_args(shape) if part is not type(None))
        return _read(inner, value, at)
    if origin is list:
        (item,) = typing.get_args(shape)
        return [_read(item, entry, at) for entry in _expect(list, value, at)]
    if origin is dict:
        _, item = typing.get_args(shape)
        fields = _expect(dict, value, at)
        return {key: _read(item, entry, f"{at}.{key}") for key, entry in fields.items()}
    if dataclasses.is_dataclass(shape):
        return _read_record(shape, _expect(dict, value, at), at)
    if shape is datetime:
        return parse_time(_expect(str, value, at))
    if shape is float:
        return float(_expect((int, float), value, at))
    if shape in (str, int, bool):
        return _expect(shape, value, at)
    return value


def _read_record(shape: Any, fields: dict[str, Any], at: str) -> Any:
    wanted = _field_types(shape)
    # A field whose name is a word of Python's ends with `_`.
    given = {name: name.removesuffix("_") for name in wanted}
    read = {
        name: _read(kind, fields[given[name]], f"{at}.{name}")
        for name, kind in wanted.items()
        if given[name] in fields
    }
    try:
        return shape(**read)
    except TypeError as error:
        raise InternalError(
            f"the server's answer lacks something of {at}",
            causes=[str(error)],
            hint="the server may be older than this package",
        ) from None


@functools.cache
def _field_types(shape: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(shape)
    return {field.name: hints[field.name] for field in dataclasses.fields(shape)}


def _expect(kind: Any, value: Any, at: str) -> Any:
    if isinstance(value, kind):
        return value
    raise InternalError(
        f"the server's answer has {value!r} as {at}",
        hint="the server may be newer or older than this package",
    )


def parse_time(text: str) -> datetime:
    """A time as the API writes it (RFC 3339 in UTC)."""
    # Python 3.10 reads neither `Z` nor a fraction of other than 3 or 6 digits.
    text = re.sub(r"\.(\d{1,6})\d*", lambda found: f".{found[1]:0<6}", text)
    return datetime.fromisoformat(text.replace("Z", "+00:00"))

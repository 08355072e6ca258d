"""What all operations share: names with versions, lists, downloads."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from .._bodies import FileSink
from .._decode import decode
from .._exchange import Call, Operation, ask, ask_json
from ..errors import InvalidError

T = TypeVar("T")

# Entries of one page of a list: as many as the server gives.
PAGE_ENTRIES = 1000


class Referred(Protocol):
    """Something of a version that the server knows by a name."""

    @property
    def reference(self) -> str: ...


def reference(named: str | Referred) -> str:
    """`name` or `name@version` of a thing or of its name."""
    return named if isinstance(named, str) else named.reference


def name_and_version(named: str | Referred, version: int | None = None) -> tuple[str, int | None]:
    """A name and a version, from `name`, `name@3`, or a thing."""
    name, at, number = reference(named).partition("@")
    if not at:
        return name, version
    if not number.isdecimal():
        raise InvalidError(
            f"`{number}` after `@` is not a version number", hint=f"write it as in {name}@3"
        )
    if version is not None and version != int(number):
        raise InvalidError(f"`{name}@{number}` is not version {version}")
    return name, int(number)


def listed(shape: type[T], call: Call) -> Operation[list[T]]:
    """All entries of a list, page by page."""
    items: list[T] = []
    after: str | None = None
    while True:
        page = yield from ask_json(
            replace(call, query={**call.query, "after": after, "limit": PAGE_ENTRIES})
        )
        items.extend(decode(shape, item) for item in page["items"])
        after = page.get("next")
        if after is None:
            return items


def downloaded(call: Call, path: str | os.PathLike[str]) -> Operation[Path]:
    """The answer's bytes in a file, which appears whole or not at all."""
    sink = FileSink(path)
    try:
        yield from ask(replace(call, sink=sink))
        return sink.finish()
    finally:
        sink.discard()


def removed(call: Call) -> Operation[None]:
    """The thing is gone."""
    yield from ask(call)

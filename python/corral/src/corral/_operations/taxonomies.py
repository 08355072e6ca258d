"""`/v1/taxonomies`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .._bodies import file_body
from .._decode import decode
from .._exchange import Body, Call, Operation, ask_json, delete, get, json_body
from .._frames import FRAME_PACKAGES, frame_records
from ..errors import InvalidError
from ..tables import Table
from ..types import Class, Match, Taxonomy, TaxonomySummary
from .common import Referred, listed, name_and_version, removed


def create(name: str, classes: Any, levels: Iterable[int] | None) -> Operation[Taxonomy]:
    body, file_name = _body_of(classes)
    lengths = ",".join(map(str, levels)) if levels is not None else None
    path = ("v1", "taxonomies", name, "import")
    query = {"file_name": file_name, "levels": lengths}
    call = Call("POST", path, query, body=body, is_idempotent=False)
    return decode(Taxonomy, (yield from ask_json(call)))


def _body_of(classes: Any) -> tuple[Body, str]:
    if isinstance(classes, str | os.PathLike):
        return file_body(classes), Path(classes).name
    return json_body(class_entries(classes)), "classes.json"


def class_entries(classes: Any) -> list[Any]:
    """The classes as the list of names and objects that the server reads."""
    if type(classes).__module__.partition(".")[0] in FRAME_PACKAGES:
        return [_without_gaps(record) for record in frame_records(classes)]
    if isinstance(classes, Mapping):
        return [_named(str(name), below) for name, below in classes.items()]
    if not isinstance(classes, Iterable):
        raise InvalidError(
            f"a {type(classes).__name__} is not classes of a taxonomy",
            hint="give a file's path, a list or dict of classes, or a data frame",
        )
    return [
        _without_gaps(dataclasses.asdict(entry)) if isinstance(entry, Class) else entry
        for entry in classes
    ]


def _named(name: str, below: Any) -> dict[str, Any]:
    """A class of a dict: nothing, its description, or the classes below it."""
    if below is None or below == "":
        return {"name": name}
    if isinstance(below, str):
        return {"name": name, "description": below}
    return {"name": name, "children": class_entries(below)}


def _without_gaps(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value is not None and value != []}


def listing() -> Operation[Table[TaxonomySummary]]:
    return Table((yield from listed(TaxonomySummary, get("v1", "taxonomies"))))


def show(named: str | Referred, version: int | None) -> Operation[Taxonomy]:
    name, version = name_and_version(named, version)
    return decode(Taxonomy, (yield from ask_json(get("v1", "taxonomies", name, version=version))))


def match(name: str, dataset: str | Referred) -> Operation[Match]:
    set_name, version = name_and_version(dataset)
    call = get("v1", "taxonomies", name, "match", dataset=set_name, version=version)
    return decode(Match, (yield from ask_json(call)))


def remove(name: str) -> Operation[None]:
    return removed(delete("v1", "taxonomies", name))

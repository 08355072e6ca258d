"""What endpoints use, and what is kept of their requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from .._decode import decode
from .._exchange import Call, Operation, ask_json, creating, delete, get, json_body, put
from .._units import Duration, seconds, size_bytes
from ..options import DriftOptions, LogOptions, check_options
from ..tables import Table
from ..types import Dataset, Endpoint, ImportReport, Usage
from .endpoints import changed


def usage(
    endpoint: str | None, since: Duration, by: Literal["hour", "day", "total"]
) -> Operation[Table[Usage]]:
    call = get("v1", "usage", endpoint=endpoint, since_seconds=seconds(since), by=by)
    answer = yield from ask_json(call)
    # `from` is no name that a field can have.
    items = [{**used, "start": used.get("from")} for used in answer["items"]]
    return Table([decode(Usage, used) for used in items])


def keep_log(name: str, options: LogOptions) -> Operation[Endpoint]:
    check_options(options, LogOptions.__annotations__, "a log")
    body: dict[str, object] = {"sample": 1.0, **options}
    if "max_size" in options:
        del body["max_size"]
        body["max_bytes"] = size_bytes(options["max_size"])
    return changed(put("v1", "endpoints", name, "log", json=body))


def remove_log(name: str) -> Operation[Endpoint]:
    return changed(delete("v1", "endpoints", name, "log"))


def log_dataset(
    name: str, dataset: str, label: Literal["answer"] | None, append: bool
) -> Operation[Dataset]:
    body: dict[str, object] = {"dataset": dataset, "append": append}
    body |= {} if label is None else {"label": label}
    call = Call("POST", ("v1", "endpoints", name, "log", "dataset"), body=json_body(body))
    answer = yield from ask_json(creating(call))
    made = decode(Dataset, answer["dataset"])
    return replace(made, report=decode(ImportReport, answer["report"]))


def watch_drift(name: str, options: DriftOptions) -> Operation[Endpoint]:
    check_options(options, DriftOptions.__annotations__, "a watch for drift")
    return changed(put("v1", "endpoints", name, "drift", json=dict(options)))


def ignore_drift(name: str) -> Operation[Endpoint]:
    return changed(delete("v1", "endpoints", name, "drift"))

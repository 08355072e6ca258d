"""`/v1/train` and `/v1/jobs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._decode import decode
from .._exchange import Call, Operation, ask_json, creating, get, json_body
from .._units import microseconds, seconds, size_bytes
from ..options import TrainOptions, check_options
from ..tables import Runs, Table
from ..types import JobDetail, LogLine, Run
from .common import Referred, listed, reference

# The options whose field in the API names its unit.
_WITH_UNITS: dict[str, tuple[str, Callable[[Any], int]]] = {
    "budget": ("budget_seconds", seconds),
    "stop_after": ("stop_after_seconds", seconds),
    "time_limit": ("time_limit_seconds", seconds),
    "max_latency": ("max_latency_us", microseconds),
    "memory": ("memory_bytes", size_bytes),
    "model_size": ("model_bytes", size_bytes),
}


def train(
    model: str,
    dataset: str | Referred | None,
    taxonomy: str | Referred | None,
    options: TrainOptions,
) -> Operation[JobDetail]:
    call = Call(
        "POST", ("v1", "train"), body=json_body(train_body(model, dataset, taxonomy, options))
    )
    return decode(JobDetail, (yield from ask_json(creating(call))))


def train_body(
    model: str,
    dataset: str | Referred | None,
    taxonomy: str | Referred | None,
    options: TrainOptions,
) -> dict[str, Any]:
    """The request as the API has it."""
    check_options(options, TrainOptions.__annotations__, "a training")
    body: dict[str, Any] = {"model": model}
    if dataset is not None:
        body["dataset"] = reference(dataset)
    if taxonomy is not None:
        body["taxonomy"] = reference(taxonomy)
    given: dict[str, Any] = dict(options)
    for name, value in given.items():
        if value is None:
            continue
        field, convert = _WITH_UNITS.get(name, (name, None))
        body[field] = value if convert is None else convert(value)
    return body


def listing(state: str | None) -> Operation[Table[JobDetail]]:
    return Table((yield from listed(JobDetail, get("v1", "jobs", state=state))))


def end(job: str, how: str) -> Operation[JobDetail]:
    """Ends a job: `cancel` drops what it has, `finish` keeps it."""
    # A job that is told twice to end has ended once.
    call = Call("POST", ("v1", "jobs", job, how))
    return decode(JobDetail, (yield from ask_json(call)))


def logs(job: str) -> Operation[Table[LogLine]]:
    lines: list[LogLine] = []
    while True:
        after = lines[-1].number if lines else None
        page = yield from ask_json(get("v1", "jobs", job, "logs", after=after))
        found = [decode(LogLine, line) for line in page["lines"]]
        lines.extend(found)
        if not found:
            return Table(lines)


def runs(job: str) -> Operation[Runs]:
    return Runs((yield from listed(Run, get("v1", "jobs", job, "runs"))))

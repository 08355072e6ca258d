"""`/v1/train`, `/v1/predict` and `/v1/jobs`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._decode import decode
from .._exchange import Call, Operation, ask_json, creating, get, json_body
from .._units import microseconds, seconds, size_bytes
from ..options import BatchOptions, TrainOptions, check_options
from ..tables import Runs, Table
from ..types import JobDetail, LogLine, Run
from .common import Referred, downloaded, listed, reference

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
    return body | with_units(dict(options))


def with_units(options: dict[str, Any]) -> dict[str, Any]:
    """Options that are given, as the API names and counts them."""
    body: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        field, convert = _WITH_UNITS.get(name, (name, None))
        body[field] = value if convert is None else convert(value)
    return body


def batch(
    endpoint: str,
    dataset: str | Referred,
    to: str | None,
    file_format: str | None,
    options: BatchOptions,
) -> Operation[JobDetail]:
    check_options(options, BatchOptions.__annotations__, "a batch")
    body: dict[str, Any] = {"endpoint": endpoint, "dataset": reference(dataset)}
    if to is not None:
        body["to"] = to
    if file_format is not None:
        body["format"] = file_format
    call = Call("POST", ("v1", "predict"), body=json_body(body | with_units(dict(options))))
    return decode(JobDetail, (yield from ask_json(creating(call))))


def download(job: str, path: str | os.PathLike[str], output: str) -> Operation[Path]:
    return (yield from downloaded(get("v1", "jobs", job, "outputs", output), path))


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

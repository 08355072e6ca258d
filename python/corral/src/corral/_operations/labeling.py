"""`/v1/datasets/NAME/functions`, `/v1/datasets/NAME/labeling` and `/v1/label`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .._bodies import file_body
from .._decode import decode
from .._exchange import Body, Call, Operation, ask_json, creating, delete, get, json_body, put
from ..options import LabelOptions, TrainOptions, check_options
from ..tables import Table
from ..types import (
    FunctionChanges,
    FunctionList,
    FunctionTest,
    JobDetail,
    LabelingFunction,
    LabelingRow,
    LabelingStatistics,
    Suggestion,
)
from .common import Referred, name_and_version, reference, removed
from .jobs import train_body, with_units


def functions(dataset: str, version: int | None) -> Operation[FunctionList]:
    call = get("v1", "datasets", dataset, "functions", version=version)
    return decode(FunctionList, (yield from ask_json(call)))


def load_functions(dataset: str, source: Any, taxonomy: str | None) -> Operation[FunctionChanges]:
    call = Call("PUT", ("v1", "datasets", dataset, "functions"), body=_body_of(source, taxonomy))
    return decode(FunctionChanges, (yield from ask_json(call)))


def _body_of(source: Any, taxonomy: str | None) -> Body:
    if isinstance(source, str | os.PathLike):
        return file_body(source)
    definitions = [
        entry.definition if isinstance(entry, LabelingFunction) else dict(entry)
        for entry in source
    ]
    if taxonomy is None:
        return json_body(definitions)
    return json_body({"taxonomy": taxonomy, "functions": definitions})


def show_function(dataset: str, name: str, version: int | None) -> Operation[LabelingFunction]:
    call = get("v1", "datasets", dataset, "functions", name, version=version)
    return decode(LabelingFunction, (yield from ask_json(call)))


def put_function(dataset: str, name: str, fields: Mapping[str, Any]) -> Operation[FunctionChanges]:
    # What Python has no other word for: `class_`, `not_`, `all_`, `any_`.
    definition = {field.removesuffix("_"): value for field, value in fields.items()}
    call = put("v1", "datasets", dataset, "functions", name, json=definition)
    return decode(FunctionChanges, (yield from ask_json(call)))


def remove_function(dataset: str, name: str) -> Operation[None]:
    return removed(delete("v1", "datasets", dataset, "functions", name))


def statistics(named: str | Referred) -> Operation[LabelingStatistics]:
    dataset, version = name_and_version(named)
    at = dataset if version is None else f"{dataset}@{version}"
    return decode(
        LabelingStatistics, (yield from ask_json(get("v1", "datasets", at, "labeling")))
    )


def test_function(
    dataset: str, definition: Mapping[str, Any], limit: int
) -> Operation[FunctionTest]:
    body = json_body({"function": dict(definition), "limit": limit})
    call = Call("POST", ("v1", "datasets", dataset, "labeling", "test"), body=body)
    return decode(FunctionTest, (yield from ask_json(call)))


def rows(dataset: str, which: str, limit: int) -> Operation[Table[LabelingRow]]:
    call = get("v1", "datasets", dataset, "labeling", "rows", which=which, limit=limit)
    answer = yield from ask_json(call)
    return Table([decode(LabelingRow, row) for row in answer["rows"]])


def suggestions(dataset: str, limit: int) -> Operation[Table[Suggestion]]:
    call = get("v1", "datasets", dataset, "labeling", "suggestions", limit=limit)
    answer = yield from ask_json(call)
    return Table([decode(Suggestion, entry) for entry in answer["suggestions"]])


def label(
    dataset: str | Referred,
    to: str | None,
    train: str | None,
    options: LabelOptions,
    training: TrainOptions | None,
) -> Operation[JobDetail]:
    check_options(options, LabelOptions.__annotations__, "a labeling")
    body: dict[str, Any] = {"dataset": reference(dataset)} | with_units(dict(options))
    if to is not None:
        body["to"] = to
    if train is not None:
        body["train"] = train_body(train, None, None, training or {})
    call = Call("POST", ("v1", "label"), body=json_body(body))
    return decode(JobDetail, (yield from ask_json(creating(call))))

"""`/v1/models` and `/v1/encoders`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from .._bodies import file_body
from .._decode import decode
from .._exchange import Call, Operation, ask, ask_json, creating, delete, get, json_body
from ..errors import InvalidError
from ..report import Report
from ..tables import Table
from ..types import Encoder, Model, ModelSummary
from .common import Referred, downloaded, listed, name_and_version, removed


def listing(tag: str | None) -> Operation[Table[ModelSummary]]:
    return Table((yield from listed(ModelSummary, get("v1", "models", tag=tag))))


def show(named: str | Referred, version: int | None) -> Operation[Model]:
    name, version = name_and_version(named, version)
    return decode(Model, (yield from ask_json(get("v1", "models", name, version=version))))


def report(named: str | Referred, version: int | None) -> Operation[Report]:
    # Resolved first, so that both halves are of one version.
    model = yield from show(named, version)
    found = yield from ask_json(get("v1", "models", model.name, "report", version=model.version))
    page = yield from ask(get("v1", "models", model.name, "report.html", version=model.version))
    return Report(model.reference, found, page.content.decode("utf-8", "replace"))


def note(
    named: str | Referred,
    tags: Mapping[str, str | None],
    metrics: Mapping[str, float | None],
) -> Operation[Model]:
    name, version = name_and_version(named)
    body = json_body({"tags": dict(tags), "metrics": dict(metrics)})
    call = Call("PATCH", ("v1", "models", name, "notes"), {"version": version}, body=body)
    # Set twice, notes are what they are when set once.
    return decode(Model, (yield from ask_json(call)))


def export(
    named: str | Referred,
    path: str | os.PathLike[str] | None,
    file_format: Literal["corral", "onnx"],
) -> Operation[Path]:
    name, version = name_and_version(named)
    call = get("v1", "models", name, "export", version=version, format=file_format)
    return (yield from downloaded(call, path or f"{name}.{file_format}"))


def load(name: str, path: str | os.PathLike[str]) -> Operation[Model]:
    call = Call("POST", ("v1", "models", name, "import"), body=file_body(path))
    return decode(Model, (yield from ask_json(creating(call))))


def remove(named: str | Referred, version: int | None) -> Operation[None]:
    name, version = name_and_version(named, version)
    return (yield from removed(delete("v1", "models", name, version=version)))


def list_encoders() -> Operation[Table[Encoder]]:
    return Table((yield from listed(Encoder, get("v1", "encoders"))))


def install_encoder(path: str | os.PathLike[str]) -> Operation[Encoder]:
    if Path(path).suffix == ".whl":
        raise InvalidError(
            f"{os.fspath(path)} is a package, not a converted encoder",
            hint="`corral encoder install FILE.whl` converts and installs it; with `--output` "
            "it writes a file that can be given here",
        )
    call = Call("POST", ("v1", "encoders"), body=file_body(path))
    return decode(Encoder, (yield from ask_json(creating(call))))


def remove_encoder(name: str) -> Operation[None]:
    return removed(delete("v1", "encoders", name))

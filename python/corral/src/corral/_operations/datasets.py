"""`/v1/datasets`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .._bodies import Upload, form_body, uploads_of
from .._decode import decode
from .._exchange import Call, Operation, ask_json, creating, delete, get
from .._frames import export_format, frame_from_file
from ..options import ImportOptions, check_options
from ..tables import Table
from ..types import Dataset, DatasetSummary, ImportReport
from .common import Referred, downloaded, listed, name_and_version, removed


def load_rows(name: str, source: Any, mode: str, options: ImportOptions) -> Operation[Dataset]:
    check_options(options, ImportOptions.__annotations__, "an import")
    uploads = uploads_of(source)
    query = {**_import_query(options), "mode": mode}
    answer = yield from ask_json(creating(_import_call(name, uploads, query)))
    dataset = decode(Dataset, answer["dataset"])
    return replace(dataset, report=decode(ImportReport, answer["report"]))


def _import_query(options: ImportOptions) -> dict[str, object]:
    query: dict[str, object] = dict(options)
    draw = options.get("draw")
    if isinstance(draw, Mapping):
        query["draw"] = ",".join(f"{split}={share}" for split, share in draw.items())
    return query


def _import_call(name: str, uploads: list[Upload], query: dict[str, object]) -> Call:
    path = ("v1", "datasets", name, "import")
    if len(uploads) == 1 and uploads[0].split is None:
        # One file is read by the server as it comes; several are received first.
        (upload,) = uploads
        query = {"file_name": upload.file_name, "format": upload.format} | query
        return Call("POST", path, query, body=upload.body)
    return Call("POST", path, query, body=form_body(uploads))


def listing() -> Operation[Table[DatasetSummary]]:
    return Table((yield from listed(DatasetSummary, get("v1", "datasets"))))


def show(named: str | Referred, version: int | None) -> Operation[Dataset]:
    name, version = name_and_version(named, version)
    return decode(Dataset, (yield from ask_json(get("v1", "datasets", name, version=version))))


def head(named: str | Referred, limit: int) -> Operation[Table[dict[str, Any]]]:
    name, version = name_and_version(named)
    call = get("v1", "datasets", name, "rows", version=version, limit=limit)
    return Table((yield from ask_json(call))["rows"])


def export(
    named: str | Referred, path: str | os.PathLike[str], file_format: str | None
) -> Operation[Path]:
    name, version = name_and_version(named)
    file_format = file_format or Path(path).suffix.removeprefix(".") or "jsonl"
    call = get("v1", "datasets", name, "export", version=version, format=file_format)
    return (yield from downloaded(call, path))


def frame(named: str | Referred, package: str) -> Operation[Any]:
    """A version as a data frame of the package."""
    file_format = export_format(package)
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        path = yield from export(named, Path(folder) / f"rows.{file_format}", file_format)
        return frame_from_file(package, str(path), file_format)


def remove(name: str) -> Operation[None]:
    return removed(delete("v1", "datasets", name))

"""Rows on their way to the server, and data sets on their way back into data frames.

A frame is sent as Parquet where pyarrow is installed and as JSON lines elsewhere, block by
block, so that the copy takes bounded memory whatever the frame's size.
"""

from __future__ import annotations

import datetime
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from ._exchange import Body
from .errors import InvalidError
from .tables import missing

Rows: TypeAlias = Any
"""A pandas or polars frame, a pyarrow table, batch, reader or data set, or dicts, one a row."""


class Column(Protocol):
    """A column of a pandas or polars frame."""

    def to_list(self) -> list[Any]: ...


class ArrowColumn(Protocol):
    """A column of a pyarrow table."""

    def to_pylist(self) -> list[Any]: ...


Texts: TypeAlias = "list[str] | tuple[str, ...] | Iterator[str] | Column | ArrowColumn"
"""Several texts."""

# Rows of a frame that are converted at once: a few megabytes at the usual lengths of texts.
ROWS_PER_BLOCK = 16_384
# JSON lines are sent in blocks of about this size.
BLOCK_BYTES = 256 * 1024

FRAME_PACKAGES = ("pandas", "polars", "pyarrow")


def body_of_rows(rows: Rows, columns: Iterable[str] | None = None) -> tuple[Body, str]:
    """The body and the format, `parquet` or `jsonl`, by which rows are sent."""
    package = type(rows).__module__.partition(".")[0]
    if package not in FRAME_PACKAGES:
        return _body_of_records(rows), "jsonl"
    if package == "polars" and type(rows).__name__ == "LazyFrame":
        raise InvalidError("a polars LazyFrame has no rows yet", hint="send its `.collect()`")
    arrow = _pyarrow()
    if arrow is None:
        records = _pandas_records if package == "pandas" else _polars_records
        return Body(lambda: json_lines(records(rows))), "jsonl"
    can_reopen = type(rows).__name__ != "RecordBatchReader"
    schema, batches = _arrow_batches(arrow, package, rows)
    return Body(lambda: parquet_blocks(arrow, schema, batches()), can_reopen=can_reopen), "parquet"


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return None
    return pyarrow


def _body_of_records(rows: Any) -> Body:
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise InvalidError(
            f"a {type(rows).__name__} is not rows of a data set",
            hint="give a path, a pandas or polars frame, a pyarrow table, or dicts, one a row",
        )
    return Body(lambda: json_lines(rows), can_reopen=iter(rows) is not rows)


def _arrow_batches(arrow: Any, package: str, rows: Any) -> tuple[Any, Callable[[], Iterable[Any]]]:
    """The schema of a frame, and its rows as batches of bounded size."""
    if package == "pandas":
        return _pandas_batches(arrow, rows)
    if package == "polars":
        frame = rows.to_frame() if type(rows).__name__ == "Series" else rows
        schema = plain_schema(arrow, frame.head(0).to_arrow().schema)
        return schema, lambda: (
            batch
            for block in frame.iter_slices(ROWS_PER_BLOCK)
            for batch in block.to_arrow().cast(schema).to_batches()
        )
    if type(rows).__name__ == "Table":
        schema = plain_schema(arrow, rows.schema)
        return schema, lambda: (
            batch
            for at in range(0, rows.num_rows, ROWS_PER_BLOCK)
            for batch in rows.slice(at, ROWS_PER_BLOCK).cast(schema).to_batches()
        )
    if type(rows).__name__ == "RecordBatch":
        return _arrow_batches(arrow, package, arrow.Table.from_batches([rows]))
    schema = plain_schema(arrow, rows.schema)
    # A reader is one pass over batches; a data set gives as many as are asked for.
    batches = rows.to_batches if hasattr(rows, "to_batches") else lambda: rows
    return schema, lambda: (
        batch
        for found in batches()
        for batch in arrow.Table.from_batches([found]).cast(schema).to_batches(ROWS_PER_BLOCK)
    )


def _pandas_batches(arrow: Any, frame: Any) -> tuple[Any, Callable[[], Iterable[Any]]]:
    frame = frame.to_frame() if type(frame).__name__ == "Series" else frame
    frame = frame.rename(columns=str)

    def blocks() -> Iterator[Any]:
        for at in range(0, max(1, len(frame)), ROWS_PER_BLOCK):
            yield frame.iloc[at : at + ROWS_PER_BLOCK]

    # A column of objects shows its type only as it is converted: block by block, since a copy
    # of the whole column would take as much memory again.
    try:
        inferred = arrow.unify_schemas(
            [arrow.Schema.from_pandas(block, preserve_index=False) for block in blocks()],
            promote_options="permissive",
        )
    except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
        raise _mixed_column(error) from None
    schema = plain_schema(arrow, inferred)

    def batches() -> Iterator[Any]:
        for block in blocks():
            try:
                table = arrow.Table.from_pandas(block, schema=inferred, preserve_index=False)
            except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
                raise _mixed_column(error) from None
            yield from table.cast(schema).to_batches()

    return schema, batches


def _mixed_column(error: Exception) -> InvalidError:
    return InvalidError(
        "a column of the frame holds values of several types",
        causes=[str(cause) for cause in error.args],
        hint="make each column one type, such as by `frame[column].astype(str)`",
    )


def plain_schema(arrow: Any, schema: Any) -> Any:
    """The schema with categories and views as the values they stand for, without metadata."""

    def plain(kind: Any) -> Any:
        if arrow.types.is_dictionary(kind):
            return plain(kind.value_type)
        is_view = getattr(arrow.types, "is_string_view", None)
        if arrow.types.is_null(kind) or (is_view is not None and is_view(kind)):
            return arrow.large_string()
        return kind

    return arrow.schema([arrow.field(field.name, plain(field.type)) for field in schema])


class _Tap(io.RawIOBase):
    """A file that hands out what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        block = bytes(data)
        self._written.append(block)
        self._position += len(block)
        return len(block)

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        taken = b"".join(self._written)
        self._written.clear()
        return taken


def parquet_blocks(arrow: Any, schema: Any, batches: Iterable[Any]) -> Iterator[bytes]:
    """A Parquet file, a row group a batch."""
    tap = _Tap()
    with arrow.parquet.ParquetWriter(tap, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            if block := tap.take():
                yield block
    yield tap.take()


def json_lines(records: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """One JSON object a line, in blocks."""
    lines: list[bytes] = []
    size = 0
    for at, record in enumerate(records):
        try:
            text = json.dumps(_plain(record), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidError(f"write row {at} as JSON", causes=[str(error)]) from None
        lines.append(text.encode("utf-8", "surrogatepass") + b"\n")
        size += len(lines[-1])
        if size >= BLOCK_BYTES:
            yield b"".join(lines)
            lines, size = [], 0
    yield b"".join(lines)


def _plain(value: Any) -> Any:
    """The value in JSON's types; what is missing in a frame's way becomes `None`."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(entry) for entry in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return None if value != value else value.isoformat()
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return _plain(value.tolist())
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value


def _pandas_records(frame: Any) -> Iterator[dict[str, Any]]:
    frame = frame.to_frame() if type(frame).__name__ == "Series" else frame
    for at in range(0, len(frame), ROWS_PER_BLOCK):
        yield from frame.iloc[at : at + ROWS_PER_BLOCK].to_dict("records")


def _polars_records(frame: Any) -> Iterator[dict[str, Any]]:
    frame = frame.to_frame() if type(frame).__name__ == "Series" else frame
    yield from frame.iter_rows(named=True)


def frame_records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a small frame as dicts in JSON's types."""
    package = type(frame).__module__.partition(".")[0]
    if package == "pandas":
        rows = _pandas_records(frame)
    elif package == "polars":
        rows = _polars_records(frame)
    else:
        rows = iter(frame.to_pylist())
    return [_plain(row) for row in rows]


def texts_of(texts: Any) -> tuple[list[str], Any]:
    """A column of texts as a list, and the index of a pandas Series."""
    index = None
    package = type(texts).__module__.partition(".")[0]
    if package == "pandas":
        index = getattr(texts, "index", None)
    if package == "pyarrow":
        texts = texts.to_pylist()
    elif package in ("pandas", "polars", "numpy"):
        texts = texts.to_list() if hasattr(texts, "to_list") else texts.tolist()
    found = list(texts)
    for at, text in enumerate(found):
        if not isinstance(text, str):
            raise InvalidError(
                f"text {at} is {text!r}, a {type(text).__name__}",
                hint="every text must be a str; leave out or fill what is missing",
            )
    return found, index


def frame_from_file(package: str, path: str, file_format: str) -> Any:
    """A file that the server exported, as a frame of the package."""
    if package == "pyarrow":
        arrow = _pyarrow()
        if arrow is None:
            raise missing("pyarrow")
        return arrow.parquet.read_table(path)
    if package == "pandas":
        try:
            import pandas
        except ImportError:
            raise missing("pandas") from None
        if file_format == "parquet":
            return pandas.read_parquet(path)
        # Read here, since pandas would take texts that look like dates or numbers for these.
        with open(path, encoding="utf-8") as file:
            return pandas.DataFrame([json.loads(line) for line in file])
    try:
        import polars
    except ImportError:
        raise missing("polars") from None
    return polars.read_parquet(path)


def export_format(package: str) -> str:
    """The format in which the package reads what the server exports."""
    return "jsonl" if package == "pandas" and _pyarrow() is None else "parquet"

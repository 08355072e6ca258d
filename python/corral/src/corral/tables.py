"""Lists of answers that turn into data frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from .errors import UnsupportedError
from .types import Label, Prediction, Run

if TYPE_CHECKING:
    import pandas
    import polars

T = TypeVar("T")

# How many rows a notebook shows of a table.
SHOWN_ROWS = 20


class Table(Sequence[T], Generic[T]):
    """A list that also is a table: `to_pandas()`, `to_polars()`, `to_dicts()`."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = list(items)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self._items[index]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict a row, from column to value."""
        return [_fields(item) for item in self._items]

    def to_pandas(self) -> pandas.DataFrame:
        """A pandas data frame, one row an entry."""
        try:
            import pandas
        except ImportError:
            raise missing("pandas") from None
        return pandas.DataFrame(self._columns(), index=self._index())

    def to_polars(self) -> polars.DataFrame:
        """A polars data frame, one row an entry."""
        try:
            import polars
        except ImportError:
            raise missing("polars") from None
        return polars.DataFrame(self._columns(), strict=False)

    def _columns(self) -> dict[str, list[Any]]:
        rows = self.to_dicts()
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}

    def _index(self) -> Any:
        return None

    def _repr_html_(self) -> str:
        columns = self._columns()
        head = "".join(f"<th>{escape(name)}</th>" for name in columns)
        rows = [
            "".join(f"<td>{escape(str(values[at]))}</td>" for values in columns.values())
            for at in range(min(len(self), SHOWN_ROWS))
        ]
        more = f"<p>and {len(self) - SHOWN_ROWS} more</p>" if len(self) > SHOWN_ROWS else ""
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


class Runs(Table[Run]):
    """The trials of a search. As a data frame, parameters and metrics are columns, their names
    joined by dots, such as `learner.kind` and `accuracy`."""

    def to_dicts(self) -> list[dict[str, Any]]:
        rows = []
        for run in self:
            row = {"run": run.run, "name": run.name, "status": run.status}
            candidate = run.params.get("candidate")
            row.update(_flat(run.metrics))
            row.update(_flat(candidate if isinstance(candidate, Mapping) else run.params))
            rows.append(row)
        return rows


class Predictions(Table[Prediction]):
    """What a model says of many texts, in their order."""

    texts: list[str]
    """What was asked."""
    models: list[str]
    """Who answered, as `name@version`, or `fixed` where the endpoint answers everything the same.
    One, unless the endpoint was changed between two requests of a long list or splits them."""

    def __init__(
        self,
        predictions: Iterable[Prediction],
        *,
        texts: Sequence[str],
        models: Sequence[str],
        index: Any = None,
    ) -> None:
        super().__init__(predictions)
        self.texts = list(texts)
        self.models = list(models)
        self._given_index = index

    @property
    def labels(self) -> list[str | None]:
        """The most probable class of each text, by its id."""
        return [prediction.label for prediction in self]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict a text: `text`, `label`, `name`, `probability`, and with more than one class
        asked for `label_2`, …; `backed_off` and `refused` where the answers have them."""
        most = max((len(prediction.labels) for prediction in self), default=1)
        backs_off = any(prediction.backed_off for prediction in self)
        refuses = any(prediction.refusal for prediction in self)
        rows = []
        for text, prediction in zip(self.texts, self, strict=True):
            row: dict[str, Any] = {"text": text}
            for at in range(max(most, 1)):
                label = prediction.labels[at] if at < len(prediction.labels) else None
                row.update(_label_columns(label, "" if at == 0 else f"_{at + 1}"))
            if backs_off:
                back = prediction.backed_off
                row["backed_off"] = back.id if back else None
                row["backed_off_probability"] = back.probability if back else None
            if refuses:
                row["refused"] = prediction.refused
                row["refusal_score"] = prediction.refusal.score if prediction.refusal else None
            rows.append(row)
        return rows

    def _index(self) -> Any:
        return self._given_index


def missing(package: str) -> UnsupportedError:
    """The error where a package that is asked for is not installed."""
    return UnsupportedError(f"{package} is not installed here", hint=f"pip install {package}")


def _label_columns(label: Label | None, suffix: str) -> dict[str, Any]:
    return {
        f"label{suffix}": label.id if label else None,
        f"name{suffix}": label.name if label else None,
        f"probability{suffix}": label.probability if label else None,
    }


def _fields(item: object) -> dict[str, Any]:
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    if isinstance(item, dict):
        return item
    return {"value": item}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat

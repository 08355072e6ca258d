"""Data sets out of frames and files, and back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow
import pyarrow.dataset
import pytest
from conftest import Server, run_python

import corral

Rows = list[dict[str, Any]]


def pandas_with_categories(rows: Rows) -> Any:
    frame = pandas.DataFrame(rows)
    frame["label"] = frame["label"].astype("category")
    # An index that is no range must not become a column.
    return frame.set_index(frame.index * 7)


SOURCES: dict[str, Callable[[Rows], Any]] = {
    "dicts": lambda rows: rows,
    "generator": lambda rows: (row for row in rows),
    "pandas": pandas_with_categories,
    "polars": lambda rows: polars.DataFrame(rows).with_columns(
        polars.col("label").cast(polars.Categorical)
    ),
    "table": lambda rows: pyarrow.Table.from_pylist(rows),
    "batch": lambda rows: pyarrow.RecordBatch.from_pylist(rows),
    "reader": lambda rows: pyarrow.Table.from_pylist(rows).to_reader(50),
    "arrow_dataset": lambda rows: pyarrow.dataset.dataset(pyarrow.Table.from_pylist(rows)),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_makes_the_same_data_set(
    client: corral.Client, tickets: Rows, source: str
) -> None:
    made = client.datasets.create(
        f"from-{source}", SOURCES[source](tickets), text="text", label="label", weight="trust"
    )
    assert made.rows == len(tickets)
    assert made.classes == {"billing": 100, "shipping": 100, "technical": 100}
    assert {split.name: split.rows for split in made.splits} == {"train": 240, "test": 60}
    assert made.weighted_rows == 300
    assert made.columns == []
    back = client.datasets.to_pandas(made)
    assert list(back["text"]) == [row["text"] for row in tickets]
    assert list(back["label"]) == [row["label"] for row in tickets]


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_large_frames_arrive_in_blocks(client: corral.Client, package: str) -> None:
    texts = [f"text number {number}" for number in range(50_000)]
    frame: Any = {"pandas": pandas, "polars": polars}[package].DataFrame(
        {"text": texts, "label": ["even", "odd"] * 25_000}
    )
    made = client.datasets.create(f"large-{package}", frame)
    assert (made.rows, made.duplicate_rows) == (50_000, 0)
    client.datasets.remove(made.name)


@pytest.mark.parametrize("late", [None, "text", 3.5])
def test_a_column_is_what_all_its_blocks_are(client: corral.Client, late: object) -> None:
    """The first block of the column `size` has nothing in it."""
    texts = pandas.Series([f"text {at}" for at in range(20_000)], dtype=object)
    sizes = pandas.Series([None] * 19_999 + [late], dtype=object)
    made = client.datasets.create(
        f"late-{late}".lower(), pandas.DataFrame({"text": texts, "size": sizes})
    )
    assert made.rows == 20_000
    assert client.datasets.to_arrow(made).column("size")[-1].as_py() == late


def test_missing_values_are_missing(client: corral.Client) -> None:
    frame = pandas.DataFrame(
        {
            "text": ["one", "two", "three"],
            "label": ["a", None, "b"],
            "score": [1.5, float("nan"), 3.0],
            "nothing": [None, None, None],
        }
    )
    made = client.datasets.create("gaps", frame)
    assert made.unlabelled_rows == 1
    assert [row["score"] for row in client.datasets.head(made)] == [1.5, None, 3.0]


def test_without_pyarrow_frames_go_as_json_lines(
    server: Server, client: corral.Client, tmp_path: Path
) -> None:
    script = tmp_path / "without.py"
    script.write_text(
        "import sys; sys.modules['pyarrow'] = None\n"
        "import pandas, polars, corral\n"
        "client = corral.connect()\n"
        "rows = {'text': ['a', 'b', 'é'], 'label': ['x', None, 'y'],\n"
        "        'score': [1.0, float('nan'), 2.5]}\n"
        "for name, frame in [('p', pandas.DataFrame(rows)), ('q', polars.DataFrame(rows))]:\n"
        "    made = client.datasets.create('json-' + name, frame)\n"
        "    assert made.report.files[0].read_as.startswith('jsonl'), made.report\n"
        "    print(made.rows, made.unlabelled_rows, client.datasets.to_pandas(made)['score'].sum())\n"
    )
    ran = run_python(server, str(script))
    assert ran.stdout == "3 1 3.5\n3 1 3.5\n", ran.stderr


@pytest.mark.parametrize("package", [pandas.DataFrame, polars.DataFrame, list])
def test_several_labels_and_their_shares(client: corral.Client, package: Any) -> None:
    name = f"several-{package.__module__.partition('.')[0]}-{package.__name__}".lower()
    rows = [
        {"text": "one", "queues": ["a", "b"], "likely": [0.75, 0.25]},
        {"text": "two", "queues": ["b"], "likely": [1.0]},
        {"text": "three", "queues": [], "likely": []},
    ]
    made = client.datasets.create(name, package(rows), label="queues", shares="likely")
    assert made.multi_label and made.classes == {"a": 1, "b": 2}
    assert (made.unlabelled_rows, made.probabilistic_rows) == (1, 2)
    assert client.datasets.head(made)[0]["label_shares"] == [0.75, 0.25]


def test_an_upload_that_is_refused_early_says_why(client: corral.Client) -> None:
    frame = pandas.DataFrame({"text": [f"{at} " + "words " * 50 for at in range(60_000)]})
    client.datasets.create("taken", [{"text": "a"}])
    with pytest.raises(corral.ConflictError, match="taken"):
        client.datasets.create("taken", frame)
    with pytest.raises(corral.InvalidError):
        client.datasets.create("untaken", frame, draw="much")


def test_files_and_splits(client: corral.Client, tickets: Rows, tmp_path: Path) -> None:
    csv, lines = tmp_path / "a.csv", tmp_path / "b.jsonl"
    csv.write_text("subject,queue\nwhere is it,shipping\nit is broken,technical\n")
    lines.write_text(json.dumps({"subject": "pay me back", "queue": "billing"}) + "\n")
    made = client.datasets.create(
        "files", {"train": csv, "test": str(lines)}, text="subject", label="queue"
    )
    assert {split.name: split.rows for split in made.splits} == {"train": 2, "test": 1}
    assert made.report is not None
    assert [file.file for file in made.report.files] == ["a.csv", "b.jsonl"]
    appended = client.datasets.append("files", [csv, lines], text="subject", label="queue")
    assert (appended.version, appended.rows) == (2, 6)
    assert client.datasets.show("files@1").rows == client.datasets.show("files", 1).rows == 3

    mixed = client.datasets.create("mixed", {"train": pandas.DataFrame(tickets), "test": tickets})
    assert {split.name for split in mixed.splits} >= {"train", "test"}


def test_drawn_splits(client: corral.Client, tickets: Rows) -> None:
    plain = [{"text": row["text"], "label": row["label"]} for row in tickets]
    made = client.datasets.create("drawn", plain, draw={"test": 0.1, "valid": 0.2}, seed=3)
    assert {split.name: split.rows for split in made.splits} == {
        "test": 30,
        "valid": 60,
        "train": 210,
    }


def test_rows_come_back_in_every_shape(client: corral.Client, tmp_path: Path) -> None:
    rows = [{"text": f"row {number}", "label": "x", "size": number} for number in range(5)]
    made = client.datasets.create("round", rows)
    assert client.datasets.head(made, 2).to_dicts()[1]["text"] == "row 1"
    assert list(client.datasets.to_pandas("round")["size"]) == [0, 1, 2, 3, 4]
    assert client.datasets.to_polars("round")["size"].sum() == 10
    assert client.datasets.to_arrow("round").num_rows == 5
    for ending in ("csv", "jsonl", "parquet", "arrow"):
        path = client.datasets.export("round", tmp_path / f"round.{ending}")
        again = client.datasets.create(f"again-{ending}", path)
        assert again.rows == 5, ending
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "round.arrow",
        "round.csv",
        "round.jsonl",
        "round.parquet",
    ]
    assert {entry.name for entry in client.datasets.list()} > {"round", "again-csv"}
    assert "round" in list(client.datasets.list().to_pandas()["name"])


def test_refusals_say_what_is_wrong(client: corral.Client, tmp_path: Path) -> None:
    with pytest.raises(corral.NotFoundError, match="there is no data set `nowhere`"):
        client.datasets.show("nowhere")
    with pytest.raises(corral.InvalidError, match="type"):
        client.datasets.create("bad", pandas.DataFrame({"text": ["a", 3]}))
    with pytest.raises(corral.InvalidError, match="LazyFrame"):
        client.datasets.create("bad", polars.LazyFrame({"text": ["a"]}))
    with pytest.raises(corral.InvalidError, match="a int is not rows"):
        client.datasets.create("bad", 3)
    with pytest.raises(corral.InvalidError, match="write row 0 as JSON"):
        client.datasets.create("bad", [{"text": object()}])
    with pytest.raises(corral.NotFoundError, match="No such file"):
        client.datasets.create("bad", tmp_path / "none.csv")
    with pytest.raises(TypeError, match="did you mean `label`"):
        client.datasets.create("bad", [{"text": "a"}], labels="x")  # type: ignore[call-arg]
    with pytest.raises(corral.InvalidError):
        client.datasets.create("bad", [{"text": "a"}], text="nothing")
    with pytest.raises(corral.NotFoundError):
        client.datasets.show("bad")
    client.datasets.create("twice", [{"text": "a"}])
    with pytest.raises(corral.ConflictError):
        client.datasets.create("twice", [{"text": "a"}])
    with pytest.raises(corral.NotFoundError):
        client.datasets.export("nowhere", tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


def test_public_files(client: corral.Client, public_data: Path) -> None:
    folder = public_data / "banking77"
    made = client.datasets.create(
        "banking77", {"train": folder / "train.jsonl", "test": folder / "test.jsonl"}
    )
    assert (made.rows, len(made.classes)) == (13_083, 77)
    frame = pandas.read_json(folder / "test.jsonl", lines=True)
    assert client.datasets.create("banking-test", frame).rows == 3080


MEMORY_SCRIPT = """
import resource, sys, pandas, pyarrow, pyarrow.parquet
from corral._frames import body_of_rows
rows = int(sys.argv[1])
frame = pandas.DataFrame({"text": ["some words of a row of text " * 8] * rows, "number": range(rows)})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = sum(map(len, body_of_rows(frame)[0].open()))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_sending_takes_bounded_memory(server: Server) -> None:
    def added_kib(rows: int) -> int:
        ran = subprocess.run(
            [sys.executable, "-c", MEMORY_SCRIPT, str(rows)],
            env=server.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return int(ran.stdout)

    # 400,000 rows are 90 MB of text: a copy of them would show.
    assert added_kib(400_000) < added_kib(50_000) + 60_000

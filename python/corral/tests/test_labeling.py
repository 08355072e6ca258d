"""Labeling functions by the package, against a real server."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import corral

ROWS = [
    {"text": "I want a refund for my card", "queue": "billing"},
    {"text": "the card was charged twice", "queue": None},
    {"text": "refund me at once", "queue": None},
    {"text": "my parcel is late", "queue": "shipping"},
    {"text": "the parcel arrived broken", "queue": None},
    {"text": "late again, and the card is gone", "queue": None},
    {"text": "hello", "queue": None},
]

YAML = """
- {name: money, kind: keyword, class: billing, any: [refund, card]}
- {name: sad, kind: regex, class: shipping, pattern: "(broken|late)"}
"""


_numbers = itertools.count()


@pytest.fixture
def mail(client: corral.Client) -> str:
    """A data set of the test's own."""
    name = f"mail-{next(_numbers)}"
    client.datasets.create(name, ROWS, text="text", label="queue")
    return name


def test_functions_are_written_run_and_labeled_by(
    client: corral.Client, mail: str, tmp_path: Path
) -> None:
    file = tmp_path / "functions.yaml"
    file.write_text(YAML, encoding="utf-8")
    changes = client.labeling.load(mail, file)
    assert changes.added == ["money", "sad"]
    assert changes.classes == ["billing", "shipping"]

    changes = client.labeling.put(
        mail, "parcel", kind="keyword", class_="shipping", any=["parcel"]
    )
    assert (changes.version, changes.added) == (2, ["parcel"])
    assert client.labeling.show(mail, "parcel").definition["any"] == ["parcel"]
    assert [function.name for function in client.labeling.functions(mail, 1).functions] == [
        "money",
        "sad",
    ]

    found = client.labeling.statistics(mail)
    assert (found.stage, found.rows, found.gold_rows) == ("exact", 7, 2)
    money = found.functions[0]
    assert (money.rows, money.votes) == (4, ["billing"])
    assert money.accuracy is not None and money.accuracy.share == 1.0
    assert found.pairs[0].conflicts == 1

    tried = client.labeling.test(
        mail, {"name": "greeting", "kind": "keyword", "class": "other", "any": ["hello"]}
    )
    assert [row.text for row in tried.rows] == ["hello"]
    assert [row.text for row in client.labeling.rows(mail, "uncovered")] == ["hello"]
    (clash,) = client.labeling.rows(mail, "conflict")
    assert clash.votes == {"money": "billing", "sad": "shipping"}
    assert all(entry.definition for entry in client.labeling.suggestions(mail))

    job = client.labeling.run(mail).wait(progress=False)
    assert job.result is not None
    assert job.result["labels"]["labeled"] == 4
    labeled = client.datasets.show(f"{mail}-labeled")
    assert (labeled.rows, labeled.unlabelled_rows) == (7, 1)

    client.labeling.remove(mail, "parcel")
    with pytest.raises(corral.NotFoundError):
        client.labeling.show(mail, "parcel")


def test_what_is_wrong_with_a_function_is_said(client: corral.Client, mail: str) -> None:
    with pytest.raises(corral.InvalidError, match="look-around"):
        client.labeling.put(mail, "ahead", kind="regex", class_="x", pattern="(?=a)b")
    with pytest.raises(corral.InvalidError, match="not a kind"):
        client.labeling.put(mail, "odd", kind="keywrd", class_="x", any=["a"])
    with pytest.raises(TypeError, match="label_model"):
        client.labeling.run(mail, label_modle="majority")  # type: ignore[call-arg]


@pytest.mark.anyio
async def test_the_same_by_coroutines(async_client: corral.AsyncClient, mail: str) -> None:
    await async_client.labeling.put(mail, "money", kind="keyword", class_="billing", any=["card"])
    found = await async_client.labeling.statistics(mail)
    assert [function.name for function in found.functions] == ["money"]

"""Taxonomies, encoders, endpoints and predictions."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy
import pandas
import polars
import pyarrow
import pytest

import corral
from corral._exchange import Operation, Send
from corral._operations import endpoints as operations

TEXTS = ["charged twice for it", "lost on the way", "it crashes on start"]
LABELS = ["billing", "shipping", "technical"]


def test_one_text_gets_one_prediction(client: corral.Client, support: corral.Job) -> None:
    prediction = client.predict("support", TEXTS[1], top_k=3)
    assert prediction.label == prediction.labels[0].id == "shipping"
    assert [label.id for label in prediction.labels][0] == "shipping"
    assert sum(label.probability for label in prediction.labels) == pytest.approx(1, abs=1e-3)
    assert prediction.backed_off is None and not prediction.refused


def test_many_texts_come_in_any_column(client: corral.Client, support: corral.Job) -> None:
    columns = [
        TEXTS,
        tuple(TEXTS),
        iter(TEXTS),
        pandas.Series(TEXTS),
        polars.Series(TEXTS),
        pyarrow.array(TEXTS),
        numpy.array(TEXTS),
    ]
    for column in columns:
        answer = client.endpoints.predict("support", column)
        assert answer.labels == LABELS, type(column)
        assert answer.models == ["support@1"]


def test_predictions_are_tables(client: corral.Client, support: corral.Job) -> None:
    series = pandas.Series(TEXTS, index=["a", "b", "c"])
    frame = client.predict("support", series, top_k=2).to_pandas()
    assert list(frame.index) == ["a", "b", "c"]
    assert list(frame["label"]) == LABELS
    assert (frame["probability"] > frame["probability_2"]).all()
    assert client.predict("support", TEXTS).to_polars()["label"].to_list() == LABELS
    assert len(client.predict("support", [])) == 0


def test_options_reach_the_server(client: corral.Client, support: corral.Job) -> None:
    only = client.predict("support", TEXTS, prefix="bill", top_k=3)
    assert {label.id for prediction in only for label in prediction.labels} == {"billing"}
    sure = client.predict("support", TEXTS[0], back_off=0.2)
    assert sure.backed_off is not None and sure.backed_off.id == "billing"
    with pytest.raises(TypeError, match="did you mean `top_k`"):
        client.predict("support", TEXTS, topk=3)  # type: ignore[call-overload]
    with pytest.raises(corral.InvalidError):
        client.predict("support", TEXTS, top_k=0)


def test_texts_that_are_none_are_refused_here(client: corral.Client) -> None:
    with pytest.raises(corral.InvalidError, match="text 1 is nan, a float"):
        client.predict("support", pandas.Series(["a", float("nan")]))
    with pytest.raises(corral.NotFoundError):
        client.predict("nowhere", "a")
    with pytest.raises(corral.NotFoundError):
        client.predict("nowhere", [])


def test_long_columns_go_in_several_requests(client: corral.Client, support: corral.Job) -> None:
    texts = [TEXTS[at % 3] + f" {at}" for at in range(5000)]
    answer = client.predict("support", texts)
    assert len(answer) == 5000
    one_by_one = [client.predict("support", text).label for text in texts[4090:4100]]
    assert answer.labels[4090:4100] == one_by_one


def test_chunks_are_bounded_and_whole() -> None:
    texts = ["x" * (at % 50) for at in range(1000)]
    for most_texts, most_bytes in [(1, 10**9), (7, 10**9), (1000, 100), (64, 900)]:
        found = list(operations.chunks(texts, most_texts, most_bytes))
        assert [text for chunk in found for text in chunk] == texts
        for chunk in found:
            assert len(chunk) <= most_texts
            assert sum(len(text) + 2 for text in chunk) <= most_bytes or len(chunk) == 1
    assert list(operations.chunks(["long" * 100], 10, 5)) == [["long" * 100]]
    # What JSON makes of a text counts, not its characters.
    assert [len(chunk) for chunk in operations.chunks(["\x00" * 10] * 4, 10, 130)] == [2, 2]


def test_what_stands_below_an_endpoint_is_reached_by_a_slash() -> None:
    call = operations.predict_call("support/stable", ["a"], {"top_k": 2})
    assert call.target == "/v1/endpoints/support/stable/predict"
    assert operations.predict_call("a b", [], {}).target == "/v1/endpoints/a%20b/predict"


def test_endpoints_are_moved_listed_and_removed(client: corral.Client, support: corral.Job) -> None:
    endpoint = client.endpoints.deploy(client.models.show("support"), name="moved")
    assert (endpoint.name, endpoint.model, endpoint.version) == ("moved", "support", 1)
    assert client.endpoints.show("moved") == endpoint
    assert "moved" in [entry.name for entry in client.endpoints.list()]
    client.endpoints.remove("moved")
    with pytest.raises(corral.NotFoundError):
        client.endpoints.show("moved")
    with pytest.raises(corral.NotFoundError, match="nowhere"):
        client.deploy("nowhere")


@pytest.fixture
def routed(client: corral.Client, support: corral.Job) -> str:
    """An endpoint of two versions."""
    description = httpx.get(f"{client.url}/openapi.json").json()
    if "/v1/endpoints/{name}/aliases/{alias}" not in description["paths"]:
        pytest.skip("skipped: this server's endpoints have no versions")
    client.deploy(support.model, name="routed", alias="stable")
    client.endpoints.deploy_answer("routed", {"closed": 1.0})
    return "routed"


def test_versions_of_an_endpoint_share_its_requests(client: corral.Client, routed: str) -> None:
    endpoint = client.endpoints.show(routed)
    first, second = endpoint.versions[-2:]
    assert (first.model, first.model_version, second.model) == ("support", 1, None)
    assert endpoint.aliases == {"stable": first.number} and endpoint.model is None
    assert client.predict(routed, TEXTS).models == ["fixed"]
    assert client.predict(f"{routed}/stable", TEXTS).labels == LABELS
    assert client.predict(f"{routed}/{second.number}", TEXTS).labels == ["closed"] * 3

    assert client.endpoints.send_to(routed, "stable").traffic["kind"] == "to"
    assert client.predict(endpoint, TEXTS).models == ["support@1"]
    client.endpoints.split(routed, {"stable": 1, second.number: 1}, by="key")
    sides = {key: client.predict(routed, TEXTS, key=key).models for key in "abcdefghijklmnop"}
    assert {tuple(side) for side in sides.values()} == {("support@1",), ("fixed",)}
    assert all(client.predict(routed, TEXTS, key=key).models == sides[key] for key in sides)

    client.endpoints.send_to(routed, "stable")
    canary = client.endpoints.canary(routed, to=second.number, steps=[10, 50], by="key")
    assert (canary.traffic["kind"], canary.traffic["steps"]) == ("canary", [10, 50])
    client.endpoints.send_to(routed)
    mirrored = client.endpoints.mirror(routed, "stable", share=0.5)
    assert mirrored.mirror == {"version": "stable", "share": 0.5}
    assert client.endpoints.mirror(routed, None).mirror is None
    office = client.endpoints.keep_warm(routed, 1, ["mon-tue 08:00-18:00"], "Europe/Berlin")
    windows = ["mon,tue 08:00-18:00"]
    assert office.keep_warm == {"replicas": 1, "windows": windows, "time_zone": "Europe/Berlin"}
    assert client.endpoints.keep_warm(routed, 0).keep_warm is None
    client.endpoints.set_alias(routed, "next")
    assert client.endpoints.remove_alias(routed, "stable").aliases == {"next": second.number}
    left = client.endpoints.remove_version(routed, first.number)
    assert first.number not in [version.number for version in left.versions]
    client.endpoints.remove(routed)


def test_routing_is_written_as_the_api_has_it() -> None:
    def sent(operation: Operation[corral.Endpoint]) -> tuple[str, str, object]:
        step = next(operation)
        assert isinstance(step, Send)
        body = step.call.body
        return step.call.method, step.call.target, body and json.loads(b"".join(body.open()))

    assert sent(operations.deploy("m@2", None, "stable")) == (
        "PUT",
        "/v1/endpoints/m",
        {"model": "m@2", "alias": "stable"},
    )
    assert sent(operations.split("e", {"stable": 9, 4: 1}, "key")) == (
        "PUT",
        "/v1/endpoints/e/traffic",
        {
            "kind": "split",
            "by": "key",
            "shares": [{"version": "stable", "weight": 9}, {"version": "4", "weight": 1}],
        },
    )
    canary = sent(operations.canary("e", {"to": 3, "steps": [10]}))
    assert canary[2] == {"kind": "canary", "to": "3", "steps": [10]}
    assert sent(operations.send_to("e", "latest"))[2] == {"kind": "latest"}
    assert sent(operations.mirror("e", None, None)) == ("DELETE", "/v1/endpoints/e/mirror", None)
    assert sent(operations.set_alias("e", "a", 3))[1:] == (
        "/v1/endpoints/e/aliases/a",
        {"version": "3"},
    )


def test_taxonomies_of_every_shape(client: corral.Client, tmp_path: Path) -> None:
    names = ["billing", "shipping", "technical"]
    flat = client.taxonomies.create("flat", names)
    assert [entry.name for entry in flat.classes] == names
    described = client.taxonomies.create("described", {"a": "about a", "b": {"c": None, "d": "x"}})
    assert [(entry.id, entry.parent, entry.description) for entry in described.classes] == [
        ("a", None, "about a"),
        ("b", None, None),
        ("c", "b", None),
        ("d", "b", "x"),
    ]
    rows: dict[str, list[str | None]] = {
        "id": ["1", "12"],
        "name": ["one", "two"],
        "parent": [None, "1"],
    }
    for frame in (pandas.DataFrame(rows), polars.DataFrame(rows), pyarrow.table(rows)):
        made = client.taxonomies.create("framed", frame)
        assert [entry.parent for entry in made.classes] == [None, "1"]
    again = client.taxonomies.create("again", described.classes)
    assert again.classes == described.classes
    path = tmp_path / "codes.csv"
    path.write_text("id,name\n11-10,chiefs\n11-20,sellers\n")
    prefixed = client.taxonomies.create("prefixed", path, levels=[2])
    assert (prefixed.leaves, prefixed.levels, prefixed.reference) == (2, 2, "prefixed@1")
    assert client.taxonomies.show("prefixed") == prefixed
    assert {"flat", "framed"} <= {entry.name for entry in client.taxonomies.list()}
    client.taxonomies.remove("prefixed")
    with pytest.raises(corral.NotFoundError):
        client.taxonomies.show("prefixed")
    with pytest.raises(corral.InvalidError):
        client.taxonomies.create("twice", ["a", "a"])


def test_labels_are_held_against_a_taxonomy(client: corral.Client) -> None:
    client.taxonomies.create("pets", ["cats", "lizards"])
    client.datasets.create(
        "pets", [{"text": "a", "label": "cats"}, {"text": "b", "label": "lizard"}]
    )
    match = client.taxonomies.match("pets", "pets@1")
    assert (match.known_labels, match.known_rows) == (1, 1)
    assert [(label.label, label.nearest) for label in match.unknown] == [("lizard", ["lizards"])]


def test_encoders_are_files(client: corral.Client, tmp_path: Path) -> None:
    assert len(client.encoders.list()) == 0
    with pytest.raises(corral.InvalidError, match="a package, not a converted encoder"):
        client.encoders.install("gt.whl")
    path = tmp_path / "broken.encoder"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(corral.CorralError):
        client.encoders.install(path)
    with pytest.raises(corral.NotFoundError):
        client.encoders.remove("nowhere")


def test_refusals_of_a_model_are_told(client: corral.Client, tickets: list[dict[str, str]]) -> None:
    other = [{"text": f"weather in town {at}", "label": "other"} for at in range(40)]
    client.datasets.create("with-other", [*tickets, *other], split="split")
    job = client.train(
        "refusing", "with-other", trials=4, none_label="other", encoder="none"
    ).wait()
    client.deploy(job.model)
    answer = client.predict("refusing", ["weather in town", "lost on the way"])
    scores = [prediction.refusal.score for prediction in answer if prediction.refusal]
    assert len(scores) == 2 and scores[0] > scores[1]
    assert {"refused", "refusal_score"} <= set(answer.to_pandas().columns)
    named = client.predict("refusing", "weather in town", answer_all=True)
    assert named.label is not None


def test_what_is_asked_is_kept_counted_and_compared(
    client: corral.Client, support: corral.Job
) -> None:
    client.endpoints.deploy("support", "watched")
    kept = client.endpoints.keep_log("watched", masks=["digits"], keep_days=7, max_size="2MiB")
    assert kept.log is not None
    assert (kept.log["sample"], kept.log["keep_days"], kept.log["max_bytes"]) == (1, 7, 2 << 20)
    client.predict("watched", [f"{text}, call 0171 234 56" for text in TEXTS])
    made = client.endpoints.log_dataset("watched", "watched-answers", label="answer")
    assert made.rows == 3 and made.report is not None
    rows = client.datasets.head("watched-answers")
    assert {row["text"] for row in rows} == {f"{text}, call [digits]" for text in TEXTS}
    assert client.endpoints.remove_log("watched").log is None

    (used,) = client.endpoints.usage("watched")
    assert (used.requests, used.texts, used.start, used.cost) == (1, 3, None, None)
    assert client.endpoints.usage("watched", since="1h", by="hour")[0].start is not None
    watched = client.endpoints.watch_drift("watched", bound=0.5)
    assert watched.drift == {"bound": 0.5, "window_texts": 1000}
    assert client.endpoints.ignore_drift("watched").drift is None
    with pytest.raises(TypeError, match="did you mean `sample`"):
        client.endpoints.keep_log("watched", samples=1)  # type: ignore[call-arg]

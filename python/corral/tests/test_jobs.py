"""Trainings: their jobs, progress, runs, models, reports and what they say when they fail."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pandas
import pytest
from conftest import Server

import corral
from corral import _progress
from corral import client as client_module
from corral._drivers import _SyncConversation
from corral._events import follow
from corral._exchange import Course, Open, Outcome, Pause, Read, unreachable
from corral._progress import Notebook, Terminal
from corral.types import JobEvent


def test_a_training_ends_in_a_model(client: corral.Client, support: corral.Job) -> None:
    assert (support.state, support.progress, support.name) == ("succeeded", 1.0, "support")
    assert support.model == "support@1"
    assert support.ended is not None and support.ended.tzinfo is not None
    assert "accuracy" in support.summary
    assert support.result["test"]["accuracy"] > 0.9
    assert client.jobs.get(support.id).model == support.model
    assert support.id in [job.id for job in client.jobs.list(state="succeeded")]
    assert [line.number for line in support.logs()][:2] == [1, 2]


def test_runs_are_tables(client: corral.Client, support: corral.Job) -> None:
    runs = client.runs(support)
    assert len(runs) == 4 and runs[0].status == "FINISHED"
    frame = support.runs().to_pandas()
    assert list(frame["run"]) == [1, 2, 3, 4]
    assert {"name", "accuracy", "learner.kind"} <= set(frame.columns)
    assert runs.to_polars().shape[0] == 4
    assert "learner.kind" in runs._repr_html_()


def test_rows_of_a_data_set_are_predicted(
    client: corral.Client, support: corral.Job, tmp_path: Path
) -> None:
    endpoint = client.deploy(support.model)
    job = client.predict_rows(endpoint, "tickets", top_k=2, column_prefix="p_").wait()
    assert job.result["model_version"] == 1
    path = job.download(tmp_path / "out.parquet")
    frame = pandas.read_parquet(path)
    assert len(frame) == job.result["rows"] == client.datasets.show("tickets").rows
    assert {"p_predicted_label", "p_confidence", "p_confidence_2"} <= set(frame.columns)
    texts = list(frame["text"][:20])
    asked = client.predict(endpoint, texts, top_k=2)
    assert [one.label for one in asked] == list(frame["p_predicted_label"][:20])

    made = client.predict_rows("support", "tickets", to="answered", memory="400MiB").wait()
    assert made.result["dataset"] == "answered"
    assert client.datasets.show("answered").rows == len(frame)
    with pytest.raises(TypeError, match="did you mean `top_k`"):
        client.predict_rows("support", "tickets", topk=2)  # type: ignore[call-arg]


def test_models_are_tagged_and_found(client: corral.Client, support: corral.Job) -> None:
    model = client.models.tag(support.model, {"stage": "live"}, {"agreement": 0.5})
    assert model.tags == {"stage": "live"} and model.metrics["noted"] == {"agreement": 0.5}
    assert "support" in [found.name for found in client.models.list(tag="stage=live")]
    assert len(client.models.list(tag="stage=old")) == 0
    model = client.models.tag(model, {"stage": None}, {"agreement": None})
    assert model.tags == {} and "noted" not in model.metrics


def test_models_and_reports(client: corral.Client, support: corral.Job, tmp_path: Path) -> None:
    model = client.models.show(support.model)
    assert (model.reference, model.classes, model.versions) == ("support@1", 3, [1])
    assert model.lineage["job"] == support.id
    report = client.models.report(model)
    assert report.json["name"] == "support" and len(report.json["trials"]) == 4
    assert report.advice and report.html.startswith("<!DOCTYPE html>")
    shown = report._repr_html_()
    assert shown.startswith('<iframe sandbox="allow-scripts"')
    assert "Content-Security-Policy" in shown and "<script" not in shown
    assert report.save(tmp_path / "report.html").read_text() == report.html

    path = client.models.export(model, tmp_path / "support.corral")
    assert path.stat().st_size == model.bytes
    copy = client.models.import_file("copy", path)
    assert copy.hash == model.hash
    with pytest.raises(corral.NotFoundError, match="has no report"):
        client.models.report("copy")
    assert {"support", "copy"} <= {entry.name for entry in client.models.list()}
    client.models.remove("copy", 1)
    client.models.remove("copy")
    with pytest.raises(corral.InvalidError):
        path.write_bytes(b"no model")
        client.models.import_file("broken", path)


def test_the_same_seed_makes_the_same_model(client: corral.Client, support: corral.Job) -> None:
    options: corral.TrainOptions = {"trials": 4, "encoder": "none", "seed": 5}
    twins = [client.train("twin", dataset="tickets@1", **options).wait() for _ in range(2)]
    assert [job.model for job in twins] == ["twin@1", "twin@2"]
    first, second = (client.models.show(job.model) for job in twins)
    assert first.hash == second.hash
    assert client.models.show("twin").versions == [1, 2]


def test_a_failure_is_raised_with_what_the_job_said(client: corral.Client) -> None:
    client.datasets.create("stray", [{"text": f"row {at}", "label": "x"} for at in range(30)])
    with pytest.raises(corral.CorralError) as caught:
        client.train("stray", dataset="stray", taxonomy="nowhere")
    assert isinstance(caught.value, corral.NotFoundError)
    with pytest.raises(corral.CorralError) as failed:
        client.train("stray", dataset="stray", trials=2, encoder="none").wait()
    assert isinstance(failed.value, corral.JobFailed), failed.value
    assert failed.value.job.state == "failed"
    assert failed.value.job.error is not None
    assert failed.value.job.error.message in str(failed.value)
    assert failed.value.hint
    job = client.jobs.get(failed.value.job.id)
    with pytest.raises(corral.JobFailed):
        _ = job.model


def test_jobs_are_cancelled_and_finished(client: corral.Client, support: corral.Job) -> None:
    slow = client.train("slow", dataset="tickets", trials=300, encoder="none")
    with pytest.raises(corral.ConflictError, match="has no result yet"):
        _ = slow.model
    slow.cancel()
    with pytest.raises(corral.JobFailed, match="cancelled"):
        slow.wait()

    early = client.train("early", dataset="tickets", trials=300, encoder="none")
    for event in early.events():
        if event.fields.get("detail", {}).get("trials_complete"):
            early.finish()
            break
    assert early.wait().model == "early@1"
    assert len(early.runs()) < 300


def test_events_resume_after_the_one_named(client: corral.Client, support: corral.Job) -> None:
    events = list(support.events())
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert (events[0].name, events[-1].name) == ("submitted", "ended")
    assert [event.id for event in support.events(after=3)] == [e.id for e in events[3:]]


def test_following_outlives_the_server(
    server: Server, client: corral.Client, support: corral.Job
) -> None:
    job = client.train("survivor", dataset="tickets", trials=40, encoder="none")
    seen: list[int] = []
    for event in job.events():
        seen.append(event.id)
        if len(seen) == 4:
            server.kill_server_process()
    assert seen == list(range(1, len(seen) + 1))
    assert job.wait().model == "survivor@1"
    assert client.predict("support", "lost on the way").label == "shipping"


def test_ctrl_c_leaves_the_job_running(
    client: corral.Client,
    support: corral.Job,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Interrupted(_progress.Silent):
        def update(self, event: JobEvent) -> None:
            if event.name == "started":
                raise KeyboardInterrupt

    monkeypatch.setattr(client_module, "progress_for", lambda is_wanted: Interrupted())
    job = client.train("patient", dataset="tickets", trials=300, encoder="none")
    with pytest.raises(KeyboardInterrupt):
        job.wait()
    assert f"client.jobs.get('{job.id}').wait()" in capsys.readouterr().err
    assert job.refresh().ended is None
    job.cancel()


def test_a_terminal_shows_a_bar_that_goes_away(
    client: corral.Client, support: corral.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Tty()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(_progress, "REDRAW_SECONDS", 0.0)
    support.wait()
    drawn = terminal.getvalue()
    assert "█" in drawn and "trial" in drawn and "MiB" in drawn
    assert drawn.endswith("\r\x1b[K")


def progress_event(fraction: float) -> JobEvent:
    detail = {
        "trials_running": 3,
        "metric": "accuracy",
        "best": 0.93456,
        "seconds_left": 130.0,
        "memory_bytes": 512 << 20,
        "memory_lease_bytes": 2 << 30,
    }
    fields = {"fraction": fraction, "message": "trial <5> of 97", "detail": detail}
    return JobEvent(1, "progress", fields)


def test_the_bar_tells_what_the_detail_has() -> None:
    bar = Terminal(io.StringIO())
    bar.update(progress_event(0.5))
    assert bar.draw(7.0, 200) == (
        "  7s ████████████░░░░░░░░░░░░  50% trial <5> of 97 · 3 running · best accuracy 0.9346"
        " · 2 min left · 512 MiB of 2.00 GiB"
    )
    assert len(bar.draw(7.0, 40)) < 40


def test_a_notebook_shows_a_bar_in_its_cell() -> None:
    shown: list[Any] = []

    class Handle:
        def update(self, page: dict[str, str], raw: bool) -> None:
            shown.append(page)

    def display(page: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw and display_id
        return Handle()

    bar = Notebook(display)
    bar.update(progress_event(0.25))
    bar.close()
    assert shown[-1]["text/html"].startswith('<progress max="1" value="0.250">')
    assert "&lt;5&gt;" in shown[-1]["text/html"]


def test_a_stream_that_breaks_off_is_resumed(client: corral.Client, support: corral.Job) -> None:
    whole = [event.id for event in support.events()]
    conversation = _SyncConversation(client._driver)
    course = Course(follow(support.id))
    seen: list[int] = []
    resumed_after: list[str] = []
    is_broken = False
    step = course.advance(None)
    while step is not None:
        outcome: Outcome = None
        if isinstance(step, JobEvent):
            seen.append(step.id)
        elif isinstance(step, Read) and seen and not is_broken:
            is_broken = True
            outcome = unreachable(client.url, "cut", was_sent=True)
        elif not isinstance(step, Pause):
            if isinstance(step, Open):
                resumed_after.append(step.call.headers.get("last-event-id", ""))
            outcome = conversation.perform(step)
        step = course.advance(outcome)
    conversation.close()
    assert seen == whole
    assert resumed_after[0] == "" and len(resumed_after) <= 2


def test_threads_share_a_client(server: Server, support: corral.Job) -> None:
    failures: list[BaseException] = []
    with corral.connect(server.url, server.token) as shared:

        def ask() -> None:
            try:
                for _ in range(10):
                    assert shared.predict("support", "the parcel was lost").label == "shipping"
                    assert shared.jobs.get(support.id).wait().model == "support@1"
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures

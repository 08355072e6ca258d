"""What the package does with answers, errors, retries and events, without a server."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import corral
from corral import _events, _exchange, _units, errors
from corral._decode import decode, parse_time
from corral._events import EventParser, ServerEvent, follow
from corral._exchange import Answer, Call, Course, Open, Outcome, Pause, Read, Send, Step
from corral._operations.common import name_and_version
from corral._operations.jobs import train_body
from corral._settings import find_settings
from corral.types import JobDetail, JobEvent, Prediction

JOB = {
    "id": "job-1",
    "kind": "train",
    "name": "m",
    "state": "running",
    "created": "2026-11-21T20:13:36.946Z",
    "attempts": 1,
    "progress": 0.5,
    "message": "trial 1 of 4",
    "memory_request_bytes": 1,
    "cpu_ms": 3,
    "request": {},
    "something_new": [1],
}
ENDED = JOB | {"state": "succeeded", "ended": "2026-11-21T20:13:38Z", "result": {"model": "m"}}


def answer(status: int, body: object = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, json.dumps(body).encode(), had_token=True)


def refusal(kind: str, **more: object) -> dict[str, object]:
    return {"error": {"kind": kind, "message": f"it is {kind}", **more}}


def lost(*, was_sent: bool) -> _exchange.ConnectionFailed:
    return _exchange.unreachable("http://here", "refused", was_sent=was_sent)


def play(operation: _exchange.Operation[Any], outcomes: list[Outcome]) -> tuple[Any, list[Step]]:
    """Runs an operation against these outcomes; pauses need none."""
    course, steps, left = Course(operation), [], iter(outcomes)
    step = course.advance(None)
    while step is not None:
        steps.append(step)
        is_asked = isinstance(step, Send | Open | Read)
        step = course.advance(next(left) if is_asked else None)
    assert next(left, None) is None, "an outcome was not asked for"
    return course.value, steps


def pauses(steps: list[Step]) -> list[float]:
    return [step.seconds for step in steps if isinstance(step, Pause)]


# Errors


def test_every_kind_has_its_exception() -> None:
    statuses = {
        "invalid": 400,
        "unauthenticated": 401,
        "forbidden": 403,
        "not_found": 404,
        "conflict": 409,
        "too_large": 413,
        "timeout": 504,
        "unsupported": 501,
        "data_loss": 500,
        "internal": 500,
    }
    for kind, status in statuses.items():
        body = refusal(kind, causes=["because", "of that"], hint="do this")
        with pytest.raises(errors.KINDS[kind]) as caught:
            play(_exchange.ask(Call("GET", ("x",))), [answer(status, body)])
        error = caught.value
        assert isinstance(error, corral.CorralError)
        assert (error.kind, error.hint) == (kind, "do this")
        assert str(error) == f"it is {kind}: because: of that\nhint: do this"
    assert set(errors.KINDS) - set(statuses) == {"exhausted", "unavailable"}


def test_foreign_and_new_errors_are_told_too() -> None:
    foreign = errors.error_from_answer(502, b"<html>" + b"x" * 1000, had_token=True)
    assert isinstance(foreign, corral.UnavailableError)
    assert "502: <html>x" in str(foreign) and len(str(foreign)) < 500
    new = errors.error_from_answer(418, b'{"error": {"kind": "teapot"}}', had_token=True)
    assert (type(new), new.kind) == (corral.InternalError, "teapot")
    untold = errors.error_from_answer(
        401, json.dumps(refusal("unauthenticated")).encode(), had_token=False
    )
    assert untold.hint is not None and "CORRAL_TOKEN" in untold.hint


def test_a_server_that_is_not_there_says_how_to_start_one() -> None:
    with pytest.raises(corral.UnavailableError) as caught:
        corral.connect("http://127.0.0.1:9").whoami()
    assert "http://127.0.0.1:9" in str(caught.value)
    assert "corral up" in str(caught.value.hint)


# Retries


def test_what_is_full_is_asked_again_when_the_server_says() -> None:
    full = answer(429, refusal("exhausted"), retry_after="2")
    for call in (Call("GET", ("x",)), Call("POST", ("x",), is_idempotent=False)):
        found, steps = play(_exchange.ask(call), [full, full, answer(200, "yes")])
        assert found.json() == "yes"
        assert pauses(steps) == [2.0, 2.0]
    with pytest.raises(corral.ExhaustedError):
        play(_exchange.ask(Call("GET", ("x",))), [full] * _exchange.MAX_ATTEMPTS)
    with pytest.raises(corral.ExhaustedError):
        play(
            _exchange.ask(Call("GET", ("x",))),
            [answer(429, refusal("exhausted"), retry_after="900")],
        )


def test_pauses_grow_and_are_spread() -> None:
    found, steps = play(
        _exchange.ask(Call("GET", ("x",)), draw=lambda: 0.5),
        [lost(was_sent=True)] * 4 + [answer(200)],
    )
    assert found.status == 200
    assert pauses(steps) == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert _exchange.back_off_seconds(1, 0.0) < _exchange.back_off_seconds(1, 1.0)


def test_only_what_is_safe_is_sent_again() -> None:
    unsafe = Call("POST", ("x",), is_idempotent=False)
    with pytest.raises(corral.UnavailableError):
        play(_exchange.ask(unsafe), [lost(was_sent=True)])
    play(_exchange.ask(unsafe), [lost(was_sent=False), answer(200)])
    with pytest.raises(corral.UnavailableError):
        play(_exchange.ask(unsafe), [answer(503, refusal("unavailable"), retry_after="1")])
    keyed = _exchange.creating(unsafe)
    _, steps = play(_exchange.ask(keyed), [lost(was_sent=True), answer(200)])
    keys = {step.call.headers["idempotency-key"] for step in steps if isinstance(step, Send)}
    assert len(keys) == 1, "a repeated request carries the same key"
    play(_exchange.ask(keyed), [lost(was_sent=True), answer(409, refusal("conflict")), answer(200)])
    with pytest.raises(corral.ConflictError):
        play(_exchange.ask(keyed), [answer(409, refusal("conflict"))])
    once = Call("POST", ("x",), body=_exchange.Body(lambda: iter([b""]), can_reopen=False))
    with pytest.raises(corral.UnavailableError):
        play(_exchange.ask(once), [lost(was_sent=False)])
    late = _exchange.took_too_long("http://here", "")
    with pytest.raises(corral.DeadlineError):
        play(_exchange.ask(Call("GET", ("x",))), [late])


def test_lists_are_read_page_by_page() -> None:
    from corral._operations.jobs import listing

    jobs, steps = play(
        listing("running"),
        [answer(200, {"items": [JOB], "next": "c"}), answer(200, {"items": [ENDED]})],
    )
    assert [job.state for job in jobs] == ["running", "succeeded"]
    queries = [step.call.params for step in steps if isinstance(step, Send)]
    assert queries[0] == {"state": "running", "limit": "1000"}
    assert queries[1]["after"] == "c"


class Flaky(BaseHTTPRequestHandler):
    """Answers 429 first, then breaks a connection, then answers."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.path, self.headers.get("idempotency-key", "")))
        if len(self.seen) == 1:
            self.reply(429, refusal("exhausted"), {"retry-after": "0"})
        elif len(self.seen) == 2:
            self.close_connection = True
        else:
            self.reply(200, JOB, {})

    def reply(self, status: int, body: object, headers: dict[str, str]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers | {"content-length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.anyio
async def test_a_training_is_submitted_once_over_a_bad_line(kind: str) -> None:
    Flaky.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        if kind == "sync":
            with corral.connect(url, "t") as client:
                assert client.train("m", "d").id == "job-1"
        else:
            async with corral.AsyncClient(url, "t") as twin:
                assert (await twin.train("m", "d")).id == "job-1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert len(Flaky.seen) == 3
    assert len(set(Flaky.seen)) == 1 and Flaky.seen[0][1]


# Events

STREAM = (
    'id: 1\nevent: submitted\ndata: {"a":\ndata: 1}\n\n: comment\n\nid: 2\nretry: 5\r\n'
    'event:progress\r\ndata: {"message": "é→𝄞"}\r\n\r\ndata: {"id": "stays"}\n\nevent: empty\n\n'
).encode()
EVENTS = [
    ServerEvent("1", "submitted", '{"a":\n1}'),
    ServerEvent("2", "progress", '{"message": "é→𝄞"}'),
    ServerEvent("2", "", '{"id": "stays"}'),
]


def test_events_come_out_whole_wherever_the_bytes_are_cut() -> None:
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    for _ in range(500):
        parser, events, at = EventParser(), [], 0
        while at < len(STREAM):
            size = draw.randint(1, draw.choice([1, 3, 20, 200]))
            events += parser.feed(STREAM[at : at + size])
            at += size
        assert events == EVENTS, f"seed {seed}"


def test_any_bytes_are_parsed_or_refused() -> None:
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    for _ in range(300):
        stream = bytes(draw.choices(b"id:eventdata \r\n\x00\xff{}1", k=400))
        whole = EventParser().feed(stream)
        parser = EventParser()
        cut = draw.randrange(len(stream))
        assert parser.feed(stream[:cut]) + parser.feed(stream[cut:]) == whole, f"seed {seed}"


def test_an_endless_event_is_refused() -> None:
    parser = EventParser()
    parser.feed(b"data:" + b"x" * (_events.MAX_EVENT_BYTES - 5))
    with pytest.raises(corral.InternalError, match="more than"):
        parser.feed(b"xx")


def frame(number: int, name: str) -> bytes:
    return f'id: {number}\nevent: {name}\ndata: {{"id": {number}}}\n\n'.encode()


def test_following_resumes_where_it_broke_off() -> None:
    _, steps = play(
        follow("job-1"),
        [
            answer(200),
            frame(1, "submitted") + frame(2, "progress")[:-5],
            lost(was_sent=True),
            answer(200, JOB),
            answer(200),
            frame(2, "progress"),
            b"",
            *[lost(was_sent=False)] * _exchange.MAX_ATTEMPTS,  # the server is away
            lost(was_sent=False),
            answer(200, JOB),
            answer(503, refusal("unavailable")),
            answer(200, JOB),
            answer(200),
            frame(3, "ended"),
        ],
    )
    assert [step.id for step in steps if isinstance(step, JobEvent)] == [1, 2, 3]
    opened = [step.call.headers.get("last-event-id") for step in steps if isinstance(step, Open)]
    assert opened == [None, "1", "2", "2", "2"]


def test_following_ends_where_the_end_was_not_told() -> None:
    _, steps = play(follow("job-1", 9), [answer(200), b"", answer(200, ENDED)])
    assert not pauses(steps)


def test_following_a_job_that_is_not_there_fails_at_once() -> None:
    with pytest.raises(corral.NotFoundError):
        play(follow("job-1"), [answer(404, refusal("not_found"))])
    with pytest.raises(corral.UnavailableError):
        play(follow("job-1"), [lost(was_sent=False)] * (1 + _exchange.MAX_ATTEMPTS))


# Answers, units, settings


def test_answers_are_read_by_their_shape() -> None:
    job = decode(JobDetail, JOB)
    assert job.created == datetime(2026, 11, 21, 20, 13, 36, 946000, timezone.utc)
    assert job.ended is None and job.error is None
    failed = decode(JobDetail, JOB | {"error": {"kind": "exhausted", "message": "full"}})
    assert failed.error is not None and failed.error.causes == []
    refused = decode(Prediction, {"labels": [], "refusal": {"score": 1, "refused": True}})
    assert refused.refused and refused.label is None and refused.probability is None
    with pytest.raises(corral.InternalError, match="as JobDetail.name"):
        decode(JobDetail, JOB | {"name": 3})
    with pytest.raises(corral.InternalError, match="lacks"):
        decode(JobDetail, {"id": "x"})


def test_times_are_read_with_any_fraction() -> None:
    for text, micros in [
        ("20:13:38Z", 0),
        ("20:13:38.5Z", 500_000),
        ("20:13:38.123456789Z", 123_456),
    ]:
        assert parse_time(f"2026-11-21T{text}").microsecond == micros


def test_lengths_of_time_and_sizes_are_read() -> None:
    lengths: dict[_units.Duration, int] = {
        90: 90,
        "90": 90,
        "90s": 90,
        "5m": 300,
        "48h": 172_800,
        0.2: 1,
        timedelta(minutes=2): 120,
    }
    for length, seconds in lengths.items():
        assert _units.seconds(length) == seconds
    short: dict[_units.Duration, int] = {"0.5ms": 500, "800us": 800, "2µs": 2, 1: 1_000_000}
    for length, micros in short.items():
        assert _units.microseconds(length) == micros
    sizes: dict[_units.Size, int] = {"512MiB": 512 << 20, "1.5 GiB": 3 << 29, "2kB": 2000, 7: 7}
    for size, count in sizes.items():
        assert _units.size_bytes(size) == count
    wrong: list[Callable[[], object]] = [
        lambda: _units.seconds("5y"),
        lambda: _units.seconds(0),
        lambda: _units.seconds("-5m"),
        lambda: _units.size_bytes("many"),
    ]
    for reading in wrong:
        with pytest.raises(corral.InvalidError):
            reading()


def test_trainings_are_written_in_the_units_of_the_api() -> None:
    body = train_body("m", "d@3", None, {"budget": "2m", "memory": "1GiB", "max_latency": "0.5ms"})
    assert body == {
        "model": "m",
        "dataset": "d@3",
        "budget_seconds": 120,
        "memory_bytes": 1 << 30,
        "max_latency_us": 500,
    }
    with pytest.raises(TypeError, match="did you mean `budget`"):
        train_body("m", "d", None, {"budgets": 3})  # type: ignore[typeddict-unknown-key]


def test_versions_stand_behind_the_name() -> None:
    assert name_and_version("m") == ("m", None)
    assert name_and_version("m@3") == name_and_version("m", 3) == ("m", 3)
    for name, version in [("m@x", None), ("m@3", 4)]:
        with pytest.raises(corral.InvalidError):
            name_and_version(name, version)


def test_the_server_is_found_as_the_command_line_finds_it(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[client]\nurl = "http://file:1"\ntoken = "of-file"\n[up]\nlisten = "x"\n')
    environment = {"CORRAL_CONFIG": str(config), "CORRAL_URL": "http://environment:2"}
    if sys.version_info >= (3, 11):
        given = find_settings("http://given:3/", None, environment)
        assert (given.url, given.token) == ("http://given:3", "of-file")
        assert find_settings(None, "t", environment).url == "http://environment:2"
        assert find_settings(None, None, {"CORRAL_CONFIG": str(config)}).url == "http://file:1"
    else:
        with pytest.warns(UserWarning, match="reads no TOML"):
            assert find_settings(None, "t", environment).url == "http://environment:2"
    assert find_settings(None, None, {"HOME": str(tmp_path)}).url == "http://127.0.0.1:8400"
    for url in ("127.0.0.1:8400", "ftp://x", "http://"):
        with pytest.raises(corral.InvalidError, match="is not a URL"):
            find_settings(url, None, {"CORRAL_CONFIG": "/dev/null"})

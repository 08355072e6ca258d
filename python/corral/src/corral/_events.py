"""Server-sent events (HTML Living Standard, "Server-sent events"), and following a job by them."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace

from ._decode import decode
from ._exchange import Answer, ConnectionFailed, Open, Operation, Pause, Read, ask_json, get
from .errors import ExhaustedError, InternalError, UnavailableError, error_from_answer
from .types import JobDetail, JobEvent

# The longest event that is read: a server that sends more is not Corral.
MAX_EVENT_BYTES = 4 << 20
# The server gives a sign of life every 15 seconds; after four missed ones the stream is dead.
SILENCE_SECONDS = 60.0
# How often a broken stream is opened anew: two minutes of a server that is away.
MAX_RECONNECTS = 120
RECONNECT_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class ServerEvent:
    """One event as the stream has it."""

    id: str = ""
    name: str = ""
    data: str = ""


class EventParser:
    """Takes events out of the bytes of a stream, wherever the bytes are cut."""

    def __init__(self) -> None:
        self._rest = b""
        self._id = ""
        self._name = ""
        self._data: list[str] = []
        self._data_bytes = 0

    def feed(self, block: bytes) -> list[ServerEvent]:
        """The events that `block` completes."""
        events = []
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            event = self._line(line.rstrip(b"\r").decode("utf-8", "replace"))
            if event is not None:
                events.append(event)
        if len(self._rest) + self._data_bytes > MAX_EVENT_BYTES:
            raise InternalError(f"the server sent an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            # The id stays in force until another is given.
            event = ServerEvent(self._id, self._name, "\n".join(self._data))
            self._name, self._data, self._data_bytes = "", [], 0
            return event if event.data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
            self._data_bytes += len(value)
        return None


def job_event(event: ServerEvent) -> JobEvent:
    """The event of a job that a server-sent event tells of."""
    try:
        fields = json.loads(event.data)
        number = int(event.id)
    except ValueError:
        raise InternalError(f"the server sent {event.data[:100]!r} as an event") from None
    return JobEvent(number, event.name, fields if isinstance(fields, dict) else {})


def show_job(job: str) -> Operation[JobDetail]:
    """A job as it is now."""
    return decode(JobDetail, (yield from ask_json(get("v1", "jobs", job))))


@dataclass
class _Position:
    """How far a job's events were read."""

    last: int
    was_connected: bool = False
    has_ended: bool = False


def follow(job: str, after: int = 0) -> Operation[None]:
    """Yields a job's events after the given one until the job has ended; a stream that breaks
    off is resumed after the last event seen."""
    position, reconnects = _Position(after), 0
    while not position.has_ended:
        before = position.last
        with contextlib.suppress(ConnectionFailed):
            yield from _events_of_one_stream(job, position)
        if position.has_ended:
            return
        if position.last > before:
            reconnects = 0
        try:
            detail = yield from show_job(job)
            if detail.ended is not None and position.last == before:
                return
        except UnavailableError:
            if not position.was_connected or reconnects >= MAX_RECONNECTS:
                raise
        reconnects += 1
        yield Pause(RECONNECT_PAUSE_SECONDS)


def _events_of_one_stream(job: str, position: _Position) -> Operation[None]:
    headers = {"accept": "text/event-stream"}
    if position.last:
        headers["last-event-id"] = str(position.last)
    call = get("v1", "jobs", job, "events")
    call = replace(call, headers=headers, read_timeout_seconds=SILENCE_SECONDS)
    parser = EventParser()
    answer: Answer = yield Open(call)
    if answer.status >= 400:
        error = error_from_answer(answer.status, answer.content, had_token=answer.had_token)
        if isinstance(error, UnavailableError | ExhaustedError):
            return
        raise error
    position.was_connected = True
    while True:
        block: bytes = yield Read()
        if not block:
            return
        for event in map(job_event, parser.feed(block)):
            position.last = event.id
            yield event
            if event.name == "ended":
                position.has_ended = True
                return

"""Requests and answers without I/O.

What the package does with a server is written once, as an *operation*: a generator that yields
steps ("send this", "wait so long"), is sent their outcomes, and returns the result. The sync and
the async client perform the same steps; neither decides anything.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar
from urllib.parse import quote

from .errors import CorralError, DeadlineError, UnavailableError, error_from_answer
from .types import JobEvent

T = TypeVar("T")

# How often a request is sent at most. With the pauses below, about a second and a half of a
# server that is being restarted.
MAX_ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.1
# The longest that `Retry-After` may make a caller wait; a server that asks for more is told of.
MAX_RETRY_AFTER_SECONDS = 30.0

CONFLICT = 409
TOO_MANY_REQUESTS = 429
SERVICE_UNAVAILABLE = 503


@dataclass(frozen=True)
class Body:
    """Bytes on their way to the server. `open` begins them; where `can_reopen`, more than once."""

    open: Callable[[], Iterator[bytes]]
    content_type: str = "application/octet-stream"
    can_reopen: bool = True
    length: int | None = None


def json_body(value: object) -> Body:
    """A small body, whole in memory."""
    try:
        data = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        # Lone surrogates have no UTF-8; escaped they reach the server, which says what it thinks.
        data = json.dumps(value, allow_nan=False).encode()
    return Body(lambda: iter([data]), "application/json", length=len(data))


class Sink(Protocol):
    """Where a download goes."""

    def begin(self) -> None:
        """Starts from nothing; called again when the download is."""

    def write(self, block: bytes, /) -> object: ...


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: tuple[str, ...]
    query: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    # Whether the server does the same if it gets the request twice.
    is_idempotent: bool = True
    sink: Sink | None = None
    read_timeout_seconds: float | None = None

    @property
    def target(self) -> str:
        """The path, its segments escaped one by one."""
        return "/" + "/".join(quote(segment, safe="") for segment in self.path)

    @property
    def params(self) -> dict[str, str]:
        """The query without what is `None`."""
        return {key: _written(value) for key, value in self.query.items() if value is not None}


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def get(*path: str, **query: object) -> Call:
    return Call("GET", path, query)


def delete(*path: str, **query: object) -> Call:
    return Call("DELETE", path, query)


def put(*path: str, json: object) -> Call:
    return Call("PUT", path, body=json_body(json))


def creating(call: Call) -> Call:
    """The call with a key by which the server creates once, however often it is sent."""
    key = {"idempotency-key": uuid.uuid4().hex}
    return replace(call, headers={**call.headers, **key}, is_idempotent=True)


@dataclass(frozen=True)
class Answer:
    """What came back. `content` is empty where it went into the call's sink."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    had_token: bool

    def json(self) -> Any:
        try:
            return json.loads(self.content)
        except ValueError:
            raise error_from_answer(self.status, self.content, had_token=True) from None


class ConnectionFailed(Exception):
    """A request that got no answer. `was_sent` is false where the server never saw it."""

    def __init__(self, error: CorralError, *, was_sent: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.was_sent = was_sent


@dataclass(frozen=True)
class Send:
    """Send the call and read the whole answer. Outcome: `Answer`."""

    call: Call


@dataclass(frozen=True)
class Open:
    """Send the call and leave its answer open. Outcome: `Answer`, whole if it is an error."""

    call: Call


@dataclass(frozen=True)
class Read:
    """The next block of the answer left open. Outcome: `bytes`, empty at the end."""


@dataclass(frozen=True)
class Pause:
    """Wait. Outcome: nothing."""

    seconds: float


# A `JobEvent` among the steps is not to be performed but handed to whoever iterates.
Step: TypeAlias = "Send | Open | Read | Pause | JobEvent"
Outcome: TypeAlias = "Answer | bytes | ConnectionFailed | None"
Operation: TypeAlias = Generator[Step, Any, T]


class Course(Generic[T]):
    """An operation under way."""

    value: T

    def __init__(self, operation: Operation[T]) -> None:
        self._operation = operation

    def advance(self, outcome: Outcome) -> Step | None:
        """Hands in the outcome of the step before (at first `None`) and gives the next step;
        `None` once `value` is there."""
        try:
            if isinstance(outcome, ConnectionFailed):
                return self._operation.throw(outcome)
            return self._operation.send(outcome)
        except StopIteration as end:
            self.value = end.value
            return None

    def close(self) -> None:
        """Ends the operation where it stands, if it has not ended."""
        self._operation.close()


def unreachable(url: str, reason: str, *, was_sent: bool) -> ConnectionFailed:
    """The failure of a request to a server that cannot be reached, or went away."""
    error = UnavailableError(
        f"ask the server at {url}",
        causes=[reason],
        hint="start one with `corral up`, or name a running one by `url` or CORRAL_URL",
    )
    return ConnectionFailed(error, was_sent=was_sent)


def took_too_long(url: str, reason: str) -> ConnectionFailed:
    """The failure of a request that was not answered in the time that the client gives."""
    error = DeadlineError(
        f"wait for an answer of the server at {url}",
        causes=[reason or "nothing came in the time given"],
        hint="give `connect` a longer `timeout`",
    )
    return ConnectionFailed(error, was_sent=True)


def back_off_seconds(attempt: int, draw: float) -> float:
    """The pause after the given attempt, from 1 on; `draw` from 0 to 1 spreads clients out."""
    return float(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * (0.75 + draw / 2))


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """The pause that the server asks for."""
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None


def ask(call: Call, draw: Callable[[], float] = random.random) -> Operation[Answer]:
    """Sends a call, again where that can help, and gives its answer or raises its error."""
    can_resend = call.body is None or call.body.can_reopen
    for attempt in range(1, MAX_ATTEMPTS + 1):
        is_last = attempt == MAX_ATTEMPTS or not can_resend
        try:
            answer: Answer = yield Send(call)
        except ConnectionFailed as failure:
            is_repeat_safe = call.is_idempotent or not failure.was_sent
            if is_last or not is_repeat_safe or isinstance(failure.error, DeadlineError):
                raise failure.error from failure.__cause__
            yield Pause(back_off_seconds(attempt, draw()))
            continue
        if answer.status < 400:
            return answer
        pause = _pause_before_retry(call, answer, attempt)
        if is_last or pause is None:
            raise error_from_answer(answer.status, answer.content, had_token=answer.had_token)
        yield Pause(max(pause, back_off_seconds(attempt, draw())))
    raise AssertionError("the last attempt returns or raises")


def _pause_before_retry(call: Call, answer: Answer, attempt: int) -> float | None:
    """How long to wait before the same request may succeed; `None` where it will not."""
    if answer.status == CONFLICT and attempt > 1 and "idempotency-key" in call.headers:
        # The first sending may still be at work under the same key.
        return 0.0
    # 429 says that nothing was done, whatever the request.
    if answer.status != TOO_MANY_REQUESTS and not (
        answer.status == SERVICE_UNAVAILABLE and call.is_idempotent
    ):
        return None
    pause = retry_after_seconds(answer.headers)
    if pause is None:
        return 0.0 if answer.status == TOO_MANY_REQUESTS else None
    return pause if pause <= MAX_RETRY_AFTER_SECONDS else None


def ask_json(call: Call) -> Operation[Any]:
    """The JSON of the answer."""
    answer = yield from ask(call)
    return answer.json()

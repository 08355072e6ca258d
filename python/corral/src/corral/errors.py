"""What can go wrong, as exceptions: one class for each kind of error that a server tells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .types import FunctionCall, JobDetail

# The most of an error's body that is shown when it is not Corral's.
FOREIGN_ERROR_CHARS = 300


class CorralError(Exception):
    """Anything that Corral refuses or fails at. Catch this to catch all of them."""

    kind: str
    """The server's word for the kind of error, such as `not_found`."""
    message: str
    """What was tried, and on what."""
    causes: list[str]
    """Why, outermost first."""
    hint: str | None
    """What to do about it."""

    default_kind: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        causes: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind or self.default_kind
        self.message = message
        self.causes = list(causes)
        self.hint = hint

    def __str__(self) -> str:
        text = ": ".join([self.message, *self.causes])
        return f"{text}\nhint: {self.hint}" if self.hint else text


class InvalidError(CorralError):
    """The request itself is wrong; the same request fails again."""

    default_kind = "invalid"


class UnauthenticatedError(CorralError):
    """No token, or one that the server does not know."""

    default_kind = "unauthenticated"


class ForbiddenError(CorralError):
    """A known token without the right."""

    default_kind = "forbidden"


class NotFoundError(CorralError):
    """The named thing does not exist, or not in this workspace."""

    default_kind = "not_found"


class ConflictError(CorralError):
    """The thing exists already, or is in a state that does not allow this."""

    default_kind = "conflict"


class TooLargeError(CorralError):
    """Larger than a limit that the message names."""

    default_kind = "too_large"


class ExhaustedError(CorralError):
    """A quota or queue is full at the moment. It was tried again before this was raised."""

    default_kind = "exhausted"


class DeadlineError(CorralError):
    """It took longer than it was given."""

    default_kind = "timeout"


class UnavailableError(CorralError):
    """The server is not reached, or does not serve this at the moment."""

    default_kind = "unavailable"


class UnsupportedError(CorralError):
    """This server does not do that."""

    default_kind = "unsupported"


class DamagedError(CorralError):
    """Stored bytes are damaged."""

    default_kind = "data_loss"


class InternalError(CorralError):
    """A defect of the server, or a failure of its machine."""

    default_kind = "internal"


class JobFailed(CorralError):
    """A job ended without a result. `kind` says how, `job` is the job as it ended."""

    job: JobDetail

    def __init__(self, job: JobDetail) -> None:
        error = job.error
        message = f"the job {job.id} was {job.state}"
        causes: list[str] = []
        if error is not None:
            message = f"the job {job.id} has ended as {job.state}: {error.message}"
            causes = error.causes
        hint = error.hint if error is not None else None
        super().__init__(
            message,
            kind=error.kind if error is not None else "conflict",
            causes=causes,
            hint=hint or f"`corral job logs {job.id}`, or the job's `logs()`, shows what it wrote",
        )
        self.job = job


class CallFailed(CorralError):
    """A call of a function did not succeed: it raised, took too long, or was cancelled. `call` is
    the call as it ended; `call.error.traceback` is the function's own."""

    call: FunctionCall

    def __init__(self, call: FunctionCall) -> None:
        error = call.error
        status = "failure" if error is None else error.status
        super().__init__(
            f"the call {call.id} ended with {status}",
            kind="timeout" if status == "timeout" else "invalid",
            causes=[error.exception] if error is not None and error.exception else [],
        )
        self.call = call


KINDS: dict[str, type[CorralError]] = {
    error.default_kind: error
    for error in (
        InvalidError,
        UnauthenticatedError,
        ForbiddenError,
        NotFoundError,
        ConflictError,
        TooLargeError,
        ExhaustedError,
        DeadlineError,
        UnavailableError,
        UnsupportedError,
        DamagedError,
        InternalError,
    )
}


def error_from_answer(status: int, body: bytes, *, had_token: bool) -> CorralError:
    """The exception that an answer with an error status stands for."""
    told = _told(body)
    if told is None:
        start = body.decode("utf-8", "replace")[:FOREIGN_ERROR_CHARS]
        return UnavailableError(
            f"the server answered {status}: {start}",
            hint="this does not look like a Corral server; check the URL",
        )
    kind = str(told.get("kind", "internal"))
    causes = told.get("causes")
    hint = told.get("hint")
    if hint is None and status == 401 and not had_token:
        hint = "give a token, or set CORRAL_TOKEN; `corral up` prints one at its first start"
    return KINDS.get(kind, InternalError)(
        str(told.get("message", status)),
        kind=kind,
        causes=[str(cause) for cause in causes] if isinstance(causes, list) else [],
        hint=None if hint is None else str(hint),
    )


def _told(body: bytes) -> dict[str, object] | None:
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    error = parsed.get("error") if isinstance(parsed, dict) else None
    return error if isinstance(error, dict) else None

"""What a job's handle knows without asking, and the twins' shared documentation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from .errors import ConflictError, JobFailed
from .types import JobDetail

C = TypeVar("C")


class JobHandle:
    """A job as it was when the server was last asked."""

    detail: JobDetail
    """All that the server said of it."""

    def __init__(self, detail: JobDetail) -> None:
        self.detail = detail

    @property
    def id(self) -> str:
        """What names the job, also on the command line."""
        return self.detail.id

    @property
    def name(self) -> str:
        """For a training, the name of its model."""
        return self.detail.name

    @property
    def state(self) -> str:
        """`queued`, `running`, `succeeded`, `failed`, `cancelled`, `timed_out`, and others."""
        return self.detail.state

    @property
    def progress(self) -> float:
        """Done, of 1."""
        return self.detail.progress

    @property
    def ended(self) -> datetime | None:
        """When it ended."""
        return self.detail.ended

    @property
    def result(self) -> dict[str, Any]:
        """What came of it. Raises `JobFailed` where it failed, `ConflictError` before its end."""
        if self.detail.error is not None or self.detail.state in ("failed", "cancelled"):
            raise JobFailed(self.detail)
        if self.detail.ended is None:
            raise ConflictError(
                f"the job {self.id} is {self.state} and has no result yet",
                hint="call `wait()` first",
            )
        return dict(self.detail.result or {})

    @property
    def model(self) -> str:
        """The model that a training made, as `name@version`. Raises as `result` does."""
        result = self.result
        return f"{result['model']}@{result['version']}"

    @property
    def summary(self) -> str:
        """What a training says of its model, as text. Raises as `result` does."""
        return str(self.result.get("summary", ""))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, {self.state}, {self.progress:.0%})"

    def how_to_come_back(self) -> str:
        """What to tell someone who stops waiting."""
        return (
            f"the job {self.id} goes on; to come back to it:\n"
            f"  client.jobs.get({self.id!r}).wait()\n"
            f"  corral job events {self.id}"
        )


def ended_well(detail: JobDetail) -> JobDetail:
    """The job, if it succeeded; else its failure is raised."""
    if detail.state != "succeeded":
        raise JobFailed(detail)
    return detail


def documented_as(twin: type) -> Callable[[type[C]], type[C]]:
    """Gives the methods of an async class the documentation of their sync twins."""

    def document(cls: type[C]) -> type[C]:
        for name, member in vars(cls).items():
            if inspect.isfunction(member) and member.__doc__ is None:
                member.__doc__ = inspect.getdoc(getattr(twin, name, None))
        return cls

    return document

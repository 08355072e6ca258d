"""The progress of a job, drawn where a person watches: in a terminal or a notebook."""

from __future__ import annotations

import html
import shutil
import sys
import time
from typing import Any, Protocol, TextIO

from ._units import display_bytes, display_seconds
from .types import JobEvent

BAR_CELLS = 24
# A bar drawn more often than this is no more use to anybody.
REDRAW_SECONDS = 0.1


class Progress(Protocol):
    """Something that shows how far a job is."""

    def update(self, event: JobEvent) -> None: ...

    def close(self) -> None: ...


class JobLine:
    """What is known of a job from its events: a fraction and a line."""

    def __init__(self) -> None:
        self.fraction = 0.0
        self.line = ""

    def update(self, event: JobEvent) -> None:
        if event.name == "progress":
            self.fraction = min(1.0, max(0.0, float(event.fields.get("fraction", 0.0))))
            detail = event.fields.get("detail")
            message = str(event.fields.get("message", ""))
            self.line = progress_line(message, detail if isinstance(detail, dict) else {})
        elif event.name == "attempt_ended":
            self.line = str(event.fields.get("outcome", ""))
        else:
            self.line = _SAID.get(event.name, self.line)


_SAID = {
    "submitted": "waiting for memory and a worker",
    "started": "started",
    "completing": "registering the outputs",
}


def progress_line(message: str, detail: dict[str, Any]) -> str:
    """What a job says of itself in one line: its sentence and, where its detail has them, what
    runs, the best so far, the time left, and the memory it takes of what it may take."""
    parts = [message]
    if detail.get("trials_running"):
        parts.append(f"{detail['trials_running']} running")
    best, metric = detail.get("best"), detail.get("metric")
    if isinstance(best, float) and metric:
        parts.append(f"best {metric} {best:.4f}")
    left = detail.get("seconds_left")
    if isinstance(left, int | float):
        parts.append(f"{display_seconds(left)} left")
    memory, lease = detail.get("memory_bytes"), detail.get("memory_lease_bytes")
    if memory:
        of_lease = f" of {display_bytes(lease)}" if lease else ""
        parts.append(display_bytes(memory) + of_lease)
    return " · ".join(parts)


class Terminal:
    """A bar on the last line of a terminal, wiped when it is done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._job = JobLine()
        self._begin = time.monotonic()
        self._drawn = 0.0

    def update(self, event: JobEvent) -> None:
        self._job.update(event)
        now = time.monotonic()
        if now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            line = self.draw(now - self._begin, shutil.get_terminal_size().columns)
            self._stream.write(f"\r{line}\x1b[K")
            self._stream.flush()

    def draw(self, elapsed_seconds: float, columns: int) -> str:
        """The line as it stands now, no wider than the terminal."""
        full = round(self._job.fraction * BAR_CELLS)
        bar = "█" * full + "░" * (BAR_CELLS - full)
        line = f"{elapsed_seconds:3.0f}s {bar} {self._job.fraction:4.0%} {self._job.line}"
        return line if len(line) < columns else line[: max(0, columns - 2)] + "…"

    def close(self) -> None:
        self._stream.write("\r\x1b[K")
        self._stream.flush()


class Notebook:
    """A bar in the output of a notebook's cell."""

    def __init__(self, display: Any) -> None:
        self._job = JobLine()
        self._drawn = time.monotonic()
        self._handle = display(self._page(), raw=True, display_id=True)

    def update(self, event: JobEvent) -> None:
        self._job.update(event)
        if time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._draw()

    def close(self) -> None:
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._handle.update(self._page(), raw=True)

    def _page(self) -> dict[str, str]:
        line = self._job.line
        bar = f'<progress max="1" value="{self._job.fraction:.3f}"></progress>'
        return {
            "text/html": f"{bar} {self._job.fraction:.0%} {html.escape(line)}",
            "text/plain": f"{self._job.fraction:.0%} {line}",
        }


class Silent:
    """Nobody watches."""

    def update(self, event: JobEvent) -> None:
        pass

    def close(self) -> None:
        pass


def progress_for(*, is_wanted: bool) -> Progress:
    """A bar where a person would see it."""
    if not is_wanted:
        return Silent()
    display = _notebook_display()
    if display is not None:
        return Notebook(display)
    return Terminal(sys.stderr) if sys.stderr.isatty() else Silent()


def _notebook_display() -> Any:
    """The function by which a notebook's kernel shows things; `None` elsewhere."""
    # A kernel has imported IPython itself; nothing else needs it.
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    if running is None or not hasattr(running, "kernel"):
        return None
    from IPython.display import display

    return display

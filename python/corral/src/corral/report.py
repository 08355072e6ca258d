"""What the training of a model found out."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

# What the page may do where a notebook shows it. It holds texts of others: nothing in it may
# ask anything of anybody.
_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
)
_HEAD = "<head>"


class Report:
    """The report of a model version. In a notebook it shows itself as a page, with plots."""

    model: str
    """`name@version`."""
    json: dict[str, Any]
    """All of it: trials, ensemble, findings, advice, and what was expected against what it
    took."""
    html: str
    """The same as a page that needs nothing else."""

    def __init__(self, model: str, json: dict[str, Any], html: str) -> None:
        self.model = model
        self.json = json
        self.html = html

    @property
    def advice(self) -> list[str]:
        """What would help most, as sentences."""
        return [str(advice.get("message", "")) for advice in self.json.get("advice", [])]

    def save(self, path: str | Path) -> Path:
        """Writes the page to a file."""
        path = Path(path)
        path.write_text(self.html, encoding="utf-8")
        return path

    def __repr__(self) -> str:
        return f"Report({self.model!r})"

    def _repr_html_(self) -> str:
        page = self.html.replace(_HEAD, _HEAD + _POLICY, 1)
        return (
            f'<iframe sandbox="allow-scripts" title="report of {escape(self.model)}" '
            f'style="width: 100%; height: 40em; border: 0" srcdoc="{escape(page)}"></iframe>'
        )

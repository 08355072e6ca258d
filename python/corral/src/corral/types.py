"""What the server answers, as frozen dataclasses.

Times are `datetime` in UTC, sizes are bytes. `name@version` is how a version is referred to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = [
    "Class",
    "Column",
    "Dataset",
    "DatasetSummary",
    "DatasetVersion",
    "Encoder",
    "Endpoint",
    "EndpointVersion",
    "ErrorDetail",
    "ImportReport",
    "ImportedFile",
    "Info",
    "JobDetail",
    "JobEvent",
    "Label",
    "LogLine",
    "Match",
    "Model",
    "ModelSummary",
    "Prediction",
    "Quantile",
    "Refusal",
    "Run",
    "Split",
    "Taxonomy",
    "TaxonomySummary",
    "UnknownLabel",
    "Usage",
]


@dataclass(frozen=True)
class Info:
    """Who the token says you are, and the server's version."""

    workspace: str
    scopes: list[str]
    version: str


@dataclass(frozen=True)
class DatasetSummary:
    """A data set in a list, with its newest version."""

    name: str
    id: str
    version: int
    rows: int
    bytes: int
    created: datetime


@dataclass(frozen=True)
class Column:
    """A column of a data set and its type."""

    name: str
    type: str


@dataclass(frozen=True)
class Split:
    """A split and its rows; the name is empty for rows without one."""

    name: str
    rows: int


@dataclass(frozen=True)
class Quantile:
    """A percentile of text length, in characters."""

    percent: float
    value: int


@dataclass(frozen=True)
class DatasetVersion:
    """One version in a data set's history."""

    version: int
    rows: int
    created: datetime
    note: str


@dataclass(frozen=True)
class ImportedFile:
    """A file of an import and how it was read."""

    file: str
    rows: int
    read_as: str


@dataclass(frozen=True)
class ImportReport:
    """What an import took in and what it left out."""

    rows_added: int
    bytes_read: int
    files: list[ImportedFile]
    skipped_rows: int
    problems: list[str]
    skipped_by_reason: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Dataset:
    """A version of a data set: schema, sizes, classes and text lengths."""

    name: str
    id: str
    version: int
    manifest: str
    """The hash of the version's content."""
    created: datetime
    note: str
    rows: int
    bytes: int
    parts: int
    columns: list[Column]
    text_column: str
    multi_label: bool
    unlabelled_rows: int
    empty_texts: int
    duplicate_rows: int
    """Rows whose text, normalised, occurred in an earlier row."""
    splits: list[Split]
    classes: dict[str, int]
    """Rows by class."""
    text_chars: list[Quantile]
    versions: list[DatasetVersion]
    probabilistic_rows: int = 0
    """Rows that say how likely each of their labels is."""
    weighted_rows: int = 0
    """Rows with a weight of their own; those without count 1."""
    weightless_rows: int = 0
    """Rows of weight 0, from which nothing is learnt."""
    report: ImportReport | None = None
    """What the import took in; only in the answer of `create` and `append`."""

    @property
    def reference(self) -> str:
        """`name@version`, which stays this version when the data set moves on."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class TaxonomySummary:
    """A taxonomy in a list, with its newest version."""

    name: str
    id: str
    version: int
    classes: int
    created: datetime


@dataclass(frozen=True)
class Class:
    """A class of a taxonomy. `parent` is the id of the class above it."""

    id: str
    name: str
    parent: str | None = None
    description: str | None = None
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Taxonomy:
    """A version of a taxonomy with all its classes."""

    name: str
    id: str
    version: int
    hash: str
    created: datetime
    leaves: int
    levels: int
    classes: list[Class]

    @property
    def reference(self) -> str:
        """`name@version`, which stays this version when the taxonomy moves on."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class UnknownLabel:
    """A label of a data set that is no class, and the classes nearest to it by name."""

    label: str
    rows: int
    nearest: list[str]


@dataclass(frozen=True)
class Match:
    """How a data set's labels stand against a taxonomy."""

    known_labels: int
    known_rows: int
    unknown: list[UnknownLabel]


@dataclass(frozen=True)
class ErrorDetail:
    """Why something failed."""

    kind: str
    message: str
    causes: list[str] = field(default_factory=list)
    hint: str | None = None


@dataclass(frozen=True)
class JobDetail:
    """A job as it is at one moment."""

    id: str
    kind: str
    name: str
    state: str
    """`queued`, `running`, `succeeded`, `failed`, `cancelled`, `timed_out`, and steps between."""
    created: datetime
    attempts: int
    progress: float
    """Done, of 1."""
    message: str
    memory_request_bytes: int
    cpu_ms: int
    request: Any
    started: datetime | None = None
    ended: datetime | None = None
    peak_memory_bytes: int | None = None
    running_ms: int | None = None
    result: Any = None
    error: ErrorDetail | None = None


@dataclass(frozen=True)
class JobEvent:
    """Something that happened to a job."""

    id: int
    """Grows by one within the job, from 1."""
    name: str
    """`submitted`, `started`, `progress`, `checkpoint`, `ended` and others."""
    fields: dict[str, Any]
    """What came with it: for `progress` a `fraction`, a `message` and a `detail`."""


@dataclass(frozen=True)
class LogLine:
    """A line that a job wrote."""

    number: int
    at: datetime
    stream: str
    line: str


@dataclass(frozen=True)
class Run:
    """A trial of a search, in MLflow's terms."""

    run: int
    name: str
    status: str
    """`RUNNING`, `FINISHED`, `FAILED` or `KILLED`."""
    started: datetime
    ended: str
    """Empty while it runs."""
    params: dict[str, Any]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class ModelSummary:
    """A model in a list, with its newest version."""

    name: str
    id: str
    version: int
    bytes: int
    created: datetime
    metrics: dict[str, Any]
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Model:
    """A version of a model."""

    name: str
    id: str
    version: int
    hash: str
    bytes: int
    created: datetime
    classes: int
    members: int
    """How many trials were joined in it."""
    metrics: dict[str, Any]
    """Scores by where they were measured: `cv`, and `test` where there is such a split; `noted`
    are those that people set."""
    lineage: dict[str, Any]
    """The job, data set, taxonomy and code it comes from, and the endpoints that serve it."""
    versions: list[int]
    encoder: str | None = None
    """The encoder that it needs, by name."""
    tags: dict[str, str] = field(default_factory=dict)
    """What people say of the version."""
    metadata: dict[str, str] = field(default_factory=dict)
    """What its file tells of its origin, such as a `data_card`."""

    @property
    def reference(self) -> str:
        """`name@version`, which stays this version when the model moves on."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Encoder:
    """A sentence-embedding network that models may share."""

    name: str
    hash: str
    dimension: int
    bytes: int
    default: bool
    created: datetime


@dataclass(frozen=True)
class EndpointVersion:
    """A version of an endpoint, which never changes."""

    number: int
    created: datetime
    model: str | None = None
    """The model that answers; `None` where the answer is fixed."""
    model_version: int | None = None
    counts: dict[str, Any] | None = None
    """What it was asked since the server's start, from `endpoints.show` alone."""
    drift: dict[str, Any] | None = None
    """How its recent requests compare with its training, where that is watched."""


@dataclass(frozen=True)
class Endpoint:
    """A name that answers: its newest version, and where requests go."""

    name: str
    id: str
    created: datetime
    updated: datetime
    path: str
    model: str | None = None
    """The model of the newest version; `None` where its answer is fixed."""
    version: int | None = None
    """Which version of that model."""
    versions: list[EndpointVersion] = field(default_factory=list)
    """Oldest first."""
    aliases: dict[str, int] = field(default_factory=dict)
    """Aliases and the versions they stand for."""
    traffic: dict[str, Any] = field(default_factory=dict)
    """Where requests go that name no version, as the API writes it."""
    mirror: dict[str, Any] | None = None
    """The version that is asked as well, its answers thrown away."""
    last_canary: dict[str, Any] | None = None
    """How the last canary ended."""
    keep_warm: dict[str, Any] | None = None
    """When its models are kept open though nobody asks."""
    log: dict[str, Any] | None = None
    """What is kept of its requests."""
    drift: dict[str, Any] | None = None
    """How it is watched for drift."""


@dataclass(frozen=True)
class Usage:
    """What an endpoint used."""

    endpoint: str
    requests: int
    errors: int
    texts: int
    core_seconds: float
    """Time on a core."""
    memory_gib_hours: float
    """The size of its models' files times the time in which they were asked."""
    cost: float | None = None
    """By the prices that the server was told."""
    start: datetime | None = None
    """When the hour or the day began; `None` in totals."""


@dataclass(frozen=True)
class Label:
    """A class named by a model, and how probable it is."""

    id: str
    name: str
    probability: float


@dataclass(frozen=True)
class Refusal:
    """Whether a text is taken for none of the classes."""

    score: float
    """From 0 to 1: more where that is likelier."""
    refused: bool


@dataclass(frozen=True)
class Prediction:
    """What a model says of one text."""

    labels: list[Label]
    """The most probable classes first; empty when none passes the threshold, or the text is
    taken for none of the classes."""
    backed_off: Label | None = None
    """With `back_off`: the class that is probable enough, or the deepest above it that is."""
    refusal: Refusal | None = None
    """Of a model that was trained with rows of no class."""

    @property
    def label(self) -> str | None:
        """The id of the most probable class; `None` when none is named."""
        return self.labels[0].id if self.labels else None

    @property
    def probability(self) -> float | None:
        """How probable `label` is."""
        return self.labels[0].probability if self.labels else None

    @property
    def refused(self) -> bool:
        """Whether the text is taken for none of the classes."""
        return self.refusal is not None and self.refusal.refused

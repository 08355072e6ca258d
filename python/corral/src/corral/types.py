"""What the server answers, as frozen dataclasses.

Times are `datetime` in UTC, sizes are bytes. `name@version` is how a version is referred to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = [
    "App",
    "AppLogLine",
    "AppVersion",
    "CallError",
    "Class",
    "ClassPrecision",
    "Column",
    "Container",
    "Dataset",
    "DatasetSummary",
    "DatasetVersion",
    "Encoder",
    "Endpoint",
    "EndpointVersion",
    "ErrorDetail",
    "Function",
    "FunctionCall",
    "FunctionNow",
    "FunctionSettings",
    "FunctionUsage",
    "FunctionChanges",
    "FunctionList",
    "FunctionPair",
    "FunctionStatistics",
    "FunctionTest",
    "ImportReport",
    "ImportedFile",
    "Info",
    "InputCounts",
    "JobDetail",
    "JobEvent",
    "Label",
    "LabelingFunction",
    "LabelingRow",
    "LabelingStatistics",
    "LogLine",
    "Match",
    "Model",
    "ModelSummary",
    "Prediction",
    "Quantile",
    "Refusal",
    "Run",
    "Share",
    "Split",
    "Suggestion",
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
class App:
    """Python functions that were published together."""

    id: str
    description: str
    """What its client called it."""
    environment: str
    state: str
    """`initializing`, `ephemeral` (it ends with its client), `detached`, `deployed`, `stopped`."""
    version: int
    created: datetime
    client_version: str
    containers: int
    """How many it has now."""
    name: str | None = None
    """The name under which it was deployed."""
    deployed: datetime | None = None
    ended: datetime | None = None
    end_reason: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    """Their names, those of a class as `NAME.*`; empty in lists."""


@dataclass(frozen=True)
class AppVersion:
    """An app's functions as they counted from one moment on."""

    version: int
    created: datetime
    kind: str
    """`published`, `rollback` or `rollover`."""
    client_version: str
    functions: list[str]
    rolled_back_to: int | None = None
    tag: str = ""


@dataclass(frozen=True)
class AppLogLine:
    """A line that a container wrote, or that Corral says of it."""

    number: int
    at: datetime
    stream: str
    """`stdout`, `stderr`, or `system`."""
    text: str
    container: str | None = None
    function: str | None = None
    call: str | None = None


@dataclass(frozen=True)
class FunctionSettings:
    """What a function asks for; `None` where the server chooses."""

    gpus: int
    timeout_seconds: float
    min_containers: int
    max_containers: int
    buffer_containers: int
    scaledown_window_seconds: float
    max_concurrent_inputs: int
    retries: int
    snapshot: bool
    cpu: float | None = None
    memory_request_bytes: int | None = None
    memory_limit_bytes: int | None = None
    batch_max_size: int | None = None


@dataclass(frozen=True)
class FunctionNow:
    """A function at one moment."""

    backlog: int
    """Inputs that wait."""
    running_inputs: int
    containers: int
    starting_containers: int
    idle_containers: int


@dataclass(frozen=True)
class Function:
    """A Python function, or the methods of a class together."""

    app: str
    name: str
    id: str
    kind: str
    """`function` or `cls`."""
    client_version: str
    takes_json: bool
    """Whether it can be called from here."""
    settings: FunctionSettings
    now: FunctionNow


@dataclass(frozen=True)
class InputCounts:
    """How far the inputs of a call are."""

    total: int
    pending: int
    running: int
    succeeded: int
    failed: int
    timed_out: int
    cancelled: int


@dataclass(frozen=True)
class CallError:
    """Why a call did not succeed."""

    status: str
    """`failure`, `timeout`, `terminated`, `init_failure` or `internal_failure`."""
    exception: str
    """As Python writes it, or what happened in words."""
    retries: int
    traceback: str = ""
    container: str | None = None


@dataclass(frozen=True)
class FunctionCall:
    """A call of a function."""

    id: str
    function: str
    kind: str
    """`unary` or `map`."""
    state: str
    """`pending`, `running`, `succeeded`, `failed`, `timed_out` or `cancelled`."""
    created: datetime
    inputs: InputCounts
    started: datetime | None = None
    ended: datetime | None = None
    result: Any = None
    result_not_shown: str | None = None
    """Why the result of a call that succeeded is not here, and how to get at it."""
    error: CallError | None = None


@dataclass(frozen=True)
class Container:
    """Where a function runs."""

    id: str
    environment: str
    app: str
    app_id: str
    function: str
    function_id: str
    version: int
    state: str
    """`requested`, `starting`, `idle`, `busy` or `draining`."""
    requested: datetime
    inputs: list[str]
    """Those that it works on."""
    inputs_given: int
    started_from: str | None = None
    """`cold`, `template` or `snapshot`."""
    started: datetime | None = None


@dataclass(frozen=True)
class FunctionUsage:
    """What a function took since it was first defined."""

    app: str
    function: str
    function_id: str
    inputs_succeeded: int
    inputs_failed: int
    cpu_seconds: float
    memory_gib_seconds: float
    """Of the larger of requested and measured memory."""
    gpu_seconds: float
    container_seconds: float
    starts: int
    failed_starts: int
    cold_share: float | None = None
    """The part of the starts that were fresh processes."""
    cost: float | None = None
    """By the prices that the server was told."""


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


@dataclass(frozen=True)
class LabelingFunction:
    """A labeling function: its version counts its edits, `definition` is as it was written."""

    name: str
    version: int
    kind: str
    classes: list[str]
    definition: dict[str, Any]


@dataclass(frozen=True)
class FunctionList:
    """The labeling functions of a data set, and the classes that they vote for."""

    dataset: str
    version: int
    multi_label: bool
    classes: list[str]
    functions: list[LabelingFunction]
    taxonomy: str | None = None


@dataclass(frozen=True)
class FunctionChanges:
    """What an edit of functions did, by their names."""

    dataset: str
    version: int
    added: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: int
    classes: list[str]


@dataclass(frozen=True)
class Share:
    """A share of counted rows, with the range that it lies in with 95 %."""

    share: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class ClassPrecision:
    """A function on the gold rows of a class; `against` where it is about votes against it."""

    class_: str
    against: bool
    precision: Share | None = None
    recall: Share | None = None


@dataclass(frozen=True)
class FunctionStatistics:
    """What a function votes, as shares of all rows, and how often it is right on gold rows."""

    name: str
    kind: str
    votes: list[str]
    rows: int
    coverage: float
    overlap: float
    conflict: float
    accuracy: Share | None = None
    by_class: list[ClassPrecision] = field(default_factory=list)


@dataclass(frozen=True)
class FunctionPair:
    """Two functions: the rows that both vote on, and those where they contradict each other."""

    functions: list[str]
    both: int
    conflicts: int
    correlation: float
    redundant: bool


@dataclass(frozen=True)
class LabelingStatistics:
    """What the functions of a data set vote."""

    dataset: str
    version: int
    functions_version: int
    stage: str
    rows: int
    dataset_rows: int
    gold_rows: int
    coverage: float
    conflict: float
    classes: list[str]
    functions: list[FunctionStatistics]
    pairs: list[FunctionPair]
    took_ms: float


@dataclass(frozen=True)
class LabelingRow:
    """A row, what functions vote on it, its gold labels, and the likeliest classes."""

    row_id: int
    text: str
    votes: dict[str, str]
    gold: list[str]
    probabilities: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class FunctionTest:
    """What a function that is not kept would vote."""

    statistics: FunctionStatistics
    classes: list[str]
    rows: list[LabelingRow]


@dataclass(frozen=True)
class Suggestion:
    """A function that might be added: how often it is expected to be right, on what share of the
    rows it would vote, and on what share of those nothing is voted yet or votes contradict."""

    definition: dict[str, Any]
    coverage: float
    aimed: float
    precision: Share | None = None

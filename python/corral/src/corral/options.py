"""The keyword arguments of imports, trainings and predictions."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from ._units import Duration, Size


class ImportOptions(TypedDict, total=False):
    """How to read the rows of a data set. What is absent is found out from the data."""

    text: str
    """The column that holds the text."""
    label: str
    """The column that holds the label, a list of labels, or an object of labels and how likely
    each is, as in `{"billing": 0.7, "other": 0.3}`."""
    shares: str
    """The column that holds how likely each label of a row's list is: a list as long."""
    weight: str
    """The column that says what a row counts: 2 is as good as the row twice, 0 leaves it out."""
    split: str
    """The column that names the split of a row, such as `train` or `test`."""
    draw: Mapping[str, float] | str
    """Draws splits by a hash of the row, stratified by class: `{"test": 0.1}`."""
    seed: int
    """The seed of the draw."""
    on_error: Literal["fail", "skip"]
    """Whether a row that cannot be read refuses the import, or is left out and reported."""
    label_separator: str
    """Separates several labels within one field."""
    format: str
    """Of files: `csv`, `tsv`, `jsonl`, `parquet`, `arrow`, `xlsx` or `text`."""
    delimiter: str
    """Of files: one character, or `tab`."""
    encoding: str
    """Of files: `utf-8`, `utf-16le`, `utf-16be` or `windows-1252`."""
    header: Literal["present", "absent"]
    """Of files: whether the first line names the columns."""


class TrainOptions(TypedDict, total=False):
    """What a training may be told. Lengths of time are seconds, a `timedelta`, or texts such as
    `90s`; sizes are bytes, or texts such as `512MiB`."""

    trials: int
    """How many candidates to try."""
    budget: Duration
    """About how long the search shall take: as many candidates as take that long by estimate."""
    stop_after: Duration
    """When the search ends by the clock, with the best found by then."""
    task: Literal["auto", "any-of", "all-of"]
    """What several labels of a row mean: one is right and any will do, or each holds by itself."""
    metric: Literal["accuracy", "macro_f1", "log_loss", "top_5"]
    """What decides between candidates."""
    balanced: bool
    """Whether every class counts the same, however many rows it has."""
    none_label: str
    """The label of rows that belong to no class: the model learns from them what to refuse."""
    refusal_cost: float
    """How far refusals may lower the accuracy on rows of a class, as a share; 0.01 if absent."""
    encoder: str
    """`auto`, `none`, or an encoder's name."""
    replay: str
    """A model whose candidates are tried again instead of a search."""
    candidates: Sequence[Mapping[str, Any]]
    """Candidates to try instead of a search, each with `featurizer` and `learner`."""
    members: int
    """The members that the model may have at most."""
    model_size: Size
    """The weights that the model may hold at most."""
    max_latency: Duration
    """How long the model may take for one text at most, such as `0.5ms`, by estimate."""
    memory: Size
    """The memory the job asks for; estimated when absent."""
    seed: int
    """The seed of folds and orders; the same seed makes the same model."""
    cpu_hour_price: float
    """What a core costs for an hour, in any currency: the report reckons costs by it."""
    gib_hour_price: float
    """What a GiB of memory costs for an hour."""
    time_limit: Duration
    """When the job is ended by force; a day when absent."""


class PredictOptions(TypedDict, total=False):
    """What an endpoint may be asked beside the texts."""

    top_k: int
    """How many classes to name for each text; 1 when absent."""
    threshold: float
    """Classes less probable than this are not named."""
    prefix: str
    """Only classes whose id begins with this."""
    back_off: float
    """Asks also for the deepest class of the tree that is at least so probable."""
    answer_all: bool
    """Name classes also for texts that the model takes for none of them."""
    key: str
    """Decides the side of a split by key: the same key, the same version."""
    timeout_ms: int
    """How long the server may take for an answer, 600,000 at most; no limit when absent."""


class BatchOptions(TypedDict, total=False):
    """What an endpoint may be asked for the rows of a data set."""

    top_k: int
    """How many classes to name for each row, at most 100; 1 when absent."""
    threshold: float
    """Classes less probable than this are not named."""
    prefix: str
    """Only classes whose id begins with this."""
    back_off: float
    """Asks also for the deepest class of the tree that is at least so probable."""
    answer_all: bool
    """Name classes also for rows that the model takes for none of them."""
    column_prefix: str
    """What stands before the names of the answers' columns."""
    memory: Size
    """The memory the job asks for; by the model when absent."""
    time_limit: Duration
    """When the job is ended by force; never when absent."""


class LabelOptions(TypedDict, total=False):
    """How labels are made of what functions vote."""

    functions: int
    """The version of the functions; the newest when absent."""
    label_model: Literal["majority", "weighted", "dawid_skene", "moments", "triplets"]
    """The label model; chosen by gold rows or by agreement when absent."""
    prior: Mapping[str, float]
    """How frequent each class is; by gold rows where there are enough, else alike."""
    uncovered: Literal["leave", "prior"]
    """What becomes of rows that nothing is voted on; they stay without a label when absent."""
    ties: Literal["share", "leave", "first"]
    """What becomes of rows whose likeliest classes tie; they have equal shares when absent."""
    memory: Size
    """The memory the job asks for; estimated when absent."""
    time_limit: Duration
    """When the job is ended by force."""


class CanaryOptions(TypedDict, total=False):
    """How a version takes over step by step. A version is a number, `latest` or an alias."""

    to: str | int
    """The version that shall take over; the newest when absent."""
    by: Literal["weight", "key"]
    """Whether it gets a share of the requests, or of the keys."""
    steps: Sequence[float]
    """The percentages of the requests that it gets, step after step; 5, 25 and 50 when absent."""
    requests_per_step: int
    """The requests that it answers on each step; 200 when absent."""
    error_rate_above: float
    """What its rate of errors may be above the other's; 0.01 when absent."""
    latency_ratio: float
    """What its 95th percentile of latency may be as a multiple of the other's; 3 when absent."""
    agreement: float
    """The least part of texts on which both shall agree."""


class LogOptions(TypedDict, total=False):
    """What is kept of an endpoint's requests. What is absent stays as it was."""

    sample: float
    """The part of the requests that is kept; 1 when absent, 0 keeps nothing more."""
    masks: Sequence[str]
    """What is replaced in texts: `email`, `digits`, or regular expressions."""
    omit: Sequence[Literal["text", "key", "top_k"]]
    """Columns that are left empty."""
    keep_days: int
    """No row is kept longer; 30 at first."""
    max_size: Size
    """What the log may take on disk; 1 GiB at first."""


class DriftOptions(TypedDict, total=False):
    """When requests count as drifted. What is absent stays as it was."""

    bound: float
    """The largest population stability index that is within; 0.25 at first."""
    window_texts: int
    """Recent texts that are compared with the training; 1,000 at first."""
    webhook: str
    """A URL that is posted to when the bound is passed; empty for none."""
    webhook_secret: str
    """Signs what is posted, by HMAC-SHA256."""


def check_options(options: Mapping[str, object], known: Mapping[str, object], what: str) -> None:
    """Raises `TypeError` for an option that is none, with the nearest that is one."""
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            raise TypeError(f"{what} has no option `{name}`{hint}")

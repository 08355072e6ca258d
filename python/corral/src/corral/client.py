"""The client for ordinary code. `corral.AsyncClient` is its twin for `async` code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from ._drivers import SyncDriver
from ._events import follow, show_job
from ._frames import Texts
from ._handles import JobHandle, ended_well
from ._operations import datasets, endpoints, jobs, labeling, models, observing, taxonomies
from ._operations.common import Referred
from ._progress import progress_for
from ._settings import find_settings
from ._units import Duration
from .functions import Apps, Containers, Functions
from .options import (
    BatchOptions,
    CanaryOptions,
    DriftOptions,
    ImportOptions,
    LabelOptions,
    LogOptions,
    PredictOptions,
    TrainOptions,
)
from .report import Report
from .tables import Predictions, Runs, Table
from .types import (
    Dataset,
    DatasetSummary,
    Encoder,
    Endpoint,
    FunctionChanges,
    FunctionList,
    FunctionTest,
    Info,
    JobDetail,
    JobEvent,
    LabelingFunction,
    LabelingRow,
    LabelingStatistics,
    LogLine,
    Match,
    Model,
    ModelSummary,
    Prediction,
    Suggestion,
    Taxonomy,
    TaxonomySummary,
    Usage,
)

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow
    from typing_extensions import Unpack


class Client:
    """A server and the right to ask it. Threads may share one.

    `url` and `token` are found as the command line finds them: as given, else `CORRAL_URL` and
    `CORRAL_TOKEN`, else `[client]` in the configuration file (which Python reads from 3.11 on),
    else a server on this machine.
    `timeout` is how long one answer may take, in seconds; without one it may take as long as the
    work. What is refused for the moment (429), and what the network lost, is tried again where
    that can do no harm.
    """

    datasets: Datasets
    """Data sets: versions of rows with text, label, split and weight."""
    taxonomies: Taxonomies
    """Taxonomies: trees of classes."""
    labeling: Labeling
    """Labeling functions: what they vote, and labels made of it."""
    jobs: Jobs
    """Background work, such as trainings."""
    models: Models
    """What trainings make."""
    encoders: Encoders
    """Sentence-embedding networks that models may share."""
    endpoints: Endpoints
    """Names that answer."""
    apps: Apps
    """Python functions that were published together."""
    functions: Functions
    """Python functions, and calls of them."""
    containers: Containers
    """Where functions run."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        self._driver = SyncDriver(find_settings(url, token), timeout)
        self.datasets = Datasets(self._driver)
        self.taxonomies = Taxonomies(self._driver)
        self.labeling = Labeling(self._driver)
        self.jobs = Jobs(self._driver)
        self.models = Models(self._driver)
        self.encoders = Encoders(self._driver)
        self.endpoints = Endpoints(self._driver)
        self.apps = Apps(self._driver)
        self.functions = Functions(self._driver)
        self.containers = Containers(self._driver)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._driver.settings.url

    def whoami(self) -> Info:
        """Who the token says you are, and the server's version."""
        return self._driver.run(endpoints.whoami())

    def train(
        self,
        model: str,
        dataset: str | Referred | None = None,
        taxonomy: str | Referred | None = None,
        **options: Unpack[TrainOptions],
    ) -> Job:
        """Trains a model in the background, on a data set, on what a taxonomy says of its
        classes, or on both; a model of that name gets its next version. `options` are those of
        `TrainOptions`, such as `trials` and `budget`. Answers at once, with the job."""
        return Job(self._driver, self._driver.run(jobs.train(model, dataset, taxonomy, options)))

    def predict_rows(
        self,
        endpoint: str | Endpoint,
        dataset: str | Referred,
        to: str | None = None,
        format: str | None = None,
        **options: Unpack[BatchOptions],
    ) -> Job:
        """Asks an endpoint (`name`, `name/version` or `name/alias`) for every row of a data set in
        the background. The rows and their answers become the data set `to`, or a file of a
        `format`: `csv`, `jsonl`, `parquet` (when neither is said), `arrow` or `xlsx`, which
        `wait().download(path)` fetches. One version answers all rows, whatever is deployed
        meanwhile. `options` are those of `BatchOptions`. Answers at once, with the job."""
        name = endpoint if isinstance(endpoint, str) else endpoint.name
        return Job(self._driver, self._driver.run(jobs.batch(name, dataset, to, format, options)))

    def runs(self, job: str | JobHandle) -> Runs:
        """The trials of a training job, as a table."""
        return self._driver.run(jobs.runs(job if isinstance(job, str) else job.id))

    def deploy(
        self, model: str | Referred, name: str | None = None, alias: str | None = None
    ) -> Endpoint:
        """As `endpoints.deploy`."""
        return self.endpoints.deploy(model, name, alias)

    @overload
    def predict(
        self, endpoint: str | Endpoint, texts: str, **options: Unpack[PredictOptions]
    ) -> Prediction: ...

    @overload
    def predict(
        self, endpoint: str | Endpoint, texts: Texts, **options: Unpack[PredictOptions]
    ) -> Predictions: ...

    def predict(
        self, endpoint: str | Endpoint, texts: str | Texts, **options: Unpack[PredictOptions]
    ) -> Prediction | Predictions:
        """As `endpoints.predict`."""
        return self.endpoints.predict(endpoint, texts, **options)

    def close(self) -> None:
        """Closes the connections. A `with` block does it by itself."""
        self._driver.http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"


class Datasets:
    """`client.datasets`."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver

    def create(self, name: str, source: Any, **options: Unpack[ImportOptions]) -> Dataset:
        """Makes a data set of a pandas or polars frame, a pyarrow table or reader, dicts (one a
        row), a file's path, several paths, or a dict from split to any of these. `options` are
        those of `ImportOptions`, such as `text="subject", label="queue"`.

        Frames are sent as Parquet where pyarrow is installed, else as JSON lines, in bounded
        memory. An import happens whole or not at all; the answer's `report` says what it did."""
        return self._driver.run(datasets.load_rows(name, source, "create", options))

    def append(self, name: str, source: Any, **options: Unpack[ImportOptions]) -> Dataset:
        """Adds rows to a data set; the answer is its next version. Otherwise as `create`."""
        return self._driver.run(datasets.load_rows(name, source, "append", options))

    def list(self) -> Table[DatasetSummary]:
        """All data sets."""
        return self._driver.run(datasets.listing())

    def show(self, name: str | Referred, version: int | None = None) -> Dataset:
        """Schema, sizes, classes and text lengths of a version, the newest if none is named.
        `name` may be `name@version`."""
        return self._driver.run(datasets.show(name, version))

    def head(self, name: str | Referred, rows: int = 10) -> Table[dict[str, Any]]:
        """The first rows, at most 1000."""
        return self._driver.run(datasets.head(name, rows))

    def to_pandas(self, name: str | Referred) -> pandas.DataFrame:
        """All rows as a pandas data frame."""
        frame: pandas.DataFrame = self._driver.run(datasets.frame(name, "pandas"))
        return frame

    def to_polars(self, name: str | Referred) -> polars.DataFrame:
        """All rows as a polars data frame."""
        frame: polars.DataFrame = self._driver.run(datasets.frame(name, "polars"))
        return frame

    def to_arrow(self, name: str | Referred) -> pyarrow.Table:
        """All rows as a pyarrow table."""
        frame: pyarrow.Table = self._driver.run(datasets.frame(name, "pyarrow"))
        return frame

    def export(
        self, name: str | Referred, path: str | os.PathLike[str], format: str | None = None
    ) -> Path:
        """Writes a version to a file as `csv`, `jsonl`, `parquet`, `arrow` or `xlsx`, by the
        path's ending if no format is named."""
        return self._driver.run(datasets.export(name, path, format))

    def remove(self, name: str) -> None:
        """Removes a data set with all its versions, and what was derived from it."""
        self._driver.run(datasets.remove(name))


class Taxonomies:
    """`client.taxonomies`."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver

    def create(self, name: str, classes: Any, levels: Iterable[int] | None = None) -> Taxonomy:
        """Makes a taxonomy, or its next version, of a file's path (CSV, TSV, JSON, YAML), a list
        of names or dicts (`id`, `name`, `description`, `examples`, `parent`, `path`,
        `children`) or `Class`, a dict from name to description or to the classes below, or a data
        frame with such columns. `levels` are lengths of prefixes of the ids that name the levels
        above, such as `[2, 4, 6]`."""
        return self._driver.run(taxonomies.create(name, classes, levels))

    def list(self) -> Table[TaxonomySummary]:
        """All taxonomies."""
        return self._driver.run(taxonomies.listing())

    def show(self, name: str | Referred, version: int | None = None) -> Taxonomy:
        """A version with all its classes, the newest if none is named."""
        return self._driver.run(taxonomies.show(name, version))

    def match(self, name: str, dataset: str | Referred) -> Match:
        """Holds a data set's labels against the taxonomy: how many are known, and for the others
        the nearest classes."""
        return self._driver.run(taxonomies.match(name, dataset))

    def remove(self, name: str) -> None:
        """Removes a taxonomy; models made by it keep their classes."""
        self._driver.run(taxonomies.remove(name))


class Labeling:
    """`client.labeling`."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver

    def functions(self, dataset: str, version: int | None = None) -> FunctionList:
        """The labeling functions of a data set, as of a version of them."""
        return self._driver.run(labeling.functions(dataset, version))

    def load(self, dataset: str, source: Any, taxonomy: str | None = None) -> FunctionChanges:
        """Makes the functions those of a YAML file's path or a list of definitions: new, changed,
        gone. With a taxonomy, classes are its own; a file names it itself."""
        return self._driver.run(labeling.load_functions(dataset, source, taxonomy))

    def show(self, dataset: str, name: str, version: int | None = None) -> LabelingFunction:
        """A function, as of a version of all of them."""
        return self._driver.run(labeling.show_function(dataset, name, version))

    def put(self, dataset: str, name: str, **definition: Any) -> FunctionChanges:
        """Adds a function or makes it another, as in
        `put("tickets", "money", kind="keyword", class_="billing", any=["refund", "card"])`."""
        return self._driver.run(labeling.put_function(dataset, name, definition))

    def remove(self, dataset: str, name: str) -> None:
        """Removes a function."""
        self._driver.run(labeling.remove_function(dataset, name))

    def statistics(self, dataset: str | Referred) -> LabelingStatistics:
        """What the functions vote on all rows; only what is new is computed."""
        return self._driver.run(labeling.statistics(dataset))

    def test(self, dataset: str, definition: Mapping[str, Any], rows: int = 10) -> FunctionTest:
        """Tries a function without keeping it."""
        return self._driver.run(labeling.test_function(dataset, definition, rows))

    def rows(
        self,
        dataset: str,
        which: Literal["uncovered", "conflict", "uncertain", "wrong"],
        limit: int = 20,
    ) -> Table[LabelingRow]:
        """Rows worth a look: that nothing is voted on, with votes that contradict, that the label
        model is in doubt of, or gold rows that it is surely wrong on."""
        return self._driver.run(labeling.rows(dataset, which, limit))

    def suggestions(self, dataset: str, limit: int = 20) -> Table[Suggestion]:
        """Functions that might be added, the most useful first."""
        return self._driver.run(labeling.suggestions(dataset, limit))

    def run(
        self,
        dataset: str | Referred,
        to: str | None = None,
        train: str | None = None,
        training: TrainOptions | None = None,
        **options: Unpack[LabelOptions],
    ) -> Job:
        """Labels a data set by its functions in the background; the labeled rows become the next
        version of the data set `to`, `NAME-labeled` if none is named. With `train`, a model of
        that name is trained on them in the same job, by the options `training`. `options` are
        those of `LabelOptions`. Answers at once, with the job."""
        order = labeling.label(dataset, to, train, options, training)
        return Job(self._driver, self._driver.run(order))


class Job(JobHandle):
    """A job, and what can be done with it. Its properties tell what the server last said."""

    def __init__(self, driver: SyncDriver, detail: JobDetail) -> None:
        super().__init__(detail)
        self._driver = driver

    def refresh(self) -> Job:
        """Asks how the job is now."""
        self.detail = self._driver.run(show_job(self.id))
        return self

    def wait(self, progress: bool = True) -> Job:
        """Waits for the end, with a bar in a terminal or a notebook, and gives the job back.
        Connections that break are resumed. Raises `JobFailed` where the job fails. Stopped by
        Ctrl-C, it leaves the job running and says how to come back."""
        bar = progress_for(is_wanted=progress)
        try:
            for event in self.events():
                bar.update(event)
        except KeyboardInterrupt:
            bar.close()
            print(self.how_to_come_back(), file=sys.stderr)
            raise
        finally:
            bar.close()
        self.detail = ended_well(self._driver.run(show_job(self.id)))
        return self

    def events(self, after: int = 0) -> Iterator[JobEvent]:
        """The job's events, those after number `after`, as they come, until the job has ended."""
        return self._driver.iterate(follow(self.id, after))

    def cancel(self) -> Job:
        """Ends the job and drops what it has."""
        self.detail = self._driver.run(jobs.end(self.id, "cancel"))
        return self

    def finish(self) -> Job:
        """Ends a search early, with the best model so far; `wait()` for it."""
        self.detail = self._driver.run(jobs.end(self.id, "finish"))
        return self

    def logs(self) -> Table[LogLine]:
        """What the job wrote."""
        return self._driver.run(jobs.logs(self.id))

    def runs(self) -> Runs:
        """The trials of a search, as a table; `.to_pandas()` makes a data frame of it."""
        return self._driver.run(jobs.runs(self.id))

    def download(self, path: str | os.PathLike[str], output: str = "predictions") -> Path:
        """Writes a file that the job has made, such as the `predictions` of a batch."""
        return self._driver.run(jobs.download(self.id, path, output))


class Jobs:
    """`client.jobs`."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver

    def get(self, id: str) -> Job:
        """A job by its id."""
        return Job(self._driver, self._driver.run(show_job(id)))

    def list(self, state: str | None = None) -> Table[JobDetail]:
        """All jobs, newest first, or those in one state."""
        return self._driver.run(jobs.listing(state))


class Models:
    """`client.models`."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver

    def list(self, tag: str | None = None) -> Table[ModelSummary]:
        """All models, or those whose newest version has a tag: `name` or `name=value`."""
        return self._driver.run(models.listing(tag))

    def tag(
        self,
        name: str | Referred,
        tags: Mapping[str, str | None] | None = None,
        metrics: Mapping[str, float | None] | None = None,
    ) -> Model:
        """Sets tags and metrics of a version; `None` takes one away."""
        return self._driver.run(models.note(name, tags or {}, metrics or {}))

    def show(self, name: str | Referred, version: int | None = None) -> Model:
        """Size, scores and origin of a version, the newest if none is named."""
        return self._driver.run(models.show(name, version))

    def report(self, name: str | Referred, version: int | None = None) -> Report:
        """What training found out. A notebook shows it as a page."""
        return self._driver.run(models.report(name, version))

    def export(
        self,
        name: str | Referred,
        path: str | os.PathLike[str] | None = None,
        format: Literal["corral", "onnx"] = "corral",
    ) -> Path:
        """Writes a version's file, `NAME.corral` if no path is given; `corral predict --model`
        asks it without a server. As `onnx` it is a graph from features to probabilities."""
        return self._driver.run(models.export(name, path, format))

    def import_file(self, name: str, path: str | os.PathLike[str]) -> Model:
        """Takes in a model's file, as the model's first or next version."""
        return self._driver.run(models.load(name, path))

    def remove(self, name: str | Referred, version: int | None = None) -> None:
        """Removes a version if one is named, else the model with all of them."""
        self._driver.run(models.remove(name, version))


class Encoders:
    """`client.encoders`."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver

    def list(self) -> Table[Encoder]:
        """All encoders."""
        return self._driver.run(models.list_encoders())

    def install(self, path: str | os.PathLike[str]) -> Encoder:
        """Takes in a converted encoder, such as `corral encoder install --output FILE` writes."""
        return self._driver.run(models.install_encoder(path))

    def remove(self, name: str) -> None:
        """Removes an encoder that no model needs."""
        self._driver.run(models.remove_encoder(name))


class Endpoints:
    """`client.endpoints`."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver

    def deploy(
        self, model: str | Referred, name: str | None = None, alias: str | None = None
    ) -> Endpoint:
        """Points an endpoint at a model (`name` or `name@version`); makes the endpoint if it is
        not there. It is called as the model if no name is given. `alias` is pointed at the new
        version, where the server has such a choice."""
        return self._driver.run(endpoints.deploy(model, name, alias))

    def deploy_answer(
        self, name: str, labels: Mapping[str, float], alias: str | None = None
    ) -> Endpoint:
        """Makes a version that answers every text the same, without a model: these classes, each
        with its probability."""
        return self._driver.run(endpoints.deploy_answer(name, labels, alias))

    def set_alias(self, name: str, alias: str, version: str | int = "latest") -> Endpoint:
        """Points an alias at a version (a number, `latest` or another alias), at once."""
        return self._driver.run(endpoints.set_alias(name, alias, version))

    def remove_alias(self, name: str, alias: str) -> Endpoint:
        """Removes an alias; its version stays."""
        return self._driver.run(endpoints.remove_alias(name, alias))

    def send_to(self, name: str, version: str | int = "latest") -> Endpoint:
        """Sends requests that name no version to this one: a number, an alias, or `latest`."""
        return self._driver.run(endpoints.send_to(name, version))

    def split(
        self, name: str, weights: Mapping[str | int, int], by: Literal["weight", "key"] = "weight"
    ) -> Endpoint:
        """Splits requests between versions, as in `{"stable": 9, 4: 1}`: by weight, or by the
        `key` of a prediction, so that the same key gets the same version."""
        return self._driver.run(endpoints.split(name, weights, by))

    def canary(self, name: str, **options: Unpack[CanaryOptions]) -> Endpoint:
        """Lets a version take over step by step; it goes back by itself when it does worse.
        `options` are those of `CanaryOptions`."""
        return self._driver.run(endpoints.canary(name, options))

    def mirror(self, name: str, version: str | int | None, share: float | None = None) -> Endpoint:
        """Asks a version as well, for a share of the requests, and throws its answers away;
        `None` ends that."""
        return self._driver.run(endpoints.mirror(name, version, share))

    def keep_warm(
        self,
        name: str,
        replicas: int = 1,
        windows: Sequence[str] = (),
        time_zone: str | None = None,
    ) -> Endpoint:
        """Keeps an endpoint's models open though nobody asks: always, or in windows such as
        `mon-fri 08:00-18:00` of a time zone such as `Europe/Berlin` (UTC when absent); no
        replicas end that."""
        return self._driver.run(endpoints.keep_warm(name, replicas, windows, time_zone))

    def remove_version(self, name: str, number: int) -> Endpoint:
        """Removes a version of an endpoint."""
        return self._driver.run(endpoints.remove_version(name, number))

    def list(self) -> Table[Endpoint]:
        """All endpoints."""
        return self._driver.run(endpoints.listing())

    def show(self, name: str) -> Endpoint:
        """Where an endpoint sends its requests."""
        return self._driver.run(endpoints.show(name))

    def usage(
        self,
        endpoint: str | None = None,
        since: Duration = "30d",
        by: Literal["hour", "day", "total"] = "total",
    ) -> Table[Usage]:
        """What endpoints used: requests, texts, time on a core, memory, and what that cost."""
        return self._driver.run(observing.usage(endpoint, since, by))

    def keep_log(self, name: str, **options: Unpack[LogOptions]) -> Endpoint:
        """Keeps requests and answers of an endpoint from now on, to make data sets of them.
        `options` are those of `LogOptions`."""
        return self._driver.run(observing.keep_log(name, options))

    def remove_log(self, name: str) -> Endpoint:
        """Keeps no more requests, and removes those that were kept."""
        return self._driver.run(observing.remove_log(name))

    def log_dataset(
        self,
        name: str,
        dataset: str,
        label: Literal["answer"] | None = None,
        append: bool = False,
    ) -> Dataset:
        """Makes a data set of an endpoint's log, a row for each text: without labels, or with the
        model's answers for labels."""
        return self._driver.run(observing.log_dataset(name, dataset, label, append))

    def watch_drift(self, name: str, **options: Unpack[DriftOptions]) -> Endpoint:
        """Compares what an endpoint gets and answers with its model's training. `options` are
        those of `DriftOptions`."""
        return self._driver.run(observing.watch_drift(name, options))

    def ignore_drift(self, name: str) -> Endpoint:
        """Compares no more."""
        return self._driver.run(observing.ignore_drift(name))

    def remove(self, name: str) -> None:
        """Removes an endpoint; its model stays."""
        self._driver.run(endpoints.remove(name))

    @overload
    def predict(
        self, endpoint: str | Endpoint, texts: str, **options: Unpack[PredictOptions]
    ) -> Prediction: ...

    @overload
    def predict(
        self, endpoint: str | Endpoint, texts: Texts, **options: Unpack[PredictOptions]
    ) -> Predictions: ...

    def predict(
        self, endpoint: str | Endpoint, texts: str | Texts, **options: Unpack[PredictOptions]
    ) -> Prediction | Predictions:
        """Asks for the classes of one text, or of many: a list, or a column of a pandas or polars
        frame. Any number of them, in as many requests as it takes. `options` are those of
        `PredictOptions`, such as `top_k`. `"support/stable"` and `"support/3"` ask a version of
        the endpoint by alias or number."""
        answer: Prediction | Predictions = self._driver.run(
            endpoints.predict(endpoint, texts, options)
        )
        return answer


def connect(
    url: str | None = None, token: str | None = None, *, timeout: float | None = None
) -> Client:
    """A client of the server that the arguments, the environment or the configuration name; see
    `Client`."""
    return Client(url, token, timeout=timeout)

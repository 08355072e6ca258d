"""The client for `async` code: the twin of `corral.client`, with the same surface."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from . import client
from ._drivers import AsyncDriver
from ._events import follow, show_job
from ._frames import Texts
from ._handles import JobHandle, documented_as, ended_well
from ._operations import datasets, endpoints, jobs, labeling, models, observing, taxonomies
from ._operations.common import Referred
from ._progress import progress_for
from ._settings import find_settings
from ._units import Duration
from .async_functions import AsyncApps, AsyncContainers, AsyncFunctions
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


@documented_as(client.Client)
class AsyncClient:
    """`corral.Client` for `async` code: the same names, every call a coroutine, `events()` an
    async iterator. One event loop uses it; many tasks may share it.
    """

    datasets: AsyncDatasets
    taxonomies: AsyncTaxonomies
    labeling: AsyncLabeling
    jobs: AsyncJobs
    models: AsyncModels
    encoders: AsyncEncoders
    endpoints: AsyncEndpoints
    apps: AsyncApps
    functions: AsyncFunctions
    containers: AsyncContainers

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        self._driver = AsyncDriver(find_settings(url, token), timeout)
        self.datasets = AsyncDatasets(self._driver)
        self.taxonomies = AsyncTaxonomies(self._driver)
        self.labeling = AsyncLabeling(self._driver)
        self.jobs = AsyncJobs(self._driver)
        self.models = AsyncModels(self._driver)
        self.encoders = AsyncEncoders(self._driver)
        self.endpoints = AsyncEndpoints(self._driver)
        self.apps = AsyncApps(self._driver)
        self.functions = AsyncFunctions(self._driver)
        self.containers = AsyncContainers(self._driver)

    @property
    def url(self) -> str:
        return self._driver.settings.url

    async def whoami(self) -> Info:
        return await self._driver.run(endpoints.whoami())

    async def train(
        self,
        model: str,
        dataset: str | Referred | None = None,
        taxonomy: str | Referred | None = None,
        **options: Unpack[TrainOptions],
    ) -> AsyncJob:
        return AsyncJob(
            self._driver, await self._driver.run(jobs.train(model, dataset, taxonomy, options))
        )

    async def predict_rows(
        self,
        endpoint: str | Endpoint,
        dataset: str | Referred,
        to: str | None = None,
        format: str | None = None,
        **options: Unpack[BatchOptions],
    ) -> AsyncJob:
        name = endpoint if isinstance(endpoint, str) else endpoint.name
        batch = jobs.batch(name, dataset, to, format, options)
        return AsyncJob(self._driver, await self._driver.run(batch))

    async def runs(self, job: str | JobHandle) -> Runs:
        return await self._driver.run(jobs.runs(job if isinstance(job, str) else job.id))

    async def deploy(
        self, model: str | Referred, name: str | None = None, alias: str | None = None
    ) -> Endpoint:
        return await self.endpoints.deploy(model, name, alias)

    @overload
    async def predict(
        self, endpoint: str | Endpoint, texts: str, **options: Unpack[PredictOptions]
    ) -> Prediction: ...

    @overload
    async def predict(
        self, endpoint: str | Endpoint, texts: Texts, **options: Unpack[PredictOptions]
    ) -> Predictions: ...

    async def predict(
        self, endpoint: str | Endpoint, texts: str | Texts, **options: Unpack[PredictOptions]
    ) -> Prediction | Predictions:
        return await self.endpoints.predict(endpoint, texts, **options)

    async def close(self) -> None:
        await self._driver.http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r})"


@documented_as(client.Datasets)
class AsyncDatasets:
    """`client.datasets` of an `AsyncClient`."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def create(self, name: str, source: Any, **options: Unpack[ImportOptions]) -> Dataset:
        return await self._driver.run(datasets.load_rows(name, source, "create", options))

    async def append(self, name: str, source: Any, **options: Unpack[ImportOptions]) -> Dataset:
        return await self._driver.run(datasets.load_rows(name, source, "append", options))

    async def list(self) -> Table[DatasetSummary]:
        return await self._driver.run(datasets.listing())

    async def show(self, name: str | Referred, version: int | None = None) -> Dataset:
        return await self._driver.run(datasets.show(name, version))

    async def head(self, name: str | Referred, rows: int = 10) -> Table[dict[str, Any]]:
        return await self._driver.run(datasets.head(name, rows))

    async def to_pandas(self, name: str | Referred) -> pandas.DataFrame:
        frame: pandas.DataFrame = await self._driver.run(datasets.frame(name, "pandas"))
        return frame

    async def to_polars(self, name: str | Referred) -> polars.DataFrame:
        frame: polars.DataFrame = await self._driver.run(datasets.frame(name, "polars"))
        return frame

    async def to_arrow(self, name: str | Referred) -> pyarrow.Table:
        frame: pyarrow.Table = await self._driver.run(datasets.frame(name, "pyarrow"))
        return frame

    async def export(
        self, name: str | Referred, path: str | os.PathLike[str], format: str | None = None
    ) -> Path:
        return await self._driver.run(datasets.export(name, path, format))

    async def remove(self, name: str) -> None:
        await self._driver.run(datasets.remove(name))


@documented_as(client.Taxonomies)
class AsyncTaxonomies:
    """`client.taxonomies` of an `AsyncClient`."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def create(
        self, name: str, classes: Any, levels: Iterable[int] | None = None
    ) -> Taxonomy:
        return await self._driver.run(taxonomies.create(name, classes, levels))

    async def list(self) -> Table[TaxonomySummary]:
        return await self._driver.run(taxonomies.listing())

    async def show(self, name: str | Referred, version: int | None = None) -> Taxonomy:
        return await self._driver.run(taxonomies.show(name, version))

    async def match(self, name: str, dataset: str | Referred) -> Match:
        return await self._driver.run(taxonomies.match(name, dataset))

    async def remove(self, name: str) -> None:
        await self._driver.run(taxonomies.remove(name))


@documented_as(client.Labeling)
class AsyncLabeling:
    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def functions(self, dataset: str, version: int | None = None) -> FunctionList:
        return await self._driver.run(labeling.functions(dataset, version))

    async def load(self, dataset: str, source: Any, taxonomy: str | None = None) -> FunctionChanges:
        return await self._driver.run(labeling.load_functions(dataset, source, taxonomy))

    async def show(self, dataset: str, name: str, version: int | None = None) -> LabelingFunction:
        return await self._driver.run(labeling.show_function(dataset, name, version))

    async def put(self, dataset: str, name: str, **definition: Any) -> FunctionChanges:
        return await self._driver.run(labeling.put_function(dataset, name, definition))

    async def remove(self, dataset: str, name: str) -> None:
        await self._driver.run(labeling.remove_function(dataset, name))

    async def statistics(self, dataset: str | Referred) -> LabelingStatistics:
        return await self._driver.run(labeling.statistics(dataset))

    async def test(self, dataset: str, definition: Mapping[str, Any], rows: int = 10) -> FunctionTest:
        return await self._driver.run(labeling.test_function(dataset, definition, rows))

    async def rows(
        self,
        dataset: str,
        which: Literal["uncovered", "conflict", "uncertain", "wrong"],
        limit: int = 20,
    ) -> Table[LabelingRow]:
        return await self._driver.run(labeling.rows(dataset, which, limit))

    async def suggestions(self, dataset: str, limit: int = 20) -> Table[Suggestion]:
        return await self._driver.run(labeling.suggestions(dataset, limit))

    async def run(
        self,
        dataset: str | Referred,
        to: str | None = None,
        train: str | None = None,
        training: TrainOptions | None = None,
        **options: Unpack[LabelOptions],
    ) -> AsyncJob:
        order = labeling.label(dataset, to, train, options, training)
        return AsyncJob(self._driver, await self._driver.run(order))


@documented_as(client.Job)
class AsyncJob(JobHandle):
    """`corral.Job` for `async` code."""

    def __init__(self, driver: AsyncDriver, detail: JobDetail) -> None:
        super().__init__(detail)
        self._driver = driver

    async def refresh(self) -> AsyncJob:
        self.detail = await self._driver.run(show_job(self.id))
        return self

    async def wait(self, progress: bool = True) -> AsyncJob:
        bar = progress_for(is_wanted=progress)
        try:
            async for event in self.events():
                bar.update(event)
        finally:
            bar.close()
        self.detail = ended_well(await self._driver.run(show_job(self.id)))
        return self

    def events(self, after: int = 0) -> AsyncIterator[JobEvent]:
        return self._driver.iterate(follow(self.id, after))

    async def cancel(self) -> AsyncJob:
        self.detail = await self._driver.run(jobs.end(self.id, "cancel"))
        return self

    async def finish(self) -> AsyncJob:
        self.detail = await self._driver.run(jobs.end(self.id, "finish"))
        return self

    async def logs(self) -> Table[LogLine]:
        return await self._driver.run(jobs.logs(self.id))

    async def runs(self) -> Runs:
        return await self._driver.run(jobs.runs(self.id))

    async def download(self, path: str | os.PathLike[str], output: str = "predictions") -> Path:
        return await self._driver.run(jobs.download(self.id, path, output))


@documented_as(client.Jobs)
class AsyncJobs:
    """`client.jobs` of an `AsyncClient`."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def get(self, id: str) -> AsyncJob:
        return AsyncJob(self._driver, await self._driver.run(show_job(id)))

    async def list(self, state: str | None = None) -> Table[JobDetail]:
        return await self._driver.run(jobs.listing(state))


@documented_as(client.Models)
class AsyncModels:
    """`client.models` of an `AsyncClient`."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def list(self, tag: str | None = None) -> Table[ModelSummary]:
        return await self._driver.run(models.listing(tag))

    async def tag(
        self,
        name: str | Referred,
        tags: Mapping[str, str | None] | None = None,
        metrics: Mapping[str, float | None] | None = None,
    ) -> Model:
        return await self._driver.run(models.note(name, tags or {}, metrics or {}))

    async def show(self, name: str | Referred, version: int | None = None) -> Model:
        return await self._driver.run(models.show(name, version))

    async def report(self, name: str | Referred, version: int | None = None) -> Report:
        return await self._driver.run(models.report(name, version))

    async def export(
        self,
        name: str | Referred,
        path: str | os.PathLike[str] | None = None,
        format: Literal["corral", "onnx"] = "corral",
    ) -> Path:
        return await self._driver.run(models.export(name, path, format))

    async def import_file(self, name: str, path: str | os.PathLike[str]) -> Model:
        return await self._driver.run(models.load(name, path))

    async def remove(self, name: str | Referred, version: int | None = None) -> None:
        await self._driver.run(models.remove(name, version))


@documented_as(client.Encoders)
class AsyncEncoders:
    """`client.encoders` of an `AsyncClient`."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def list(self) -> Table[Encoder]:
        return await self._driver.run(models.list_encoders())

    async def install(self, path: str | os.PathLike[str]) -> Encoder:
        return await self._driver.run(models.install_encoder(path))

    async def remove(self, name: str) -> None:
        await self._driver.run(models.remove_encoder(name))


@documented_as(client.Endpoints)
class AsyncEndpoints:
    """`client.endpoints` of an `AsyncClient`."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def deploy(
        self, model: str | Referred, name: str | None = None, alias: str | None = None
    ) -> Endpoint:
        return await self._driver.run(endpoints.deploy(model, name, alias))

    async def deploy_answer(
        self, name: str, labels: Mapping[str, float], alias: str | None = None
    ) -> Endpoint:
        return await self._driver.run(endpoints.deploy_answer(name, labels, alias))

    async def set_alias(self, name: str, alias: str, version: str | int = "latest") -> Endpoint:
        return await self._driver.run(endpoints.set_alias(name, alias, version))

    async def remove_alias(self, name: str, alias: str) -> Endpoint:
        return await self._driver.run(endpoints.remove_alias(name, alias))

    async def send_to(self, name: str, version: str | int = "latest") -> Endpoint:
        return await self._driver.run(endpoints.send_to(name, version))

    async def split(
        self, name: str, weights: Mapping[str | int, int], by: Literal["weight", "key"] = "weight"
    ) -> Endpoint:
        return await self._driver.run(endpoints.split(name, weights, by))

    async def canary(self, name: str, **options: Unpack[CanaryOptions]) -> Endpoint:
        return await self._driver.run(endpoints.canary(name, options))

    async def mirror(
        self, name: str, version: str | int | None, share: float | None = None
    ) -> Endpoint:
        return await self._driver.run(endpoints.mirror(name, version, share))

    async def keep_warm(
        self,
        name: str,
        replicas: int = 1,
        windows: Sequence[str] = (),
        time_zone: str | None = None,
    ) -> Endpoint:
        """Keeps an endpoint's models open though nobody asks: always, or in windows such as
        `mon-fri 08:00-18:00` of a time zone such as `Europe/Berlin` (UTC when absent); no
        replicas end that."""
        return await self._driver.run(endpoints.keep_warm(name, replicas, windows, time_zone))

    async def remove_version(self, name: str, number: int) -> Endpoint:
        return await self._driver.run(endpoints.remove_version(name, number))

    async def list(self) -> Table[Endpoint]:
        return await self._driver.run(endpoints.listing())

    async def show(self, name: str) -> Endpoint:
        return await self._driver.run(endpoints.show(name))

    async def usage(
        self,
        endpoint: str | None = None,
        since: Duration = "30d",
        by: Literal["hour", "day", "total"] = "total",
    ) -> Table[Usage]:
        return await self._driver.run(observing.usage(endpoint, since, by))

    async def keep_log(self, name: str, **options: Unpack[LogOptions]) -> Endpoint:
        return await self._driver.run(observing.keep_log(name, options))

    async def remove_log(self, name: str) -> Endpoint:
        return await self._driver.run(observing.remove_log(name))

    async def log_dataset(
        self,
        name: str,
        dataset: str,
        label: Literal["answer"] | None = None,
        append: bool = False,
    ) -> Dataset:
        return await self._driver.run(observing.log_dataset(name, dataset, label, append))

    async def watch_drift(self, name: str, **options: Unpack[DriftOptions]) -> Endpoint:
        return await self._driver.run(observing.watch_drift(name, options))

    async def ignore_drift(self, name: str) -> Endpoint:
        return await self._driver.run(observing.ignore_drift(name))

    async def remove(self, name: str) -> None:
        await self._driver.run(endpoints.remove(name))

    @overload
    async def predict(
        self, endpoint: str | Endpoint, texts: str, **options: Unpack[PredictOptions]
    ) -> Prediction: ...

    @overload
    async def predict(
        self, endpoint: str | Endpoint, texts: Texts, **options: Unpack[PredictOptions]
    ) -> Predictions: ...

    async def predict(
        self, endpoint: str | Endpoint, texts: str | Texts, **options: Unpack[PredictOptions]
    ) -> Prediction | Predictions:
        answer: Prediction | Predictions = await self._driver.run(
            endpoints.predict(endpoint, texts, options)
        )
        return answer

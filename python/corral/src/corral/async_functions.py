"""`corral.functions` for `async` code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import functions
from ._drivers import AsyncDriver
from ._handles import documented_as
from ._operations import functions as operations
from ._units import Duration
from .tables import Table
from .types import App, AppLogLine, AppVersion, Container, Function, FunctionCall, FunctionUsage


@documented_as(functions.Apps)
class AsyncApps:
    """`corral.Apps` for `async` code."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def list(self, state: str | None = None, environment: str | None = None) -> Table[App]:
        return await self._driver.run(operations.apps(state, environment))

    async def show(self, app: str, environment: str | None = None) -> App:
        return await self._driver.run(operations.show_app(app, environment))

    async def history(self, app: str, environment: str | None = None) -> Table[AppVersion]:
        return await self._driver.run(operations.history(app, environment))

    async def logs(
        self,
        app: str,
        tail: int = 100,
        function: str | None = None,
        call: str | None = None,
        environment: str | None = None,
    ) -> Table[AppLogLine]:
        return await self._driver.run(operations.app_logs(app, tail, function, call, environment))

    async def rollback(
        self, app: str, version: int | None = None, environment: str | None = None
    ) -> App:
        return await self._driver.run(operations.rollback(app, version, environment))

    async def stop(self, app: str, environment: str | None = None) -> App:
        return await self._driver.run(operations.stop_app(app, environment))


@documented_as(functions.Functions)
class AsyncFunctions:
    """`corral.Functions` for `async` code."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def list(self, app: str | None = None, environment: str | None = None) -> Table[Function]:
        return await self._driver.run(operations.functions(app, environment))

    async def show(self, app: str, function: str, environment: str | None = None) -> Function:
        return await self._driver.run(operations.show_function(app, function, environment))

    async def call(
        self,
        app: str,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        environment: str | None = None,
    ) -> Any:
        return await self._driver.run(
            operations.call_and_wait(app, function, args, kwargs, timeout, environment)
        )

    async def spawn(
        self,
        app: str,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        environment: str | None = None,
    ) -> FunctionCall:
        return await self._driver.run(operations.spawn(app, function, args, kwargs, environment))

    async def get(self, call: str) -> FunctionCall:
        return await self._driver.run(operations.show_call(call))

    async def result(self, call: str, timeout: Duration | None = None) -> Any:
        return await self._driver.run(operations.result(call, timeout))

    async def cancel(self, call: str, terminate_containers: bool = False) -> FunctionCall:
        return await self._driver.run(operations.cancel(call, terminate_containers))

    async def usage(self) -> Table[FunctionUsage]:
        return await self._driver.run(operations.usage())


@documented_as(functions.Containers)
class AsyncContainers:
    """`corral.Containers` for `async` code."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def list(self, app: str | None = None, environment: str | None = None) -> Table[Container]:
        return await self._driver.run(operations.containers(app, environment))

    async def logs(self, container: str, tail: int = 100) -> Table[AppLogLine]:
        return await self._driver.run(operations.container_logs(container, tail))

    async def stop(self, container: str) -> None:
        await self._driver.run(operations.stop_container(container))

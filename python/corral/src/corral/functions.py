"""Apps of Python functions, their functions and containers, beside the client that defines them.

Functions are defined and deployed with the `modal` client; see docs/functions.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._drivers import SyncDriver
from ._operations import functions as operations
from ._units import Duration
from .tables import Table
from .types import App, AppLogLine, AppVersion, Container, Function, FunctionCall, FunctionUsage


class Apps:
    """`client.apps`."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver

    def list(self, state: str | None = None, environment: str | None = None) -> Table[App]:
        """All apps, newest first, or those in one state, such as `deployed`. Those that ended in
        the last month are among them."""
        return self._driver.run(operations.apps(state, environment))

    def show(self, app: str, environment: str | None = None) -> App:
        """An app by its name or id, with the names of its functions."""
        return self._driver.run(operations.show_app(app, environment))

    def history(self, app: str, environment: str | None = None) -> Table[AppVersion]:
        """The versions of an app, newest first."""
        return self._driver.run(operations.history(app, environment))

    def logs(
        self,
        app: str,
        tail: int = 100,
        function: str | None = None,
        call: str | None = None,
        environment: str | None = None,
    ) -> Table[AppLogLine]:
        """The newest lines that an app's containers wrote, at most 5000, oldest first; of one
        function or one call where they are named."""
        return self._driver.run(operations.app_logs(app, tail, function, call, environment))

    def rollback(
        self, app: str, version: int | None = None, environment: str | None = None
    ) -> App:
        """Brings an earlier version back, the one before the present one if none is named."""
        return self._driver.run(operations.rollback(app, version, environment))

    def stop(self, app: str, environment: str | None = None) -> App:
        """Ends an app: its containers and its unfinished calls."""
        return self._driver.run(operations.stop_app(app, environment))


class Functions:
    """`client.functions`."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver

    def list(self, app: str | None = None, environment: str | None = None) -> Table[Function]:
        """The functions of all apps that have not ended, or of one."""
        return self._driver.run(operations.functions(app, environment))

    def show(self, app: str, function: str, environment: str | None = None) -> Function:
        """What a function asks for, and how it is doing."""
        return self._driver.run(operations.show_function(app, function, environment))

    def call(
        self,
        app: str,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        environment: str | None = None,
    ) -> Any:
        """Calls a function with arguments that JSON has, waits, and gives what it returns. Of a
        class `function` is `CLASS.METHOD`. Raises `CallFailed` where it raises, and
        `DeadlineError` after `timeout`; the call goes on then. The server keeps its result for 7
        days."""
        return self._driver.run(
            operations.call_and_wait(app, function, args, kwargs, timeout, environment)
        )

    def spawn(
        self,
        app: str,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        environment: str | None = None,
    ) -> FunctionCall:
        """Calls a function and does not wait; `result` of its id does."""
        return self._driver.run(operations.spawn(app, function, args, kwargs, environment))

    def get(self, call: str) -> FunctionCall:
        """A call by its id, as it is now."""
        return self._driver.run(operations.show_call(call))

    def result(self, call: str, timeout: Duration | None = None) -> Any:
        """Waits for a call, and gives what it returned. Raises as `call` does."""
        return self._driver.run(operations.result(call, timeout))

    def cancel(self, call: str, terminate_containers: bool = False) -> FunctionCall:
        """Ends what of a call is unfinished, and with `terminate_containers` the containers that
        work on it."""
        return self._driver.run(operations.cancel(call, terminate_containers))

    def usage(self) -> Table[FunctionUsage]:
        """What each function took since it was first defined, and what that cost."""
        return self._driver.run(operations.usage())


class Containers:
    """`client.containers`."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver

    def list(self, app: str | None = None, environment: str | None = None) -> Table[Container]:
        """The containers there are, newest first; of one app where it is named."""
        return self._driver.run(operations.containers(app, environment))

    def logs(self, container: str, tail: int = 100) -> Table[AppLogLine]:
        """The newest lines that a container wrote, at most 5000, oldest first."""
        return self._driver.run(operations.container_logs(container, tail))

    def stop(self, container: str) -> None:
        """Ends a container; the inputs that it works on are tried elsewhere."""
        self._driver.run(operations.stop_container(container))

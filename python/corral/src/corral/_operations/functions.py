"""`/v1/apps`, `/v1/functions`, `/v1/calls` and `/v1/containers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._decode import decode
from .._exchange import Call, Operation, ask, ask_json, creating, get, json_body
from .._units import Duration, seconds
from ..errors import CallFailed, ConflictError, DeadlineError, UnsupportedError
from ..tables import Table
from ..types import App, AppLogLine, AppVersion, Container, Function, FunctionCall, FunctionUsage
from .common import listed

# How long one request for a call's end waits; the server lets none wait longer than 600.
WAIT_SECONDS = 50.0

UNFINISHED = ("pending", "running")


def apps(state: str | None, environment: str | None) -> Operation[Table[App]]:
    call = get("v1", "apps", state=state, environment=environment)
    return Table((yield from listed(App, call)))


def show_app(app: str, environment: str | None) -> Operation[App]:
    return decode(App, (yield from ask_json(get("v1", "apps", app, environment=environment))))


def history(app: str, environment: str | None) -> Operation[Table[AppVersion]]:
    page = yield from ask_json(get("v1", "apps", app, "history", environment=environment))
    return Table([decode(AppVersion, version) for version in page["items"]])


def stop_app(app: str, environment: str | None) -> Operation[App]:
    # An app that is told twice to end has ended once.
    call = Call("POST", ("v1", "apps", app, "stop"), {"environment": environment})
    return decode(App, (yield from ask_json(call)))


def rollback(app: str, version: int | None, environment: str | None) -> Operation[App]:
    body = json_body({} if version is None else {"version": version})
    path = ("v1", "apps", app, "rollback")
    call = Call("POST", path, {"environment": environment}, body=body)
    return decode(App, (yield from ask_json(creating(call))))


def app_logs(
    app: str, tail: int, function: str | None, call: str | None, environment: str | None
) -> Operation[Table[AppLogLine]]:
    asked = get(
        "v1", "apps", app, "logs",
        tail=tail, function=function, call=call, environment=environment,
    )  # fmt: skip
    return _lines((yield from ask_json(asked)))


def container_logs(container: str, tail: int) -> Operation[Table[AppLogLine]]:
    return _lines((yield from ask_json(get("v1", "containers", container, "logs", tail=tail))))


def _lines(page: Any) -> Table[AppLogLine]:
    return Table([decode(AppLogLine, line) for line in page["lines"]])


def functions(app: str | None, environment: str | None) -> Operation[Table[Function]]:
    call = get("v1", "functions", app=app, environment=environment)
    return Table((yield from listed(Function, call)))


def show_function(app: str, name: str, environment: str | None) -> Operation[Function]:
    call = get("v1", "functions", app, name, environment=environment)
    return decode(Function, (yield from ask_json(call)))


def spawn(
    app: str,
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    environment: str | None,
) -> Operation[FunctionCall]:
    body = {"args": list(args), "kwargs": dict(kwargs or {}), "wait": False}
    path = ("v1", "functions", app, name, "calls")
    call = Call("POST", path, {"environment": environment}, body=json_body(body))
    return decode(FunctionCall, (yield from ask_json(creating(call))))


def call_and_wait(
    app: str,
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    timeout: Duration | None,
    environment: str | None,
) -> Operation[Any]:
    made = yield from spawn(app, name, args, kwargs, environment)
    return (yield from result(made.id, timeout))


def show_call(call: str, wait_seconds: float = 0.0) -> Operation[FunctionCall]:
    found = yield from ask_json(get("v1", "calls", call, wait_seconds=wait_seconds))
    return decode(FunctionCall, found)


def result(call: str, timeout: Duration | None) -> Operation[Any]:
    """What a call returned, once it has."""
    left = None if timeout is None else float(seconds(timeout))
    while True:
        wait = WAIT_SECONDS if left is None else min(left, WAIT_SECONDS)
        found = yield from show_call(call, wait)
        if found.state not in UNFINISHED:
            return _value(found)
        if left is not None:
            left -= wait
            if left <= 0:
                raise DeadlineError(
                    f"the call {call} is {found.state}",
                    hint="it goes on; ask for it again with `client.functions.result(id)`",
                )


def _value(call: FunctionCall) -> Any:
    if call.error is not None:
        raise CallFailed(call)
    if call.kind == "map":
        raise UnsupportedError(
            f"the call {call.id} is a map, whose results are its own client's to read",
            hint="`client.functions.get(id)` says how far it is",
        )
    if call.state != "succeeded":
        raise ConflictError(f"the call {call.id} is {call.state} and has no result")
    if call.result_not_shown is not None:
        raise UnsupportedError(
            f"the result of {call.id} cannot be shown as JSON", causes=[call.result_not_shown]
        )
    return call.result


def cancel(call: str, terminate_containers: bool) -> Operation[FunctionCall]:
    # A call that is cancelled twice is cancelled once.
    body = json_body({"terminate_containers": terminate_containers})
    asked = Call("POST", ("v1", "calls", call, "cancel"), body=body)
    return decode(FunctionCall, (yield from ask_json(asked)))


def usage() -> Operation[Table[FunctionUsage]]:
    answer = yield from ask_json(get("v1", "usage"))
    return Table([decode(FunctionUsage, used) for used in answer.get("functions", [])])


def containers(app: str | None, environment: str | None) -> Operation[Table[Container]]:
    call = get("v1", "containers", app=app, environment=environment)
    return Table((yield from listed(Container, call)))


def stop_container(container: str) -> Operation[None]:
    yield from ask(Call("POST", ("v1", "containers", container, "stop")))

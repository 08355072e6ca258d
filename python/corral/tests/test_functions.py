"""Python functions: calls, what they return and how they fail; lists of what there is."""

from __future__ import annotations

from typing import Any

import pytest
from test_exchange import answer, play, refusal

import corral
from corral._exchange import Open, Outcome, Send, Step
from corral._operations import functions as operations

COUNTS = {
    "total": 1, "pending": 0, "running": 0, "succeeded": 1,
    "failed": 0, "timed_out": 0, "cancelled": 0,
}  # fmt: skip
CALL = {
    "id": "fc-1",
    "function": "fu-1",
    "kind": "unary",
    "state": "running",
    "created": "2026-11-22T03:00:00Z",
    "inputs": COUNTS,
}
DONE = CALL | {"state": "succeeded", "result": {"sum": 3}}


def sent(steps: list[Step]) -> list[Any]:
    return [step.call for step in steps if isinstance(step, Send | Open)]


def test_a_call_is_made_once_and_waited_for() -> None:
    outcomes: list[Outcome] = [answer(200, CALL), answer(202, CALL), answer(200, DONE)]
    called = operations.call_and_wait("shop", "add", [1], {"b": 2}, None, "staging")
    value, steps = play(called, outcomes)
    assert value == {"sum": 3}
    made, *asked = sent(steps)
    assert (made.target, made.params) == (
        "/v1/functions/shop/add/calls",
        {"environment": "staging"},
    )
    assert "idempotency-key" in made.headers
    assert b"".join(made.body.open()) == b'{"args": [1], "kwargs": {"b": 2}, "wait": false}'
    assert [(call.target, call.params) for call in asked] == [
        ("/v1/calls/fc-1", {"wait_seconds": "50.0"})
    ] * 2


def test_nothing_is_a_result_too() -> None:
    value, _ = play(operations.result("fc-1", None), [answer(200, CALL | {"state": "succeeded"})])
    assert value is None


def test_waiting_ends_and_the_call_goes_on() -> None:
    with pytest.raises(corral.DeadlineError, match="fc-1 is running"):
        play(operations.result("fc-1", "70s"), [answer(202, CALL), answer(202, CALL)])


def test_what_a_function_raises_is_told() -> None:
    error = {
        "status": "failure",
        "exception": "ValueError('no')",
        "traceback": "Traceback (most recent call last): …",
        "retries": 2,
    }
    failed = answer(200, CALL | {"state": "failed", "error": error})
    with pytest.raises(corral.CallFailed, match=r"ValueError\('no'\)") as caught:
        play(operations.result("fc-1", None), [failed])
    assert caught.value.call.error is not None
    assert caught.value.call.error.traceback.startswith("Traceback")
    late = answer(200, CALL | {"state": "timed_out", "error": error | {"status": "timeout"}})
    with pytest.raises(corral.CallFailed) as caught:
        play(operations.result("fc-1", None), [late])
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"state": "succeeded", "result_not_shown": "it is bytes"}, "it is bytes"),
        ({"state": "succeeded", "kind": "map"}, "is a map"),
    ],
)
def test_results_that_are_not_shown(more: dict[str, Any], words: str) -> None:
    with pytest.raises(corral.UnsupportedError, match=words):
        play(operations.result("fc-1", None), [answer(200, CALL | more)])


def test_refusals_reach_the_caller() -> None:
    refused = answer(404, refusal("not_found", hint="did you mean `add`?"))
    with pytest.raises(corral.NotFoundError, match="did you mean"):
        play(operations.spawn("shop", "ad", [], None, None), [refused])


def test_a_server_without_functions(client: corral.Client) -> None:
    assert list(client.functions.list()) == []
    assert list(client.apps.list(state="deployed")) == []
    assert list(client.containers.list()) == []
    assert list(client.functions.usage()) == []
    with pytest.raises(corral.NotFoundError, match="no app `shop` in `default`"):
        client.functions.call("shop", "add", [1, 2])
    with pytest.raises(corral.NotFoundError, match="fc-nothing"):
        client.functions.get("fc-nothing")
    with pytest.raises(corral.InvalidError, match="the states are"):
        client.apps.list(state="gone")


@pytest.mark.anyio
async def test_a_server_without_functions_async(async_client: corral.AsyncClient) -> None:
    assert list(await async_client.containers.list()) == []
    with pytest.raises(corral.NotFoundError):
        await async_client.apps.show("shop")

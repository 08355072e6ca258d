"""The async twin: the same surface, the same answers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pandas
import pytest

import corral
from corral import async_client, client

TWINS = [
    "Client", "Datasets", "Taxonomies", "Job", "Jobs", "Models", "Encoders", "Endpoints",
    "Apps", "Functions", "Containers", "Labeling",
]  # fmt: skip


def public(cls: type) -> Iterator[str]:
    return (name for name in vars(cls) if not name.startswith("_"))


@pytest.mark.parametrize("name", TWINS)
def test_both_have_the_same_methods(name: str) -> None:
    plain, twin = getattr(client, name), getattr(async_client, f"Async{name}")
    assert list(public(plain)) == list(public(twin))
    for method in public(plain):
        if not inspect.isfunction(getattr(plain, method)):
            continue
        parameters = [inspect.signature(getattr(cls, method)).parameters for cls in (plain, twin)]
        assert list(map(str, parameters[0].values())) == list(map(str, parameters[1].values()))
        assert inspect.getdoc(getattr(twin, method)) == inspect.getdoc(getattr(plain, method))


@pytest.mark.anyio
async def test_from_a_frame_to_answers(
    async_client: corral.AsyncClient, tickets: list[dict[str, Any]], tmp_path: Path
) -> None:
    corral_ = async_client
    made = await corral_.datasets.create("async-tickets", pandas.DataFrame(tickets))
    assert made.rows == 300
    assert (await corral_.datasets.to_polars(made)).shape[0] == 300
    path = await corral_.datasets.export(made, tmp_path / "tickets.csv")
    assert (await corral_.datasets.append(made.name, path)).version == 2

    job = await corral_.train("async-support", dataset=made, trials=4, encoder="none")
    names = [event.name async for event in job.events()]
    assert (names[0], names[-1]) == ("submitted", "ended")
    await job.wait()
    assert len(await job.runs()) == 4
    assert (await corral_.models.report(job.model)).advice
    await corral_.deploy(job.model)
    one = await corral_.predict("async-support", "lost on the way")
    assert one.label == "shipping"

    answers: list[str | None] = []

    async def ask(text: str) -> None:
        answers.append((await corral_.predict("async-support", text)).label)

    async with anyio.create_task_group() as group:
        for at in range(30):
            group.start_soon(ask, f"charged twice {at}")
    assert answers == ["billing"] * 30


@pytest.mark.anyio
async def test_errors_are_the_same(async_client: corral.AsyncClient) -> None:
    with pytest.raises(corral.NotFoundError):
        await async_client.models.show("nowhere")
    with pytest.raises(corral.JobFailed, match="cancelled"):
        await async_client.datasets.create("async-stray", [{"text": "a", "label": "b"}] * 30)
        job = await async_client.train(
            "m", taxonomy=await async_client.taxonomies.create("x", ["a b", "c d"])
        )
        await job.cancel()
        await job.wait()
    async with corral.AsyncClient("http://127.0.0.1:9") as nobody:
        with pytest.raises(corral.UnavailableError, match="127.0.0.1:9"):
            await nobody.whoami()


@pytest.mark.anyio
async def test_a_wait_that_is_given_up_leaves_the_job_running(
    async_client: corral.AsyncClient, support: corral.Job
) -> None:
    job = await async_client.train("async-slow", dataset="tickets", trials=300, encoder="none")
    with anyio.move_on_after(0.3) as scope:
        await job.wait()
    assert scope.cancelled_caught
    assert (await job.refresh()).ended is None
    await job.cancel()

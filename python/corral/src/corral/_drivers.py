"""The two ways to perform an operation's steps: blocking, and on an event loop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

# httpx stands on anyio, so that it is there wherever httpx is.
import anyio
import anyio.to_thread
import httpx

from ._exchange import (
    Answer,
    Call,
    ConnectionFailed,
    Course,
    Open,
    Operation,
    Outcome,
    Pause,
    Read,
    Send,
    Step,
    took_too_long,
    unreachable,
)
from ._settings import Settings
from .types import JobEvent

T = TypeVar("T")

CONNECT_SECONDS = 10.0


def _client_options(settings: Settings, timeout: float | None) -> dict[str, object]:
    headers = {"user-agent": "corral-python"}
    if settings.token:
        headers["authorization"] = f"Bearer {settings.token}"
    return {
        "base_url": settings.url,
        "headers": headers,
        "timeout": httpx.Timeout(timeout, connect=CONNECT_SECONDS),
        "verify": settings.ssl_context(),
        # As the command line: a server of one's own is not asked through a proxy.
        "trust_env": False,
    }


def _failure(settings: Settings, error: httpx.TransportError) -> ConnectionFailed:
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return unreachable(settings.url, reason, was_sent=False)
    if isinstance(error, httpx.TimeoutException):
        return took_too_long(settings.url, reason)
    return unreachable(settings.url, reason, was_sent=True)


def _timeout(call: Call) -> dict[str, object]:
    if call.read_timeout_seconds is None:
        return {}
    return {"timeout": httpx.Timeout(call.read_timeout_seconds, connect=CONNECT_SECONDS)}


def _headers(call: Call) -> dict[str, str]:
    headers = dict(call.headers)
    if call.body is not None:
        headers["content-type"] = call.body.content_type
        if call.body.length is not None:
            headers["content-length"] = str(call.body.length)
    return headers


class SyncDriver:
    """Performs operations on the calling thread."""

    def __init__(self, settings: Settings, timeout: float | None) -> None:
        self.settings = settings
        self.http = httpx.Client(**_client_options(settings, timeout))  # type: ignore[arg-type]

    def run(self, operation: Operation[T]) -> T:
        course = Course(operation)
        for _ in self._events(course):
            pass
        return course.value

    def iterate(self, operation: Operation[None]) -> Iterator[JobEvent]:
        return self._events(Course(operation))

    def _events(self, course: Course[T]) -> Iterator[JobEvent]:
        conversation = _SyncConversation(self)
        try:
            step = course.advance(None)
            while step is not None:
                if isinstance(step, JobEvent):
                    yield step
                    step = course.advance(None)
                else:
                    step = course.advance(conversation.perform(step))
        finally:
            conversation.close()
            course.close()


class _SyncConversation:
    """The steps of one operation; keeps the answer that it left open."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver
        self._open: httpx.Response | None = None
        self._blocks: Iterator[bytes] = iter(())

    def perform(self, step: Step) -> Outcome:
        try:
            if isinstance(step, Send):
                return self._send(step.call)
            if isinstance(step, Open):
                return self._open_stream(step.call)
            if isinstance(step, Read):
                return next(self._blocks, b"")
            if isinstance(step, Pause):
                time.sleep(step.seconds)
            return None
        except httpx.TransportError as error:
            failure = _failure(self._driver.settings, error)
            failure.__cause__ = error
            return failure

    def _request(self, call: Call) -> httpx.Response:
        http = self._driver.http
        request = http.build_request(
            call.method,
            call.target,
            params=call.params or None,
            headers=_headers(call),
            content=None if call.body is None else call.body.open(),
            **_timeout(call),  # type: ignore[arg-type]
        )
        return http.send(request, stream=True)

    def _send(self, call: Call) -> Answer:
        response = self._request(call)
        try:
            if call.sink is None or response.status_code >= 400:
                return self._answer(response, response.read())
            call.sink.begin()
            for block in response.iter_bytes():
                call.sink.write(block)
            return self._answer(response, b"")
        finally:
            response.close()

    def _open_stream(self, call: Call) -> Answer:
        self.close()
        response = self._open = self._request(call)
        if response.status_code >= 400:
            return self._answer(response, response.read())
        self._blocks = response.iter_bytes()
        return self._answer(response, b"")

    def _answer(self, response: httpx.Response, content: bytes) -> Answer:
        had_token = self._driver.settings.token is not None
        return Answer(response.status_code, response.headers, content, had_token)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class AsyncDriver:
    """Performs operations on the running event loop."""

    def __init__(self, settings: Settings, timeout: float | None) -> None:
        self.settings = settings
        self.http = httpx.AsyncClient(**_client_options(settings, timeout))  # type: ignore[arg-type]

    async def run(self, operation: Operation[T]) -> T:
        course = Course(operation)
        async for _ in self._events(course):
            pass
        return course.value

    def iterate(self, operation: Operation[None]) -> AsyncIterator[JobEvent]:
        return self._events(Course(operation))

    async def _events(self, course: Course[T]) -> AsyncIterator[JobEvent]:
        conversation = _AsyncConversation(self)
        try:
            step = course.advance(None)
            while step is not None:
                if isinstance(step, JobEvent):
                    yield step
                    step = course.advance(None)
                else:
                    step = course.advance(await conversation.perform(step))
        finally:
            course.close()
            await conversation.close()


class _AsyncConversation:
    """The steps of one operation; keeps the answer that it left open."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._open: httpx.Response | None = None
        self._blocks: AsyncIterator[bytes] = _blocks(iter(()))

    async def perform(self, step: Step) -> Outcome:
        try:
            if isinstance(step, Send):
                return await self._send(step.call)
            if isinstance(step, Open):
                return await self._open_stream(step.call)
            if isinstance(step, Read):
                return await anext(self._blocks, b"")
            if isinstance(step, Pause):
                await anyio.sleep(step.seconds)
            return None
        except httpx.TransportError as error:
            failure = _failure(self._driver.settings, error)
            failure.__cause__ = error
            return failure

    async def _request(self, call: Call) -> httpx.Response:
        http = self._driver.http
        request = http.build_request(
            call.method,
            call.target,
            params=call.params or None,
            headers=_headers(call),
            content=None if call.body is None else _blocks(call.body.open()),
            **_timeout(call),  # type: ignore[arg-type]
        )
        return await http.send(request, stream=True)

    async def _send(self, call: Call) -> Answer:
        response = await self._request(call)
        try:
            if call.sink is None or response.status_code >= 400:
                return self._answer(response, await response.aread())
            call.sink.begin()
            async for block in response.aiter_bytes():
                await anyio.to_thread.run_sync(call.sink.write, block)
            return self._answer(response, b"")
        finally:
            await response.aclose()

    async def _open_stream(self, call: Call) -> Answer:
        await self.close()
        response = self._open = await self._request(call)
        if response.status_code >= 400:
            return self._answer(response, await response.aread())
        self._blocks = response.aiter_bytes()
        return self._answer(response, b"")

    def _answer(self, response: httpx.Response, content: bytes) -> Answer:
        had_token = self._driver.settings.token is not None
        return Answer(response.status_code, response.headers, content, had_token)

    async def close(self) -> None:
        if self._open is not None:
            await self._open.aclose()
            self._open = None


async def _blocks(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Blocks that are read or converted on a thread, so that the loop goes on meanwhile."""
    while block := await anyio.to_thread.run_sync(lambda: next(blocks, b"")):
        yield block

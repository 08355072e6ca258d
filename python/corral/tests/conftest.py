"""A real server for the tests: the binary that CORRAL_TEST_BINARY names, on a data directory and
a port of its own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import corral

PACKAGE = Path(__file__).parent.parent
STOP_SECONDS = 30


class Server:
    """A `corral up` and how to reach it."""

    def __init__(self, data_dir: Path) -> None:
        binary = os.environ.get("CORRAL_TEST_BINARY")
        if not binary:
            pytest.skip("skipped: CORRAL_TEST_BINARY names no corral to test against")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("CORRAL_")
        }
        self.log = data_dir.with_suffix(".log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "up", "--data-dir", str(data_dir), "--listen", "127.0.0.1:0"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment | {"CORRAL_CONFIG": os.devnull},
            )
        self.url, self.token = "", ""
        assert self.process.stdout is not None
        while not self.token:
            line = self.process.stdout.readline()
            assert line, f"corral up said too little before it ended: {self.log.read_text()}"
            if line.startswith("Corral is up at "):
                self.url = line.removeprefix("Corral is up at ").strip()
            self.token = line.partition("CORRAL_TOKEN=")[2].strip()
        # Keep reading, so that it never writes into a closed pipe.
        self._reader = threading.Thread(target=self.process.stdout.read)
        self._reader.start()

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "CORRAL_URL": self.url,
            "CORRAL_TOKEN": self.token,
            "CORRAL_CONFIG": os.devnull,
            "PYTHONPATH": str(PACKAGE / "src"),
        }

    def kill_server_process(self) -> None:
        """Kills the server below the supervisor, which starts another."""
        for children in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            for child in children.read_text().split():
                if Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[1] == b"server":
                    os.kill(int(child), signal.SIGKILL)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("corral") / "data")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[corral.Client]:
    with corral.connect(server.url, server.token) as connected:
        yield connected


@pytest.fixture
async def async_client(server: Server) -> AsyncIterator[corral.AsyncClient]:
    async with corral.AsyncClient(server.url, server.token) as connected:
        yield connected


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def public_data() -> Path:
    folder = os.environ.get("CORRAL_TEST_DATA")
    if not folder:
        pytest.skip("skipped: CORRAL_TEST_DATA names no folder of public data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def tickets() -> list[dict[str, Any]]:
    """Rows of three classes that words tell apart."""
    draw = random.Random(7)
    openings = ["the invoice", "my parcel", "the app", "this order", "your service"]
    phrases = {
        "billing": ["charged twice", "refund the money", "wrong price", "card declined"],
        "shipping": ["arrived late", "lost on the way", "left at a neighbour", "no tracking"],
        "technical": ["crashes on start", "shows an error", "login fails", "screen is black"],
    }
    return [
        {
            "text": f"{draw.choice(openings)} {draw.choice(phrases[label])} number {number}",
            "label": label,
            "split": "test" if number % 5 == 4 else "train",
            "trust": 1 + number % 2,
        }
        for number, label in enumerate(list(phrases) * 100)
    ]


@pytest.fixture(scope="session")
def support(client: corral.Client, tickets: list[dict[str, Any]]) -> corral.Job:
    """A model that is trained and deployed as `support`."""
    client.datasets.create("tickets", tickets)
    job = client.train("support", dataset="tickets", trials=4, encoder="none").wait(progress=False)
    client.deploy(job.model)
    return job


def run_python(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python program that has the server's address and token in its environment."""
    return subprocess.run(
        # A script may leave closing its client to the end of the process.
        [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", *arguments],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )

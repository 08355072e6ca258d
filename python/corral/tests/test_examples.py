"""The examples run, the documentation is what the docstrings say, and the package builds."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import PACKAGE, Server, run_python

import corral

EXAMPLES = PACKAGE / "examples"


def run_example(server: Server, name: str, *arguments: str) -> str:
    ran = run_python(server, str(EXAMPLES / name), *arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def test_from_pandas(server: Server) -> None:
    said = run_example(server, "from_pandas.py")
    assert "240 rows, 3 classes" in said
    assert "first" in said and "shipping" in said and "technical" in said
    assert "accuracy" in said


def test_train_and_deploy(server: Server, public_data: Path) -> None:
    files = [str(public_data / "trec" / name) for name in ("train.jsonl", "test.jsonl")]
    said = run_example(server, "train_and_deploy.py", *files)
    assert "train: 5452 rows" in said and "test: 500 rows" in said
    accuracy = float(said.partition("accuracy ")[2].split()[0])
    assert accuracy > 0.85, said
    assert "Who wrote Hamlet ?  HUM" in said
    assert "Where is the Louvre ?  LOC" in said


def test_no_labels(server: Server) -> None:
    said = run_example(server, "no_labels.py").splitlines()
    assert said[0] == "example-desks@1: sport, business, science"
    assert [line.partition(":")[0] for line in said[1:]] == ["sport", "business", "science"]


def test_async_predict(server: Server, support: corral.Job) -> None:
    said = run_example(server, "async_predict.py", "support")
    assert said == "64 answers: shipping\n2560 answers of support@1\n"


def test_every_example_is_run() -> None:
    tests = Path(__file__).read_text()
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in tests, example


def test_the_page_says_what_the_docstrings_say() -> None:
    checked = subprocess.run(
        [sys.executable, str(PACKAGE / "docs.py"), "--check"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_the_wheel_holds_the_package(tmp_path: Path) -> None:
    built = subprocess.run(
        # What the backend needs is installed here, so that building asks for nothing elsewhere.
        [sys.executable, "-m", "uv", "build", "--wheel", "--no-build-isolation", "--offline"]
        + ["--python", sys.executable, "--out-dir", str(tmp_path), str(PACKAGE)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("corral-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
        (metadata,) = (name for name in files if name.endswith("METADATA"))
        needs = [
            line
            for line in archive.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist") and "extra" not in line
        ]
    assert {"corral/__init__.py", "corral/py.typed", "corral/_operations/jobs.py"} <= set(files)
    assert len(needs) == 1 and "httpx" in needs[0]

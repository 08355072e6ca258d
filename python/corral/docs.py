"""Writes docs/python.md from the package's docstrings.

python docs.py            writes the page
python docs.py --check    fails where the page is not what this would write
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

from corral import client, errors, options, report, tables, types

PAGE = Path(__file__).parent.parent.parent / "docs" / "python.md"

HEAD = """# Python

`corral` is the Python package: pure Python, typed, on `httpx`; pandas, polars and pyarrow are
used where they are installed. It stands in [python/corral](../python/corral):

```
pip install ./python/corral        # or `uv build python/corral`, and install the wheel
```

```python
import corral

client = corral.connect()
client.datasets.create("tickets", frame, text="subject", label="queue", draw={"test": 0.1})
job = client.train("support", dataset="tickets").wait()
client.models.report(job.model)          # a page, in a notebook
client.deploy(job.model)
client.predict("support", frame["subject"], top_k=3).to_pandas()
```

Scripts that run are in [python/corral/examples](../python/corral/examples).
`corral.AsyncClient` has the same methods as coroutines. This page is made of the docstrings, by
`python python/corral/docs.py`.
"""


def main() -> None:
    page = "\n".join(sections()).rstrip() + "\n"
    if "--check" not in sys.argv:
        PAGE.write_text(page, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page:
        sys.exit(f"{PAGE} is stale: run `python {Path(__file__).name}`")


def sections() -> list[str]:
    written = [HEAD, "## Client", ""]
    written += described(client.Client)
    written += methods(client.Client, "client")
    for noun in ("Datasets", "Taxonomies", "Labeling", "Jobs"):
        written += resource(noun)
    written += ["## Job", "", *described(client.Job)]
    written += [*attributes(client.Job.__mro__[1]), "", *methods(client.Job, "job")]
    for noun in ("Models", "Encoders", "Endpoints", "Apps", "Functions", "Containers"):
        written += resource(noun)
    for title, names in (
        (
            "Options",
            [
                "ImportOptions",
                "TrainOptions",
                "PredictOptions",
                "BatchOptions",
                "LabelOptions",
                "CanaryOptions",
                "LogOptions",
                "DriftOptions",
            ],
        ),
        ("Tables", ["Table", "Runs", "Predictions"]),
    ):
        written += [f"## {title}", ""]
        module = options if title == "Options" else tables
        for name in names:
            written += shape(getattr(module, name))
    written += ["## Report", "", *described(report.Report), *attributes(report.Report), ""]
    written += methods(report.Report, "report")
    written += ["## Answers", "", paragraph(inspect.getdoc(types) or ""), ""]
    for name in types.__all__:
        written += shape(getattr(types, name))
    written += ["## Errors", "", *described(errors.CorralError)]
    written += attributes(errors.CorralError) + ["", "| exception | kind | |", "|---|---|---|"]
    for kind, error in errors.KINDS.items():
        written.append(f"| `{error.__name__}` | `{kind}` | {line(inspect.getdoc(error))} |")
    written.append(f"| `CallFailed` | `invalid` | {line(inspect.getdoc(errors.CallFailed))} |")
    written.append(f"| `JobFailed` | of the failure | {line(inspect.getdoc(errors.JobFailed))} |")
    return written


def resource(noun: str) -> list[str]:
    cls = getattr(client, noun)
    return [f"## {noun}", "", *methods(cls, f"client.{noun.lower()}")]


def described(cls: type) -> list[str]:
    return [paragraph(inspect.getdoc(cls) or ""), ""]


def shape(cls: type) -> list[str]:
    return [f"### {cls.__name__}", "", *described(cls), *attributes(cls), ""]


def methods(cls: type, of: str) -> list[str]:
    written = []
    # Of a name with overloads the last definition is the one that is documented.
    functions = {
        statement.name: statement
        for statement in class_body(cls)
        if isinstance(statement, ast.FunctionDef) and not statement.name.startswith("_")
    }
    for name, function in functions.items():
        if is_property(function):
            continue
        function.args.args.pop(0)
        answer = ast.unparse(function.returns) if function.returns else "None"
        returns = "" if answer == "None" else f" -> {answer}"
        call = f"{of}.{name}({ast.unparse(function.args)}){returns}"
        written += ["```python", *wrapped(call), "```", ""]
        written += [paragraph(inspect.getdoc(getattr(cls, name)) or ""), ""]
    return written


def class_body(cls: type) -> list[ast.stmt]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    return tree.body


def wrapped(call: str) -> list[str]:
    """A call on one line, or its arguments below it."""
    if len(call) <= 96:
        return [call]
    head, _, rest = call.partition("(")
    arguments, close, returns = rest.rpartition(")")
    return [f"{head}(", *textwrap.wrap(arguments, 92, initial_indent="    ",
            subsequent_indent="    ", break_long_words=False), f"{close}{returns}"]  # fmt: skip


def attributes(cls: type) -> list[str]:
    """Fields and properties with their types, and the sentences that stand below them."""
    written = []
    body = [*class_body(cls), None]
    for statement, after in zip(body, body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            says = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                says = ": " + line(str(after.value.value))
            kind = ast.unparse(statement.annotation).replace('"', "'")
            if not kind.startswith("ClassVar"):
                written.append(f"- `{statement.target.id}: {kind}`{says}")
        elif isinstance(statement, ast.FunctionDef) and is_property(statement):
            kind = ast.unparse(statement.returns) if statement.returns else ""
            says = line(ast.get_docstring(statement))
            written.append(f"- `{statement.name}: {kind}`: {says}")
        elif isinstance(statement, ast.FunctionDef) and statement.name.startswith("to_"):
            said = line(ast.get_docstring(statement))
            written.append(f"- `{statement.name}()`: {said}" if said else "")
    return [entry for entry in written if entry]


def is_property(function: ast.FunctionDef) -> bool:
    return any(
        isinstance(decorator, ast.Name) and decorator.id == "property"
        for decorator in function.decorator_list
    )


def paragraph(text: str) -> str:
    return text.strip()


def line(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    main()

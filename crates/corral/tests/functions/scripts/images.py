"""Images: chains of steps, and files that are brought along."""

import os
import pathlib

import modal

here = pathlib.Path(__file__).parent
app = modal.App("images")

base = modal.Image.debian_slim()


def prepare():
    """Runs while the image is built."""
    pathlib.Path("/srv/prepared.txt").write_text("made by a function")


if modal.is_local():
    requirements = str(here / "assets" / "requirements.txt")
else:
    # In a container the image is there, and the chain is not looked at.
    requirements = "/dev/null"

installed = base.pip_install("six==1.16.0").pip_install_from_requirements(requirements)
chained = (
    base.run_commands("mkdir -p /srv/work", "echo built > /srv/work/built.txt")
    .env({"COLOUR": "green", "PLACE": "here and there"})
    .workdir("/srv/work")
    .run_commands("echo $COLOUR in $(pwd) > colour.txt")
)
dockerfile = base.dockerfile_commands(
    ["ARG WHO=nobody", "ENV WHO=$WHO", "RUN echo by $WHO > /srv/who.txt"]
)
prepared = base.run_function(prepare)
copied = (
    base.add_local_file(here / "assets" / "note.txt", "/data/note.txt", copy=True)
    .add_local_dir(here / "assets", "/data/all", copy=True)
    .add_local_python_source("greetings", copy=True)
    .run_commands("cat /data/note.txt /data/all/nested/deep.txt > /data/both.txt")
)
mounted = (
    base.add_local_file(here / "assets" / "note.txt", "/data/note.txt")
    .add_local_dir(here / "assets", "/data/all")
    .add_local_python_source("greetings")
)


@app.function(image=installed)
def packages():
    import iniconfig
    import six

    return six.__version__, iniconfig.IniConfig.__name__


@app.function(image=chained)
def chain():
    return os.environ["COLOUR"], os.getcwd(), pathlib.Path("colour.txt").read_text().strip()


@app.function(image=dockerfile)
def who():
    return os.environ["WHO"], pathlib.Path("/srv/who.txt").read_text().strip()


@app.function(image=prepared)
def was_prepared():
    return pathlib.Path("/srv/prepared.txt").read_text()


@app.function(image=copied)
def copies():
    from greetings import greet

    return pathlib.Path("/data/both.txt").read_text().split("\n")[:2], greet("Ada")


@app.function(image=mounted)
def mounts():
    from greetings import greet

    files = sorted(str(path) for path in pathlib.Path("/data").rglob("*.txt"))
    return files, pathlib.Path("/data/note.txt").read_text().strip(), greet("Bob")


@app.local_entrypoint()
def main():
    from proof import part

    with part("pip_install"):
        assert packages.remote() == ("1.16.0", "IniConfig")
    with part("run_commands, env, workdir"):
        assert chain.remote() == ("green", "/srv/work", "green in /srv/work")
    with part("dockerfile_commands"):
        assert who.remote() == ("nobody", "by nobody")
    with part("run_function"):
        assert was_prepared.remote() == "made by a function"
    with part("add_local, copied"):
        assert copies.remote() == (["a file of the project", "deeper"], "Good day, Ada")
    with part("add_local, mounted"):
        files, note, greeting = mounts.remote()
        assert files == [
            "/data/all/nested/deep.txt",
            "/data/all/note.txt",
            "/data/all/requirements.txt",
            "/data/note.txt",
        ]
        assert (note, greeting) == ("a file of the project", "Good day, Bob")

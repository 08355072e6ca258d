"""An app with one image: of five steps, or with packages.

    python images.py steps|packages
"""

import sys

import modal

app = modal.App("bench-images")


def image(name):
    base = modal.Image.debian_slim()
    if name == "packages":
        return base.pip_install("pandas", "scikit-learn")
    steps = base.env({"BENCH": "1"}).run_commands("mkdir /bench").workdir("/bench")
    return steps.run_commands("echo one > one").run_commands("echo two > two")


@app.function(image=image(sys.argv[1]) if modal.is_local() else None)
def nothing():
    pass


if __name__ == "__main__":
    with app.run():
        print("{}")

"""Packages of the distribution."""

import subprocess

import modal

app = modal.App("image-apt")
image = modal.Image.debian_slim().apt_install("cowsay")


@app.function(image=image)
def say(text):
    return subprocess.run(["/usr/games/cowsay", text], capture_output=True, text=True).stdout


@app.local_entrypoint()
def main():
    from proof import part

    with part("apt_install"):
        assert "moo" in say.remote("moo")

"""Packages installed by uv."""

import modal

app = modal.App("image-uv")
image = modal.Image.debian_slim().uv_pip_install("six==1.16.0")


@app.function(image=image)
def version():
    import six

    return six.__version__


@app.local_entrypoint()
def main():
    from proof import part

    with part("uv_pip_install"):
        assert version.remote() == "1.16.0"

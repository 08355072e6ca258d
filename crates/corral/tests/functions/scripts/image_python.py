"""An image with a Python that no machine has."""

import modal

app = modal.App("image-python")


@app.function(image=modal.Image.debian_slim(python_version="3.15"), serialized=False)
def never():
    return None


@app.local_entrypoint()
def main():
    never.remote()

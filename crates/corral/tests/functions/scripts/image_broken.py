"""An image with a step that fails."""

import modal

app = modal.App("image-broken")
image = modal.Image.debian_slim().run_commands(
    "echo so far so good", "echo the oven is cold >&2; exit 7"
)


@app.function(image=image)
def never():
    return None


@app.local_entrypoint()
def main():
    never.remote()

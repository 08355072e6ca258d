"""A web endpoint, which this server does not have yet."""

import modal

app = modal.App("not-yet-web")


@app.function(image=modal.Image.debian_slim())
@modal.fastapi_endpoint()
def page():
    return "hello"


@app.local_entrypoint()
def main():
    print(page.get_web_url())

"""What this server does not do yet says so."""

import modal
from proof import part

app = modal.App.lookup("not-yet", create_if_missing=True)

with part("Volume"):
    modal.Volume.from_name("proof", create_if_missing=True).hydrate()
with part("Dict"):
    modal.Dict.from_name("proof", create_if_missing=True).hydrate()
with part("Queue"):
    modal.Queue.from_name("proof", create_if_missing=True).hydrate()
with part("Sandbox"):
    modal.Sandbox.create("true", app=app)
with part("Image.from_registry"):
    modal.Image.from_registry("alpine:3").build(app)

"""Asks for a secret that nobody made."""

import modal

app = modal.App("missing-secret")


@app.function(secrets=[modal.Secret.from_name("proof-nobody-made-it")])
def read():
    return None

"""Secrets: given in place, by name, and missing."""

import os

import modal

app = modal.App("with-secrets")

given = modal.Secret.from_dict({"GIVEN": "in place"})
named = modal.Secret.from_name("proof-named", required_keys=["NAMED"])


@app.function(secrets=[given, named])
def read(*names):
    return [os.environ.get(name) for name in names]


@app.function()
def read_without(*names):
    return [os.environ.get(name) for name in names]


@app.local_entrypoint()
def main():
    from proof import part

    with part("secret from a dict"):
        assert read.remote("GIVEN") == ["in place"]
    with part("secret by name"):
        assert read.remote("NAMED") == ["by name"]
        assert read_without.remote("GIVEN", "NAMED") == [None, None]

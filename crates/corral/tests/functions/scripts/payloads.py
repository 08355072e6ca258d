"""Arguments and results of any size."""

import hashlib
import os

import modal

app = modal.App("payloads")

MB = 1_000_000


@app.function(max_containers=1, memory=1024)
def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@app.function(max_containers=1, memory=1024)
def grow(seed: bytes, size: int) -> bytes:
    return (seed * (size // len(seed) + 1))[:size]


@app.local_entrypoint()
def main():
    from proof import part

    for size in (3 * MB, 40 * MB):
        with part(f"argument of {size // MB} MB"):
            data = os.urandom(size)
            assert digest.remote(data) == hashlib.sha256(data).hexdigest()
        with part(f"result of {size // MB} MB"):
            assert grow.remote(b"corral", size) == (b"corral" * (size // 6 + 1))[:size]
    with part("spawned argument of 3 MB"):
        assert digest.spawn(bytes(3 * MB)).get() == hashlib.sha256(bytes(3 * MB)).hexdigest()
    with part("large arguments of a map"):
        parts = [bytes([number]) * MB for number in range(5)]
        expected = [hashlib.sha256(data).hexdigest() for data in parts]
        assert list(digest.map(parts)) == expected

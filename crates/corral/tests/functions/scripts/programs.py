"""A program that runs its own app, without the command line."""

import asyncio

import modal
from proof import part

app = modal.App("programs")


@app.function(max_containers=1)
def double(x: int) -> int:
    print(f"doubling {x}")
    return 2 * x


async def asynchronously():
    async with app.run():
        assert await double.remote.aio(4) == 8


if __name__ == "__main__":
    with part("app.run in a program"):
        with modal.enable_output():
            with app.run():
                assert double.remote(3) == 6
    with part("app.run async"):
        asyncio.run(asynchronously())

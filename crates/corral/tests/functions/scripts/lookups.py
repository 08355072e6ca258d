"""A program of its own that calls what is deployed."""

import asyncio
import sys

import modal
from proof import part, raises


async def asynchronously(shout):
    assert await shout.remote.aio("c") == "C"
    assert [text async for text in shout.map.aio(["a", "b"])] == ["A", "B"]


def main():
    with part("Function.from_name"):
        shout = modal.Function.from_name("library", "shout")
        assert shout.remote("hello") == "HELLO"
        assert list(shout.map(["a", "b"])) == ["A", "B"]
        assert list(modal.Function.from_name("library", "count").remote_gen(3)) == [0, 1, 2]
    with part("Function.from_name async"):
        asyncio.run(asynchronously(modal.Function.from_name("library", "shout")))
    with part("spawn from another program"):
        call = modal.Function.from_name("library", "rest").spawn(0.5)
        later = modal.FunctionCall.from_id(call.object_id)
        assert later.get(timeout=30) == "rested"
    with part("exception from another program"):
        with raises(ValueError, containing="not today"):
            modal.Function.from_name("library", "refuse").remote()
    with part("Cls.from_name"):
        Shelf = modal.Cls.from_name("library", "Shelf")
        assert Shelf(label="toys").add.remote("bear") == ["toys", "bear"]
        assert Shelf().add.remote("book") == ["books", "book"]
    with part("nothing of that name"):
        with raises(modal.exception.NotFoundError, containing="nobody"):
            modal.Function.from_name("library", "nobody").remote()


if __name__ == "__main__":
    sys.exit(main())

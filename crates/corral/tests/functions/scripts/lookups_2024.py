"""How programs of 2024 called what was deployed."""

import modal
from proof import part, raises

with part("Function.lookup"):
    shout = modal.Function.lookup("library", "shout")
    assert shout.remote("hello") == "HELLO"
with part("spawn from another program"):
    call = modal.Function.lookup("library", "rest").spawn(0.5)
    assert modal.functions.FunctionCall.from_id(call.object_id).get(timeout=30) == "rested"
with part("exception from another program"):
    with raises(ValueError, containing="not today"):
        modal.Function.lookup("library", "refuse").remote()
with part("Cls.lookup"):
    Shelf = modal.Cls.lookup("library", "Shelf")
    assert Shelf(label="toys").add.remote("bear") == ["toys", "bear"]
with part("nothing of that name"):
    with raises(modal.exception.NotFoundError, containing="nobody"):
        modal.Function.lookup("library", "nobody")

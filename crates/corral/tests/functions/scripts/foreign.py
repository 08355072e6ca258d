"""Another app, whose secrets, inputs and results are its own."""

import modal

app = modal.App("foreign")

secret = modal.Secret.from_dict({"FOREIGN": "hands off"})


@app.function(secrets=[secret])
def guarded(word: str) -> str:
    return f"kept {word}"


if __name__ == "__main__":
    guard = modal.Function.from_name("foreign", "guarded")
    call = guard.spawn("to myself")
    assert call.get(timeout=40) == "kept to myself"
    print(modal.App.lookup("foreign").app_id, guard.object_id, call.object_id, sep=",")

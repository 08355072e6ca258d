"""Functions that travel as they are, without a file to import."""

import modal

app = modal.App("serialized")


def make_adder(amount):
    @app.function(serialized=True, name=f"add_{amount}")
    def adder(x):
        return x + amount

    return adder


add_two, add_ten = make_adder(2), make_adder(10)


@app.cls(serialized=True)
class Echo:
    @modal.method()
    def say(self, text):
        return text


@app.local_entrypoint()
def main():
    from proof import part

    with part("serialized function"):
        assert (add_two.remote(1), add_ten.remote(1)) == (3, 11)
    with part("serialized class"):
        assert Echo().say.remote("hi") == "hi"

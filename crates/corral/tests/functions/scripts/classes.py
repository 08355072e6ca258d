"""Classes with state: parameters, hooks, options."""

import os

import modal

app = modal.App("classes")


@app.cls(max_containers=1)
class Counter:
    start: int = modal.parameter(default=0)
    name: str = modal.parameter(default="nobody")

    @modal.enter()
    def begin(self):
        self.count = self.start

    @modal.method()
    def increment(self, by: int = 1) -> int:
        self.count += by
        return self.count

    @modal.method()
    def describe(self) -> str:
        return f"{self.name} is at {self.count}"

    @modal.method()
    def countdown(self):
        yield from range(self.count, 0, -1)

    @modal.method()
    def variable(self, name: str):
        return os.environ.get(name)

    @modal.exit()
    def end(self):
        print(f"{self.name} ends at {self.count}")


@app.local_entrypoint()
def main():
    from proof import part

    with part("method"):
        counter = Counter()
        assert [counter.increment.remote() for _ in range(3)] == [1, 2, 3]
    with part("parameters"):
        ada, bob = Counter(start=10, name="ada"), Counter(start=20, name="bob")
        assert ada.increment.remote(by=2) == 12
        assert bob.increment.remote() == 21
        assert Counter(start=10, name="ada").describe.remote() == "ada is at 12"
    with part("generator method"):
        assert list(Counter(start=3).countdown.remote_gen()) == [3, 2, 1]
    with part("method map"):
        assert sorted(Counter(name="map").increment.map([1] * 5)) == [1, 2, 3, 4, 5]


@app.local_entrypoint()
def options():
    from proof import part

    with part("with_options"):
        secret = modal.Secret.from_dict({"COLOUR": "green"})
        Green = Counter.with_options(max_containers=1, timeout=60, secrets=[secret])
        assert Green(name="green").variable.remote("COLOUR") == "green"
        assert Counter(name="plain").variable.remote("COLOUR") is None

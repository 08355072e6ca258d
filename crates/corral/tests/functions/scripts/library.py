"""Deployed, and called by others by its name."""

import time

import modal

app = modal.App("library")

VERSION = 1


@app.function()
def shout(text: str) -> str:
    print(f"shouting {text}")
    return text.upper()


@app.function()
def version() -> int:
    return VERSION


@app.function()
def count(to: int):
    yield from range(to)


@app.function()
def rest(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


@app.function()
def refuse():
    raise ValueError("not today")


@app.cls()
class Shelf:
    label: str = modal.parameter(default="books")

    @modal.enter()
    def begin(self):
        self.items = []

    @modal.method()
    def add(self, item: str) -> list:
        self.items.append(item)
        return [self.label, *self.items]

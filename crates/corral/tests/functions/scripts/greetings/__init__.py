"""A package of the project, brought along as source."""


def greet(name):
    return f"Good day, {name}"

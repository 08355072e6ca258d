"""Asks for what is not there."""

import modal

try:
    modal.Function.from_name("shop", "greet").remote("Ada")
except modal.exception.NotFoundError as error:
    print("not found:", error)
try:
    modal.Volume.from_name("v", create_if_missing=True).hydrate()
except modal.exception.UnimplementedError as error:
    print("unimplemented:", error)

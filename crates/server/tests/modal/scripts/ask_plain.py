"""Looks up what `plain.py` deployed."""

import modal

double = modal.Function.from_name("plain", "double")
assert double.remote(21) == 42
assert double.spawn(3).get(timeout=60) == 6
print("looked up")

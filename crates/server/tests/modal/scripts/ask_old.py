"""Looks up what `old.py` deployed."""

import modal

double = modal.Function.lookup("old", "double")
assert double.remote(21) == 42
assert double.spawn(3).get(timeout=60) == 6
print("looked up")

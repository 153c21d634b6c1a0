"""The serial merge queue's hands: merge, check, move the target, publish."""

"""Careful looks into JSON that a CLI printed: anything may be missing or of another type."""

from __future__ import annotations

import math
from collections.abc import Iterator

MAX_TOKENS = 10**12
"""More tokens, or dollars, than this in one number is nonsense and read as unknown."""


def at(record: object, *path: str) -> object:
    """What lies at ``path`` in nested objects, or ``None``."""
    for key in path:
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record


def text_at(record: object, *path: str) -> str:
    """The string at ``path``, or ``""``."""
    found = at(record, *path)
    return found if isinstance(found, str) else ""


def count_at(record: object, *path: str) -> int | None:
    """The non-negative whole number at ``path``, or ``None``."""
    found = number_at(record, *path)
    return None if found is None else int(found)


def number_at(record: object, *path: str) -> float | None:
    """The finite number from 0 to :data:`MAX_TOKENS` at ``path``, or ``None``."""
    found = at(record, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    if isinstance(found, float) and not math.isfinite(found):
        return None
    return found if 0 <= found <= MAX_TOKENS else None


def items_at(record: object, *path: str) -> Iterator[dict[str, object]]:
    """The objects in the array at ``path``; whatever else is in it is passed over."""
    found = at(record, *path)
    if isinstance(found, list):
        for item in found:
            if isinstance(item, dict):
                yield item

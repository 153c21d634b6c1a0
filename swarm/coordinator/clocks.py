"""The wall clock may jump; what the ledger holds back in its time must not wait for the jump.

A task that waits for a retry does so until a time of day, as that outlives the coordinator.  When
the wall clock is put back, all those times are put back with it.
"""

from __future__ import annotations

JUMP_SECONDS = 2.0
"""Smaller corrections are nobody's business; a clock that is slewed makes no larger ones."""


def put_back(before: float, after: float) -> float:
    """By how many seconds the wall clock was put back between two looks; 0 for not at all.

    ``before`` and ``after`` are the wall clock minus the monotonic one at either look.
    """
    back = before - after
    return back if back > JUMP_SECONDS else 0.0

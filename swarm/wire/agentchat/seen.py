"""What a client remembers of the messages it has heard, so that a replay repeats nothing."""

from __future__ import annotations

from array import array

HELD = 256
"""Message ids remembered; a server replays at most 200."""


class Seen:
    """The last :data:`HELD` message ids, eight bytes each: every daemon of a fleet holds one.

    Kept by the caller over reconnects.  Two ids that hash alike would hide one replayed message,
    which a chance of 1 in 2**56 allows.
    """

    __slots__ = ("_at", "_hashes")

    def __init__(self) -> None:
        self._hashes = array("q")
        self._at = 0

    def note(self, msg_id: str) -> None:
        """Remember one."""
        value = hash(msg_id)
        if len(self._hashes) < HELD:
            self._hashes.append(value)
        else:
            self._hashes[self._at] = value
            self._at = (self._at + 1) % HELD

    def __contains__(self, msg_id: object) -> bool:
        return hash(msg_id) in self._hashes

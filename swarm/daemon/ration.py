"""How much a daemon listens to one chat server: a flood is left to wait in the server's own socket.

A server that sends as fast as it can, ours under attack or somebody else's by intent, would else
have every daemon of the fleet on a processor at once.  The kernel tells it to slow down as soon
as we do not read.
"""

from __future__ import annotations

BURST = 8 * 1024 * 1024
"""Bytes read at once: a whole replay of a server with the protocol's own limits, twice."""
A_SECOND = 1024 * 1024
FLOOD_SECONDS = 20.0
"""Never caught up for so long: what waits is not worth reading, another connection may be."""
FRAME_COSTS = 64
"""Bytes a frame counts as beside its own: looking at it costs about as much."""


class Ration:
    """Bytes that may be read now; ``now`` is monotonic seconds."""

    __slots__ = ("_at", "_behind", "_left")

    def __init__(self) -> None:
        self._left = BURST
        self._at = 0.0
        self._behind = 0.0
        """Since when there has always been more than we may read; 0: there is not."""

    def take(self, size: int, frames: int, now: float, *, all_read: bool = False) -> bool:
        """So much was read; false when the server has flooded us for too long.

        ``all_read``: nothing is left waiting, as far as is known.
        """
        filled = int((now - self._at) * A_SECOND)
        self._left = min(BURST, self._left + filled) - size - frames * FRAME_COSTS
        self._at = now
        if all_read:
            self._behind = 0.0
        elif self._left < 0 and not self._behind:
            self._behind = now
        if self._behind and now - self._behind > FLOOD_SECONDS:
            self._behind = 0.0
            return False
        return True

    def again_at(self) -> float | None:
        """When to read again; ``None``: now."""
        return None if self._left >= 0 else self._at - self._left / A_SECOND

"""Who answers which message: the floor claims of ``RESPONDING_TO``."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One agent holds the floor for one message; ``holder`` is a bare id."""

    holder: str
    conn: int
    started_at: int
    until: int


class Floor:
    """Claims by (channel, message); at most ``most``, each for ``lasts`` milliseconds.

    The earlier ``started_at`` wins, the smaller id on a tie, whoever came first to the server.
    """

    __slots__ = ("_claims", "_lasts", "_most")

    def __init__(self, most: int, lasts: int) -> None:
        self._most = most
        self._lasts = lasts
        self._claims: OrderedDict[tuple[str, str], Claim] = OrderedDict()

    def claim(
        self, channel: str, msg_id: str, holder: str, conn: int, started_at: int, now: int
    ) -> tuple[Claim, Claim | None]:
        """Who holds the floor now, and who must yield to them (``None``: nobody).

        A ``started_at`` older than a claim lasts, or in the future, counts as that bound: a
        forged one cannot win for ever.
        """
        started = min(max(started_at, now - self._lasts), now)
        mine = Claim(holder, conn, started, now + self._lasts)
        key = (channel, msg_id)
        held = self._claims.get(key)
        if held is not None and held.until > now and held.holder != holder:
            if (held.started_at, held.holder) <= (started, holder):
                return held, mine
            self._claims[key] = mine
            return mine, held
        self._claims[key] = mine
        self._claims.move_to_end(key)
        while len(self._claims) > self._most:
            self._claims.popitem(last=False)
        return mine, None

    def release(self, holder: str, channel: str | None = None) -> None:
        """``holder`` spoke in ``channel``, or left (``None``): its claims are over."""
        if self._claims:
            over = [
                key
                for key, claim in self._claims.items()
                if claim.holder == holder and channel in (None, key[0])
            ]
            for key in over:
                del self._claims[key]

    def __len__(self) -> int:
        return len(self._claims)

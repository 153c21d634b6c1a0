"""Pauses on their way into the ledger: written at once where that can be, else a little later.

The loop may not wait for the ledger: who holds its lock may hang, a stopped coordinator in the
middle of a transaction for instance, and until that is found nobody else would be looked after.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from swarm.core.fleet_effects import DropPause, EndQuotaWaits, KeepPause
from swarm.errors import SwarmError
from swarm.logs import JsonLog
from swarm.supervisor.books import Books

AGAIN_SECONDS = 0.5
"""Until a booking that could not be written is tried again; doubled each time."""
LONGEST_SECONDS = 10.0

Booking: TypeAlias = KeepPause | DropPause | EndQuotaWaits


class Bookings:
    """What is still to be written: of each pause only its newest state, so it cannot grow."""

    def __init__(self, loop: asyncio.AbstractEventLoop, books: Books, log: JsonLog) -> None:
        self._loop = loop
        self._books = books
        self._log = log
        self._open: dict[str | None, Booking] = {}
        self._wait = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many are not written yet."""
        return len(self._open)

    def add(self, booking: Booking) -> None:
        """Write it, now or as soon as the ledger can be written; never raises."""
        scope = None if isinstance(booking, EndQuotaWaits) else booking.scope
        self._open.pop(scope, None)  # the newest comes last
        self._open[scope] = booking
        if self._timer is None:  # else the ledger could not be written a moment ago
            self._write()

    def close(self) -> None:
        """Nothing is tried again; what is left is tried a last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._write()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self) -> None:
        self._timer = None
        try:
            while self._open:
                scope = next(iter(self._open))
                self._carry_out(self._open[scope])
                del self._open[scope]
        except SwarmError as error:
            if not self._wait:  # once is enough
                self._log.write("ledger", error=str(error))
            self._wait = min(self._wait * 2 or AGAIN_SECONDS, LONGEST_SECONDS)
            self._timer = self._loop.call_later(self._wait, self._write)
        else:
            self._wait = 0.0

    def _carry_out(self, booking: Booking) -> None:
        match booking:
            case KeepPause(scope=scope, reason=reason, until=until):
                self._books.pause(scope, reason, until)
            case DropPause(scope=scope):
                self._books.resume(scope)
            case EndQuotaWaits():
                self._books.end_quota_waits()

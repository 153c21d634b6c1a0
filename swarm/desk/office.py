"""A desk on an event loop: verbs, waits, and the poke that nobody waits for."""

from __future__ import annotations

import asyncio
from types import TracebackType

from swarm.config.places import Places
from swarm.desk.changes import Changes
from swarm.desk.control import poke
from swarm.desk.verbs import Desk
from swarm.errors import SwarmError
from swarm.ledger import open_ledger


class Office:
    """One home's desk for many at once; belongs to one event loop.  ``by`` is :attr:`Desk.by`.

    Raises :class:`~swarm.errors.LedgerError` when the ledger cannot be opened.
    """

    def __init__(self, places: Places, by: str) -> None:
        self._ledger = open_ledger(places.ledger)
        self.desk = Desk(places, self._ledger, self._poke, by)
        self.changes = Changes(places.ledger)
        self._poking: asyncio.Task[None] | None = None
        self._poke_again = False

    async def __aenter__(self) -> Office:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._poking is not None:
            await asyncio.wait([self._poking])  # it has a limit of its own
        await self.changes.close()
        self._ledger.close()

    def _poke(self) -> None:
        """Soon, beside: a supervisor that hangs keeps nobody waiting.  Many at once are one."""
        self._poke_again = True
        if self._poking is None or self._poking.done():
            self._poking = asyncio.get_running_loop().create_task(self._poke_beside())

    async def _poke_beside(self) -> None:
        while self._poke_again:
            self._poke_again = False
            try:
                await asyncio.to_thread(poke, self.desk.places)
            except (SwarmError, OSError):  # no descriptor is left, even for a thread's first import
                return  # there is none that could hear it

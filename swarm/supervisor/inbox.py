"""Everything that happens, in one line: an event is decided and carried out before the next.

Nothing waits here: who posts an event has it handled at once, unless another is being handled,
which then goes first.  So a promotion is answered in the same turn of the loop that read it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

from swarm.core.fleet_effects import Effect
from swarm.core.fleet_events import Event, Tick


class Machine(Protocol):
    """What the inbox drives: the fleet."""

    def handle(self, event: Event, now: float, jitter: float = 0.0) -> list[Effect]:
        """Take in one event."""

    def deadline(self) -> float | None:
        """When a ``Tick`` is due."""


class Inbox:
    """Feeds events to the machine and its effects to ``perform``, and keeps its deadlines.

    ``perform`` never blocks and never raises; it may post further events.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        machine: Machine,
        perform: Callable[[Effect], None],
    ) -> None:
        self._loop = loop
        self._machine = machine
        self._perform = perform
        self._waiting: deque[Event] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._random = random.Random()  # noqa: S311 - spreads restarts, guards nothing

    def post(self, event: Event) -> None:
        """Handle ``event``, now or after the one that is being handled."""
        self._waiting.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._waiting:
                effects = self._machine.handle(
                    self._waiting.popleft(), self._loop.time(), self._random.random()
                )
                for effect in effects:
                    self._perform(effect)
        finally:
            self._busy = False
            self._arm()

    def close(self) -> None:
        """No more deadlines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        at = self._machine.deadline()
        if self._timer is not None:
            if at is not None and self._timer.when() == at and not self._timer.cancelled():
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.post(Tick())

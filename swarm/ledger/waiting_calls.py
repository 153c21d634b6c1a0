"""What who waits for a task asks of a ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from swarm.ledger.records import Event, Task


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a task is on its way, and who has it."""

    task: Task
    lease_until: float | None
    """Unix seconds until which its holder has it; ``None`` where nobody does."""
    last: Event | None
    """The newest change of it."""
    ahead: int
    """Tasks that land before it; 0 where it does not wait to land."""
    reviews: tuple[str, ...]
    """Ids of the tasks that review it and have not ended."""


class WaitingCalls(Protocol):
    """See :class:`~swarm.ledger.interface.Ledger`."""

    def data_version(self) -> int:
        """A number that differs after any other connection has changed anything.

        Cheap: what a waiter looks at.  It says nothing beyond this connection's life.
        """

    def standing(self, task: str) -> Standing | None:
        """Where a task is, by its exact id; ``None`` when there is no such task."""

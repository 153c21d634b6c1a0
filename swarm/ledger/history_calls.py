"""What a ledger does to begin a task's next life: part of its interface."""

from __future__ import annotations

from typing import Protocol

from swarm.core.budget import NOTHING, Amount
from swarm.ledger.records import Task


class HistoryCalls(Protocol):
    """Tasks that have ended, and begin again."""

    def retry(
        self,
        task: str,
        budget: Amount = NOTHING,
        *,
        fresh: bool = False,
        note: str = "",
        by: str = "",
    ) -> Task:
        """Queue an ended task again, with its branch and its earlier attempts; a new session.

        ``fresh``: its next attempt names a new branch; the old one stays in the hub.  ``note`` is
        what that attempt is told, said by ``by``.  ``budget`` takes the place of what it had been
        given, part by part.  Raises :class:`~swarm.errors.UsageError` for an unknown id, a task
        that has not ended, or one that has spent its very own budget.
        """

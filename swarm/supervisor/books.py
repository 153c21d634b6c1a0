"""What the supervisor keeps in the ledger, or reads there: pauses, and what was spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from swarm.config.places import Places
from swarm.core.budget import Key, Reading
from swarm.core.fleet_state import BY_PERSON
from swarm.core.model import Review
from swarm.core.quota import runtime_of
from swarm.ledger import Pause, open_ledger
from swarm.ledger.records import UNDECIDED
from swarm.ledger.ways import way_of
from swarm.wire.lifeline import Finished, Rules

PATIENCE_SECONDS = 0.1
"""How long the supervisor's loop waits for another process's transaction.  Those take milliseconds;
one that takes longer belongs to a process that hangs, and must not make the supervisor hang too."""


class Books:
    """The ledger is opened for each look: they are rare, and it stays another process's.

    Once the loop runs no call waits longer than :data:`PATIENCE_SECONDS`, unless it is told to.
    """

    def __init__(self, places: Places, rules: Callable[[], Rules] | None = None) -> None:
        """``rules`` are asked for when a report is taken in; without them nothing may land yet."""
        self._path = places.ledger
        self._rules = rules

    def pauses(self) -> dict[str, Pause]:
        """The fleet's pauses that are still in force, by scope; makes the ledger at first use.

        Raises :class:`~swarm.errors.LedgerError` when it is no ledger of this version.
        """
        now = time.time()
        with open_ledger(self._path) as ledger:
            return {
                one.scope: one
                for one in ledger.pauses()
                if (one.scope == BY_PERSON or runtime_of(one.scope) is not None)
                and (one.until is None or one.until > now)
            }

    def pause(self, scope: str, reason: str, until: float | None) -> None:
        """Remember a pause.  Raises :class:`~swarm.errors.LedgerError`."""
        with open_ledger(self._path, PATIENCE_SECONDS) as ledger:
            ledger.pause(scope, reason, until)

    def resume(self, scope: str) -> None:
        """Forget it.  Raises :class:`~swarm.errors.LedgerError`."""
        with open_ledger(self._path, PATIENCE_SECONDS) as ledger:
            ledger.resume(scope)

    def end_quota_waits(self) -> None:
        """Let every task go that waits for a quota.  Raises :class:`~swarm.errors.LedgerError`."""
        with open_ledger(self._path, PATIENCE_SECONDS) as ledger:
            ledger.end_quota_waits()

    def take_in(
        self, reports: Sequence[tuple[str, Finished]], patience: float = PATIENCE_SECONDS
    ) -> None:
        """Record what agents reported and nobody has taken in, each once, however often it is told.

        Raises :class:`~swarm.errors.LedgerError`.
        """
        with open_ledger(self._path, patience) as ledger:
            rules = None if self._rules is None else self._rules()
            for agent, finished in reports:
                task = None if rules is None else ledger.task(finished.task)
                way = UNDECIDED
                if rules is not None and task is not None:
                    way = way_of(task, rules.landing, rules.roles)
                ledger.finish(finished, agent, way=way)

    def still_in_review(self) -> list[str]:
        """Tasks that wait for approval though by now nobody is asked to review such: a person's.

        What was submitted for approval is never landed by a change of the rules.  Raises
        :class:`~swarm.errors.LedgerError`.
        """
        if self._rules is None:
            return []
        rules = self._rules()
        with open_ledger(self._path, PATIENCE_SECONDS) as ledger:
            return [
                task.id
                for task in ledger.in_review()
                if way_of(task, rules.landing, rules.roles).review is Review.NONE
            ]

    def spending(self, sessions: Sequence[Key], *, daily: bool) -> Reading:
        """What was spent since midnight UTC, or ever, and what is known of these sessions.

        Raises :class:`~swarm.errors.LedgerError`.
        """
        with open_ledger(self._path, PATIENCE_SECONDS) as ledger:
            return ledger.spending(sessions, daily=daily)

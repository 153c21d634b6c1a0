"""Why a task is where it is, for people: the ledger's rows, and what the swarm noted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from swarm.core.model import OVER, Outcome, TaskState, is_outsider_id
from swarm.core.retry import reason_in
from swarm.ledger.interface import Ledger, Task
from swarm.ledger.queries import Clock


class _Whole(Ledger, Protocol):
    """The ledger this is part of."""

    _clock: Clock


class Reasons:
    """Part of :class:`~swarm.ledger.sqlite.SqliteLedger`; see its interface."""

    def reason(self: _Whole, task: str, *, live: bool = True) -> str | None:
        """See the interface: dependencies first, then a delay, the gate, and missing agents."""
        row = self.task(task)
        if row is None:
            return None
        if row.state is TaskState.RUNNING and is_outsider_id(row.agent_id):
            return f"{row.agent} has it by a lease from outside the fleet"
        if row.state is TaskState.RUNNING and not live:  # a killed swarm could not write it down
            return "no swarm runs it any more: the next `agentctl swarm up` queues it again"
        if row.state is TaskState.REVIEW:
            return _waits_for_review(self, row, live=live)
        if row.state is TaskState.LANDING and not row.reason:
            return _waits_to_land(self, row) if live else "lands when a swarm runs"
        if row.state is not TaskState.QUEUED:
            return row.reason or None
        if row.blocked:
            return _waiting_text(self.waits_for(task))
        if row.paused:
            return "its plan is paused"
        notes = self.notes() if live else {"gate": "no swarm is running"}
        if row.not_before is not None and row.not_before > self._clock():
            if (closed := notes.get("gate", "")).startswith("paused"):
                return closed  # a quota's pause ends when it ends, and the delay with it
            left = round(row.not_before - self._clock())
            return reason_in(row.reason, left)
        # Nobody here will ever take it: that is worse than any gate that a person did not close.
        gate, nobody = notes.get("gate", ""), notes.get(f"queue:{row.queue}", "")
        noted = (gate or nobody) if gate.startswith("paused") else (nobody or gate)
        if noted or _waited_for_budget(self, row):
            return noted or None
        return row.reason or None


def _waits_to_land(ledger: _Whole, row: Task) -> str:
    standing = ledger.standing(row.id)
    count = 0 if standing is None else standing.ahead
    return f"{count} land{'s' * (count == 1)} before it" if count else "its turn to land"


def _waits_for_review(ledger: _Whole, row: Task, *, live: bool) -> str:
    """Whose word a task in ``review`` waits for."""
    reviews = ledger.reviews(row.id)
    living = (one for one in reviews if one.about_commit == row.tip and one.state not in OVER)
    found = next(living, None)
    if found is None:
        return f"waits for approval: agentctl task approve {row.id}, or reject {row.id} TEXT"
    if found.state is TaskState.RUNNING:
        return f"is being reviewed: {found.id}"
    why = ledger.reason(found.id, live=live)
    return f"waits for its review {found.id}" + (f": {why}" if why else "")


def _waited_for_budget(ledger: _Whole, row: Task) -> bool:
    """Whether it was queued again for a budget: where no gate is closed, there is a new one."""
    attempts = ledger.attempts(row.id) if row.fence else []
    return bool(attempts) and attempts[-1].outcome is Outcome.OVER_BUDGET


def _waiting_text(needed: Sequence[Task]) -> str:
    """Says the dependency that can no longer be met first: a person has to act on that one."""
    ended = [task for task in needed if task.state.ended]
    words = {
        TaskState.FAILED: "which failed",
        TaskState.CANCELLED: "which was cancelled",
        TaskState.NEEDS_HUMAN: "which waits for a person",
        TaskState.SKIPPED: "which was skipped",
    }
    if ended:
        return f"waits for {ended[0].id} {words.get(ended[0].state, 'which ended')}"
    names = ", ".join(task.id for task in needed[:3])
    return f"waits for {names}" + (f" and {len(needed) - 3} more" if len(needed) > 3 else "")

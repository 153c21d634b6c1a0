"""The ledger's calls about queues, lanes and threads: who may take what, and leases of outsiders.

An outsider is an agent that is not of the fleet and not on its channel: a script, a chat session,
another host.  It has a name of its own choosing, works the same queue, and holds a lease by it:
agent ``@<name>``, agent id ``lane:<name>`` (:func:`swarm.core.model.outsider_id`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from swarm.core.model import Outcome, Usage
from swarm.ledger.records import Claimed, Holder, Queue, Task

LANE_SECONDS = 300.0
"""An outsider's lease, where it asks for no other: it renews well before."""
LEAST_LANE_SECONDS, MOST_LANE_SECONDS = 1.0, 86400.0
MAX_RESPONSE = 64_000
"""Characters of an outsider's answer."""


class LaneCalls(Protocol):
    """Part of :class:`~swarm.ledger.interface.Ledger`."""

    # -- queues

    def ready(
        self, queues: Collection[int], limit: int, component: str = "", *, work_only: bool = False
    ) -> list[Task]:
        """The first ``limit`` queued tasks of these queues together that nothing holds back.

        Highest priority first, then the oldest.  ``work_only``: no reviews, no plans.
        """

    def waiting_queues(self) -> list[Queue]:
        """The queues in which a task waits that no dependency and no pause holds back.

        As cheap as there are such queues, however many tasks each has.
        """

    def note_all(self, notes: Mapping[str, str]) -> None:
        """Several :meth:`Ledger.note` in one transaction."""

    # -- outsiders

    def lane_next(
        self,
        *,
        roles: Sequence[str] = (),
        lane: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Task | None:
        """The task :meth:`lane_claim` would give, unless somebody is quicker.

        Reviews and plans have answers of their own form: they are only for who names their role.
        """

    def lane_claim(
        self,
        who: str,
        *,
        roles: Sequence[str] = (),
        lane: str = "",
        labels: Mapping[str, str] | None = None,
        task: str | None = None,
        lease_seconds: float = LANE_SECONDS,
    ) -> Claimed | None:
        """Give ``who`` the first matching task, or exactly ``task`` (its whole id).

        ``None`` when there is nothing to be had.  No ``roles`` is any role; ``lane`` ``"*"`` any
        lane; ``labels`` is what it offers.  An exact task is given whatever its lane and labels.
        Its attempt begins at once.  Leases of outsiders that have run out are over first.

        Raises :class:`~swarm.errors.UsageError` for a name, lane, label or term that cannot be;
        :class:`~swarm.errors.SwarmError` for an exact task whose request file has changed, which
        then waits for a person.
        """

    def lane_renew(self, task: str, fence: int, who: str) -> Task:
        """The lease has a full term again.  Raises :class:`~swarm.errors.StaleLease`."""

    def lane_release(self, task: str, fence: int, who: str, reason: str = "") -> Task:
        """Give it back: queued again at once, the attempt ``cancelled`` and not counted as lost.

        Raises :class:`~swarm.errors.StaleLease`.
        """

    def lane_respond(
        self,
        task: str,
        fence: int,
        who: str,
        text: str,
        outcome: Outcome = Outcome.SUCCEEDED,
        *,
        reason: str = "",
        needs_human: bool = False,
        usage: Usage | None = None,
        cost_usd: float | None = None,
        commit: str | None = None,
    ) -> Task:
        """The holder's answer; the task is ``done`` with it, or what ``outcome`` makes of it.

        ``needs_human``: ``reason`` is a question to a person.  ``commit`` is remembered, not
        landed.  The answer's file is written, where the task names one.  Raises
        :class:`~swarm.errors.StaleLease` for a lease that is over or another's, and
        :class:`~swarm.errors.UsageError` for an answer that is too long or not text.
        """

    def expire_leases(self, now: float | None = None) -> list[str]:
        """End the outsiders' leases that have run out by the wall clock; the tasks' ids."""

    def outsiders(self) -> list[Holder]:
        """The outsiders' leases that live."""

    def expire(self, task: str, fence: int, until: float) -> float | None:
        """A term of an outsider's lease is over: end it unless it was renewed meanwhile.

        ``until`` is :attr:`Holder.lease_until` as the term began.  ``None``: it is over; else
        when the lease ends now.
        """

    # -- threads and files

    def thread_of(self, task: str) -> tuple[str, ...]:
        """What was asked and answered before in the task's thread and by its parents.

        Oldest first, bounded; the oldest are left out first.
        """

    def parent_of(self, task: str) -> str:
        """Id of the task that one answers or follows; empty for none."""

    def request_changed(self, task: str) -> str:
        """Have a task wait for a person because its request file has changed; says how.

        Empty when it has not, or none is named: the task is as it was.
        """

    def write_responses(self) -> list[str]:
        """Write the answers of tasks that are done into their files; the tasks' ids.

        What cannot be written is said in the task's reason and not tried again.
        """

"""What a ledger is to the rest of the program: the calls that read and change it.

Every call is one short transaction: it happened whole, or not at all.  Times are Unix seconds;
``None`` is unknown.  Every call may raise :class:`~swarm.errors.LedgerError`, one line with its
remedy, when the ledger cannot be read or written.  What the calls take and give back is in
:mod:`swarm.ledger.records`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Protocol

from swarm.core.budget import NOTHING, Amount, Key, Reading
from swarm.core.model import Outcome, TaskState, Usage
from swarm.ledger.history_calls import HistoryCalls
from swarm.ledger.landing_calls import LandingCalls
from swarm.ledger.lanes_calls import LaneCalls
from swarm.ledger.notices_calls import NoticesCalls
from swarm.ledger.plans_calls import PlansCalls
from swarm.ledger.records import (
    KEPT,
    LOST_LIMIT,
    QUOTA_DELAY,
    Attempt,
    Claimed,
    Event,
    Holder,
    NewTask,
    Pause,
    Queue,
    Settlement,
    Task,
    Totals,
    Verdict,
    Way,
)
from swarm.ledger.waiting_calls import WaitingCalls
from swarm.wire.lifeline import Finished

__all__ = [
    "LOST_LIMIT",
    "QUOTA_DELAY",
    "Attempt",
    "Claimed",
    "Event",
    "Holder",
    "Ledger",
    "NewTask",
    "Pause",
    "Queue",
    "Settlement",
    "Task",
    "Totals",
    "Verdict",
]


class Ledger(
    HistoryCalls, LandingCalls, WaitingCalls, LaneCalls, PlansCalls, NoticesCalls, Protocol
):
    """Tasks and what became of them.  One writer at a time; any number of processes."""

    def close(self) -> None:
        """Let go of the file; the ledger is then of no more use."""

    def __enter__(self) -> Ledger: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    # -- intake

    def submit(self, new: NewTask) -> str:
        """Add a task and return its id; the same (sender, sender_ref) again returns the first id.

        Raises :class:`~swarm.errors.UsageError` for a value that cannot be.
        """

    def submitted(self, sender: str, sender_ref: str) -> str | None:
        """The id a sender's announcement was taken in as, if it was."""

    def announced(self, senders: Sequence[str], *, others: bool = False) -> int:
        """How many announced tasks of these senders, or of all but these, have not ended."""

    # -- questions

    def task(self, task: str) -> Task | None:
        """One task by its exact id."""

    def find(self, prefix: str) -> Task:
        """The one task whose id is, or begins with, ``prefix`` (with or without ``t-``).

        ``p-ID/key`` names a task of a plan.

        Raises :class:`~swarm.errors.UsageError` when there is none, or more than one.
        """

    def prompt(self, task: str) -> str:
        """What was asked for; empty for an unknown id."""

    def tasks(
        self,
        states: Sequence[TaskState] | None = None,
        limit: int = 1000,
        role: str | None = None,
        *,
        lane: str | None = None,
        labels: Mapping[str, str] | None = None,
        thread: str | None = None,
        plan: str | None = None,
    ) -> list[Task]:
        """The youngest ``limit`` tasks that fit, oldest first.

        With ``labels``: those that have all of these, whatever else they have.
        """

    def attempts(self, task: str) -> list[Attempt]:
        """A task's attempts, first to last."""

    def waits_for(self, task: str) -> list[Task]:
        """The dependencies of a task that are not done."""

    def reason(self, task: str, *, live: bool = True) -> str | None:
        """Why a task is where it is, for people; ``None`` when there is nothing to say.

        Not ``live``: no swarm runs, so what the last one noted (:meth:`note`) says nothing.
        """

    def counts(self) -> dict[str, int]:
        """How many tasks are in each state; every state is there."""

    def usage(self, since: float | None = None) -> Totals:
        """What attempts used, all of them or those that started at or after ``since``."""

    def spent_on(self, task: str) -> Amount:
        """What the attempts of a task count for, together; estimates where they do not say.

        Before the first one that is 0, and known to be.
        """

    def spending(self, sessions: Iterable[Key] = (), *, daily: bool = False) -> Reading:
        """What each agent spent, ever or today (UTC), and what is known of these sessions.

        One look at one state of the ledger; cheap, however many attempts there are.
        """

    def events(self, after: int = 0, task: str | None = None, limit: int = 1000) -> list[Event]:
        """Changes with a number above ``after``, oldest first."""

    def last_event(self) -> int:
        """Number of the newest change, 0 for none.  Cheap: what a waiter polls."""

    # -- leases

    def session_holder(self, task: str) -> str:
        """Agent id of who can go on with a task's interrupted session; empty for nobody."""

    def next_delay(self) -> float | None:
        """When the next delayed task may be looked at again."""

    def claim(self, task: str, agent: str, agent_id: str, lease_seconds: float) -> Claimed | None:
        """Give a queued task to ``agent`` with the next fence; ``None`` when it is not to be had.

        Names the task's branch at its first claim.
        """

    def begin(
        self, task: str, fence: int, agent: str, at: float, estimate: Amount = NOTHING
    ) -> int | None:
        """The session has started: its attempt's number; ``None`` when the lease is over.

        ``estimate`` is what it counts for until it says what it uses.  Asked twice it answers the
        same.
        """

    def spent(
        self,
        task: str,
        fence: int,
        usage: Usage,
        cost_usd: float | None,
        session_id: str | None = None,
    ) -> bool:
        """A running total of the attempt; False when it does not run."""

    def spent_elsewhere(self, finished: Finished, agent: str, estimate: Amount = NOTHING) -> None:
        """An agent of ours has worked on a task of another ledger; said twice it counts once."""

    def renew(self, task: str, fence: int) -> bool:
        """The holder lives; False when it holds nothing with this fence."""

    def finish(
        self,
        finished: Finished,
        agent: str,
        agent_id: str | None = None,
        commits: Sequence[str] | None = None,
        *,
        way: Way = KEPT,
    ) -> Settlement:
        """Take in a report and move its task as the table of outcomes says.

        ``agent_id`` is checked against the holder when given (a report from chat); ``None`` is a
        report the supervisor hands over.  ``commits`` are the ids on the branch, when known.
        ``way`` is what becomes of good work; without one it stays a branch.  The verdict of a
        review moves the task it is about in the same transaction.
        """

    def requeue(
        self,
        task: str,
        fence: int,
        reason: str,
        outcome: Outcome = Outcome.LOST,
        *,
        counts: bool = True,
    ) -> TaskState | None:
        """The lease is over without a report; the task's state afterwards, ``None`` when stale.

        An attempt that began ends as ``outcome``; counted, the third makes the task ``failed``.
        """

    def unclaim(
        self, task: str, fence: int, reason: str, retry_after: float = 0.0
    ) -> TaskState | None:
        """The holder cannot start it: queued again after ``retry_after`` seconds, not counted.

        An attempt that had begun was given back, not lost: it is ``cancelled``, with that reason.
        """

    def give_up(self, task: str, reason: str) -> bool:
        """A queued task cannot go on, so it has failed; False when it is not queued."""

    def holders(self) -> list[Holder]:
        """Every lease that lives, those of cancelled tasks included."""

    # -- orders

    def cancel(self, task: str) -> Task:
        """End a task: at once when it waits; a running one's lease stays until it has reported.

        Raises :class:`~swarm.errors.UsageError` for an unknown id or a task that has ended.
        """

    # -- what must survive a restart, and what people are told

    def pause(self, scope: str, reason: str, until: float | None = None) -> None:
        """Remember a pause; a second of the same scope takes its place."""

    def resume(self, scope: str) -> None:
        """Forget a pause."""

    def end_quota_waits(self) -> int:
        """Let every task go that waits for its provider's quota; says how many did."""

    def hasten(self, seconds: float) -> int:
        """Let every delayed task wait so much less: the wall clock was put back.  How many did."""

    def pauses(self) -> list[Pause]:
        """Every pause that was not resumed, whether or not its end has passed."""

    def note(self, key: str, text: str) -> None:
        """Why tasks wait, by ``gate`` or ``queue:<number>``; empty text clears it."""

    def notes(self) -> dict[str, str]:
        """What was noted."""

"""What a ledger does for landing, review and people's decisions: part of its interface.

Every move is compare-and-set on the task's state and on ``tip``, the commit its last good report
named: what was said about another commit, or came after somebody else's decision, changes nothing.
"""

from __future__ import annotations

from typing import Protocol

from swarm.core.model import RemarkKind, TaskState
from swarm.ledger.records import NewTask, Remark, Task, Way


class LandingCalls(Protocol):
    """Tasks between a good report and their target."""

    def landing_queue(self) -> list[Task]:
        """Tasks in ``landing``: highest priority first, then the oldest."""

    def in_review(self) -> list[Task]:
        """Tasks in ``review``, in the same order."""

    def remarks(self, task: str) -> list[Remark]:
        """What was said about a task's work, oldest first."""

    def reviews(self, task: str) -> list[Task]:
        """The review tasks about a task, oldest first."""

    def ask_review(self, new: NewTask) -> str | None:
        """Add the review task ``new`` unless one about that commit lives; its id, or ``None``."""

    def landed(self, task: str, tip: str, commit: str, *, noop: bool = False) -> TaskState | None:
        """``tip`` is on the target, whose tip is now ``commit``: the task is done.

        Also one that was taken out of ``landing`` meanwhile (:meth:`in_doubt`), whatever it has
        become by then, with a reason that says so: the target has moved, and the ledger must not
        say otherwise than git.  One that was queued again meanwhile goes on, and only has what
        landed noted.  ``noop``: the target held all of it already.  The task's state now, ``None``
        when it waits for no such landing any more.
        """

    def in_doubt(self) -> list[Task]:
        """Tasks that were taken out of ``landing`` before it was known what came of that.

        Few at any time, and found by an index of their own.
        """

    def not_in_doubt(self, task: str, tip: str) -> None:
        """Git was asked: ``tip`` had not landed."""

    def not_landed(self, task: str, tip: str, reason: str) -> bool:
        """It stays in ``landing``; people see why."""

    def stays_branch(self, task: str, tip: str) -> bool:
        """By now nothing is to land: ``done`` as a branch."""

    def back_to_review(self, task: str, tip: str) -> bool:
        """By now somebody must approve it first."""

    def sent_back(
        self, task: str, tip: str, kind: RemarkKind, text: str, way: Way
    ) -> TaskState | None:
        """The agent has to do something about it: queued again, or a person is asked.

        The latter when it was sent back ``way.max_revisions`` times.  ``None`` when it was moved
        meanwhile.
        """

    def needs_person(self, task: str, tip: str, question: str) -> bool:
        """Nobody but a person can say how a task in ``review`` or ``landing`` goes on."""

    def approve(self, task: str, commit: str | None, by: str, text: str = "") -> Task:
        """A person lets ``commit`` (or its beginning; ``None``: what is there now) land.

        Raises :class:`~swarm.errors.UsageError` for an unknown id, a task nothing of which waits,
        or another commit than its newest.
        """

    def reject(
        self, task: str, by: str, text: str, *, commit: str | None = None, final: bool = False
    ) -> Task:
        """A person sends a task back, or with ``final`` ends it as failed; its branch is kept.

        Raises as :meth:`approve`.
        """

    def answer(self, task: str, text: str, by: str) -> Task:
        """A person answers a task that ``needs_human``: it goes on with that.

        Raises :class:`~swarm.errors.UsageError` for an unknown id or one that asks nothing.
        """

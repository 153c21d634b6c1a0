"""The calls of a ledger that are about plans, and those that change a task before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from swarm.ledger.plan_records import AppliedPlan, Changes, NewPlan, Plan, PlannedTask
from swarm.ledger.records import Task


class PlansCalls(Protocol):
    """Part of :class:`~swarm.ledger.interface.Ledger`."""

    def apply_plan(self, new: NewPlan) -> AppliedPlan:
        """Take in a whole plan in one transaction; a known reference returns the first plan.

        Raises :class:`~swarm.errors.UsageError` for a value that cannot be, a key given twice or
        not at all, a circle; nothing is taken in then.
        """

    def extend_plan(self, plan: str, tasks: Sequence[PlannedTask]) -> Mapping[str, str]:
        """Add tasks to a plan that is there; their ids by key.

        Raises :class:`~swarm.errors.UsageError` as :meth:`apply_plan`, and for a cancelled plan.
        """

    def find_plan(self, prefix: str) -> Plan:
        """The one plan whose id is, or begins with, ``prefix`` (with or without ``p-``).

        Raises :class:`~swarm.errors.UsageError` when there is none, or more than one.
        """

    def plans(self, limit: int = 100) -> list[Plan]:
        """The youngest ``limit`` plans, oldest first."""

    def plan_tasks(self, plan: str) -> list[Task]:
        """A plan's tasks in its order."""

    def plan_needs(self, plan: str) -> Mapping[str, tuple[str, ...]]:
        """Task id → ids of all that it is after, met or not, for the tasks of a plan."""

    def plan_source(self, plan: str) -> str:
        """The text a plan was read from."""

    def plan_task(self, plan: str, key: str) -> str | None:
        """Id of the task that a plan calls ``key``."""

    def pause_plan(self, plan: str) -> Plan:
        """None of its tasks starts from now on.  Raises :class:`~swarm.errors.UsageError`."""

    def resume_plan(self, plan: str) -> Plan:
        """Its tasks start again.  Raises :class:`~swarm.errors.UsageError`."""

    def cancel_plan(self, plan: str) -> list[Task]:
        """Cancel every task of it that has not ended; those it cancelled.

        Leases of running ones stay until they have reported.  Raises
        :class:`~swarm.errors.UsageError` when nothing of it is left to cancel.
        """

    def made_plan(self, task: str) -> str:
        """The plan file that a task of kind ``plan`` has written; empty when there is none."""

    def edit(self, task: str, changes: Changes) -> Task:
        """Change a task that does not run; of one that runs only its priority.

        Raises :class:`~swarm.errors.UsageError` for what cannot be, a circle included.
        """

    def skip(self, task: str, *, release: bool = False) -> Task:
        """Leave a task out: its dependents follow, or with ``release`` go on as if it were done.

        Raises :class:`~swarm.errors.UsageError` for one that runs, lands, or is over.
        """

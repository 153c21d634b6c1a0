"""Plans as values: what is asked for, what became of it, and what may be changed of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from swarm.core.budget import NOTHING, Amount
from swarm.core.model import Merge, OnFailed, Review, TaskState
from swarm.ledger.records import NewTask


class PlanState(StrEnum):
    """A plan's life as people see it; it follows from its tasks and from what people ordered."""

    ACTIVE = "active"
    PAUSED = "paused"
    """None of its tasks starts; those that run go on."""
    DONE = "done"
    """Every task is done."""
    FAILED = "failed"
    """Nothing of it can go on by itself, and not every task is done."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One task of a new plan."""

    key: str
    """What the plan calls it; unique in it."""
    task: NewTask
    """Its ``after`` are ids of tasks outside of the plan."""
    after: tuple[str, ...] = ()
    """Keys of the same plan."""


@dataclass(frozen=True, slots=True)
class NewPlan:
    """Tasks that belong together, to be taken in all at once or not at all."""

    tasks: tuple[PlannedTask, ...]
    title: str = ""
    source: str = ""
    """The text it was read from, kept for people."""
    reference: str = ""
    """Names what is asked for: the same one again is the first plan, not a second."""
    follows: str = ""
    """Id of an earlier plan: the tasks that wait for nothing wait for what of it has not ended."""
    paused: bool = False


@dataclass(frozen=True, slots=True)
class AppliedPlan:
    """A plan in the ledger; ``fresh``: it was not there before."""

    id: str
    tasks: Mapping[str, str]
    """Key → task id, in the plan's order."""
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan without its source text (:meth:`PlansCalls.plan_source`)."""

    seq: int
    id: str
    title: str
    state: PlanState
    counts: Mapping[TaskState, int]
    """How many of its tasks are in each state; states of none are left out."""
    follows: str
    created_at: float
    ended_at: float | None

    @property
    def total(self) -> int:
        """How many tasks it has."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be changed of a task; ``None`` leaves it as it is."""

    prompt: str | None = None
    title: str | None = None
    role: str | None = None
    component: str | None = None
    priority: int | None = None
    lane: str | None = None
    labels: Mapping[str, str] | None = None
    after: tuple[str, ...] | None = None
    """Ids of what it waits for from now on, in place of what it waited for."""
    on_failed: OnFailed | None = None
    review: Review | None = None
    merge: Merge | None = None
    budget: Amount = field(default=NOTHING)

    @property
    def names(self) -> tuple[str, ...]:
        """What of it is to be changed."""
        given = [name for name in _PLAIN if getattr(self, name) is not None]
        return tuple(given if self.budget == NOTHING else [*given, "budget"])


_PLAIN = (
    "prompt",
    "title",
    "role",
    "component",
    "priority",
    "lane",
    "labels",
    "after",
    "on_failed",
    "review",
    "merge",
)

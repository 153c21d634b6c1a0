"""A plan file as what the ledger takes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from swarm.config.document import Problem
from swarm.ledger.plan_records import NewPlan, PlannedTask
from swarm.plans.model import EARLIER, PlanFile, PlanTask
from swarm.plans.reading import as_new, resolved
from swarm.plans.references import split


class Unknown(Exception):
    """The plan is after tasks that are not there; ``problems`` say which, with their lines."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems


def outside(
    plan: PlanFile, find: Callable[[str, str], str | None], follows: str | None = ""
) -> Mapping[str, str]:
    """Every reference to a task that is not the plan's own, with that task's id.

    ``find(plan, key)`` is the ledger's answer, with an empty plan for a task's own id; ``follows``
    is the plan that ``earlier`` means, ``None`` where that is not known yet.  Raises
    :class:`Unknown`.
    """
    known: dict[str, str] = {}
    for ref in dict.fromkeys(ref for task in plan.tasks for ref, _ in task.outside):
        where, key = split(ref)
        found: str | None
        if where == EARLIER and follows is None:
            found = ref
        elif where == EARLIER:
            found = find(follows, key) if follows else None
        else:
            found = find(where, key)
        if found is not None:
            known[ref] = found
    if problems := resolved(plan, known):
        raise Unknown(problems)
    return known


def new_plan(
    plan: PlanFile,
    known: Mapping[str, str],
    *,
    reference: str = "",
    follows: str = "",
    repo: str | None = None,
    paused: bool = False,
) -> NewPlan:
    """The plan for the ledger; ``known`` is what :func:`outside` gave.

    ``repo`` is another repository than the configured one, for all its tasks.
    """
    return NewPlan(
        tasks=tuple(planned(task, known, repo) for task in plan.tasks),
        title=plan.title,
        source=plan.source,
        reference=reference,
        follows=follows,
        paused=paused,
    )


def planned(task: PlanTask, known: Mapping[str, str], repo: str | None = None) -> PlannedTask:
    """One task for the ledger."""
    after = tuple(known[ref] for ref, _ in task.outside)
    return PlannedTask(task.key, replace(as_new(task, after), repo=repo), task.after)

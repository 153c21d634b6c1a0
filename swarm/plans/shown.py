"""What ``plan status --json`` and ``plan list --json`` print, and what a person can do next."""

from __future__ import annotations

from typing import Any

from swarm.core.model import TaskState
from swarm.ledger import Ledger, Plan, PlanState, Task
from swarm.ledger.shown import rfc3339

OVER = frozenset({PlanState.DONE, PlanState.FAILED, PlanState.CANCELLED})
NEXT = 8
"""Steps told of."""


def summary(plan: Plan) -> dict[str, Any]:
    """A plan as JSON has it."""
    return {
        "id": plan.id,
        "title": plan.title,
        "state": plan.state,
        "total": plan.total,
        "counts": {str(state): plan.counts.get(state, 0) for state in TaskState},
        "follows": plan.follows or None,
        "created_at": rfc3339(plan.created_at),
        "ended_at": rfc3339(plan.ended_at),
    }


def as_object(ledger: Ledger, plan: Plan, *, live: bool) -> dict[str, Any]:
    """The whole status of a plan (``plan status --json``)."""
    needs = ledger.plan_needs(plan.id)
    tasks = [
        {
            "key": task.plan_key,
            "id": task.id,
            "state": task.state,
            "reason": reason_of(ledger, task, live=live) or None,
            "result": task.result,
            "role": task.role,
            "priority": task.priority,
            "title": task.title,
            "agent": task.agent or None,
            "after": list(needs.get(task.id, ())),
        }
        for task in ledger.plan_tasks(plan.id)
    ]
    return {
        "version": 1,
        "plan": summary(plan),
        "tasks": tasks,
        "next": next_steps(ledger, plan),
    }


def reason_of(ledger: Ledger, task: Task, *, live: bool) -> str:
    """Why a task of a plan is where it is, or how it ended."""
    if task.state is TaskState.DONE:
        return str(task.result or "")
    return ledger.reason(task.id, live=live) or ""


def next_steps(ledger: Ledger, plan: Plan) -> list[str]:
    """What a person can do for it now, one command each."""
    steps = []
    if plan.state is PlanState.PAUSED:
        steps.append(f"agentctl plan resume {plan.id}")
    for task in ledger.plan_tasks(plan.id):
        if task.state is TaskState.NEEDS_HUMAN:
            steps.append(f"agentctl task answer {task.id} TEXT      # {task.plan_key} asks")
        elif task.state is TaskState.FAILED:
            steps.append(f"agentctl task retry {task.id}      # {task.plan_key} failed")
    more = f"… and {len(steps) - NEXT} more like these" if len(steps) > NEXT else ""
    return [*steps[:NEXT], more] if more else steps

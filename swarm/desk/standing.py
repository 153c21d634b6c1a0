"""Where a task is on its way, and what has to happen next, in words."""

from __future__ import annotations

from swarm.core.model import TaskState, is_outsider_id
from swarm.desk.replies import LastEvent, Where
from swarm.ledger.shown import rfc3339
from swarm.ledger.waiting_calls import Standing


def where(standing: Standing, reason: str) -> Where:
    """The standing for a reply; ``reason`` is why the task is in its state, as people read it."""
    last = standing.last
    event = None
    if last is not None:
        event = LastEvent(last.kind, rfc3339(last.at), last.agent or None, last.detail or None)
    return Where(
        owner=owner(standing) or None,
        lease_until=rfc3339(standing.lease_until),
        last_event=event,
        next_step=next_step(standing, reason) or None,
    )


def owner(standing: Standing) -> str:
    """Who holds the task now; empty for nobody."""
    return standing.task.agent if standing.task.held else ""


def next_step(standing: Standing, reason: str) -> str:
    """What has to happen for the task to go on; empty where it has ended for good."""
    task = standing.task
    match task.state:
        case TaskState.QUEUED:
            return reason or f"the next free agent that takes role {task.role} takes it"
        case TaskState.RUNNING:
            if is_outsider_id(task.agent_id):
                return f"{task.agent} answers, or the lease runs out"
            return "its session ends and reports"
        case TaskState.REVIEW:
            if standing.reviews:
                return f"a review: {', '.join(standing.reviews)}"
            return f"a person's look: agentctl task approve {task.id}, or reject"
        case TaskState.LANDING:
            ahead = standing.ahead
            first = f"{ahead} land{'s' * (ahead == 1)} before it" if ahead else "it lands"
            return f"{first}: {reason}" if reason else first
        case TaskState.NEEDS_HUMAN:
            if task.tip is not None:  # its work could land all the same
                return (
                    f"a person's word: agentctl task answer {task.id} TEXT, or approve, or reject"
                )
            return f"a person's answer: agentctl task answer {task.id} TEXT"
        case _:
            return ""

"""What a daemon says on the channel, made from what it knows."""

from __future__ import annotations

from swarm.core.model import Outcome
from swarm.daemon.outbox import Entry, Reported
from swarm.wire.lifeline import Finished
from swarm.wire.work import Blocked, Status, TaskDone, TaskFail, TaskRef, Unclaim

MAX_STATUS = 200
"""Characters of a line of progress."""
MAX_REASON = 4000
"""Characters of a reason or a question."""


def report(finished: Finished, agent_id: str) -> TaskDone | TaskFail | Blocked:
    """The report of an attempt.

    ``TASK_DONE`` when it succeeded, ``BLOCKED`` when it was denied something or left a question,
    ``TASK_FAIL`` for the rest.
    """
    kind: type[TaskDone] | type[TaskFail] | type[Blocked]
    if finished.needs_human or finished.outcome is Outcome.DENIED:
        kind = Blocked
    elif finished.outcome is Outcome.SUCCEEDED:
        kind = TaskDone
    else:
        kind = TaskFail
    return kind(
        agentId=agent_id,
        task=TaskRef(id=finished.task),
        fence=finished.fence,
        outcome=finished.outcome.value,
        reason=finished.reason,
        result=finished.result,
        exit_status=finished.exit_status,
        session_id=finished.session_id,
        usage=finished.usage,
        cost_usd=finished.cost_usd,
        branch=finished.branch,
        commit=finished.commit,
        commits=finished.commits,
        retry_at=finished.retry_at,
        needs_human=finished.needs_human,
        swarm_budget=finished.swarm_budget,
        start=finished.start,
        review=finished.review,
        unresolved=finished.unresolved,
        aside=finished.aside,
    )


def message_of(entry: Entry, agent_id: str) -> TaskDone | TaskFail | Blocked | Unclaim:
    """An entry of the outbox as the channel hears it."""
    if isinstance(entry, Reported):
        return report(entry.finished, agent_id)
    return Unclaim(
        agentId=agent_id,
        task=TaskRef(id=entry.task),
        fence=entry.fence,
        reason=entry.reason,
        retry_after=entry.retry_after,
    )


def status(agent_id: str, task: str, fence: int, phase: str, text: str = "") -> Status:
    """A line of progress, on one line and short."""
    return Status(
        agentId=agent_id,
        task=TaskRef(id=task),
        fence=fence,
        phase=phase,
        text=" ".join(text.split())[:MAX_STATUS],
    )

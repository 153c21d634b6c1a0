"""What a task becomes when an attempt at it has ended: the table of rules, "Outcomes", pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from swarm.core.model import Outcome, TaskResult, TaskState
from swarm.ledger.interface import LOST_LIMIT, QUOTA_DELAY
from swarm.wire.lifeline import Finished


@dataclass(frozen=True, slots=True)
class Becomes:
    """The task's next state; ``not_before`` holds a queued one back until then."""

    state: TaskState
    result: TaskResult | None = None
    not_before: float | None = None


def becomes(finished: Finished, now: float) -> Becomes:
    """The state of a task after this report, at ``now`` (Unix seconds)."""
    match finished.outcome:
        case Outcome.CANCELLED:
            return Becomes(TaskState.CANCELLED)
        case Outcome.QUOTA:
            until = finished.retry_at if finished.retry_at is not None else now + QUOTA_DELAY
            return Becomes(TaskState.QUEUED, not_before=until)
        case Outcome.LOST:
            return Becomes(TaskState.QUEUED)
        case _ if finished.needs_human:
            return Becomes(TaskState.NEEDS_HUMAN)
        case Outcome.OVER_BUDGET if finished.swarm_budget:
            return Becomes(TaskState.QUEUED)  # the gate is closed until there is a new budget
        case Outcome.DENIED:
            return Becomes(TaskState.NEEDS_HUMAN)
        case Outcome.SUCCEEDED:
            return Becomes(TaskState.DONE, _result(finished))
        case (
            Outcome.FAILED
            | Outcome.TIMED_OUT
            | Outcome.STALLED
            | Outcome.OVERFLOW
            | Outcome.OVER_BUDGET
        ):
            return Becomes(TaskState.FAILED)
        case _:
            assert_never(finished.outcome)


def _result(finished: Finished) -> TaskResult:
    """``merged`` comes from landing, which takes over from ``branch``."""
    if finished.commits > 0:
        return TaskResult.BRANCH
    return TaskResult.ANSWER if finished.result.strip() else TaskResult.NOOP


def after_loss(lost: int) -> TaskState:
    """The state of a task that was lost, counted, ``lost`` times."""
    return TaskState.FAILED if lost >= LOST_LIMIT else TaskState.QUEUED


def resumable(outcome: Outcome | None) -> bool:
    """Whether a session that ended so was interrupted, and may be gone on with."""
    return outcome in {Outcome.QUOTA, Outcome.LOST, Outcome.OVER_BUDGET}

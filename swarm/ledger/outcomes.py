"""What a task becomes when an attempt at it has ended: the table of rules, "Outcomes", pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import assert_never

from swarm.core.model import Merge, Outcome, Review, TaskKind, TaskResult, TaskState
from swarm.core.retry import wait_after_failure
from swarm.ledger.records import KEPT, LOST_LIMIT, QUOTA_DELAY, Judgement, Way
from swarm.wire.lifeline import Finished

_COMMIT = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True, slots=True)
class Becomes:
    """The task's next state; ``not_before`` holds a queued one back until then."""

    state: TaskState
    result: TaskResult | None = None
    not_before: float | None = None
    retry: bool = False
    """It failed, and is tried again by itself as its role says."""
    sent_back: bool = False
    """It left a conflict: another revision, or a person is asked (``ledger.landing.send_back``)."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a task when a report on it comes in."""

    kind: TaskKind = TaskKind.WORK
    foreign: bool = False
    """Its holder is not of our fleet: nothing of it was fetched by us, so it never lands."""
    approved: str | None = None
    way: Way = KEPT
    judgement: Judgement | None = None
    """Of a review: its verdict, where it could be read."""
    retries: int = 0
    """How often it was tried again by itself."""
    revisions: int = 0
    """How often it was sent back."""


WORK = Case()


def becomes(finished: Finished, now: float, case: Case = WORK) -> Becomes:
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
            return _succeeded(finished, case)
        case Outcome.FAILED if left_a_conflict(finished, case):
            return Becomes(after_remark(case.revisions, case.way), sent_back=True)
        case (
            Outcome.FAILED
            | Outcome.TIMED_OUT
            | Outcome.STALLED
            | Outcome.OVERFLOW
            | Outcome.OVER_BUDGET
        ):
            return _failed(finished, now, case)
        case _:
            assert_never(finished.outcome)


def left_a_conflict(finished: Finished, case: Case) -> bool:
    """Whether it failed only for conflicts that were left: revising is what it needs.

    Those who are not of our fleet have no clone of ours in which a target was merged.
    """
    return bool(finished.unresolved) and case.kind is TaskKind.WORK and not case.foreign


def _failed(finished: Finished, now: float, case: Case) -> Becomes:
    """Final, unless its role has it tried again."""
    way = case.way
    wait = wait_after_failure(finished.outcome, case.retries, way.retries, way.retry_seconds)
    if wait is None:
        return Becomes(TaskState.FAILED)
    return Becomes(TaskState.QUEUED, not_before=now + wait, retry=True)


def _succeeded(finished: Finished, case: Case) -> Becomes:
    """Only what succeeded comes here, so nothing else is ever reviewed or landed."""
    if case.kind is TaskKind.REVIEW and case.judgement is None:
        return Becomes(TaskState.FAILED)
    result = _result(finished)
    if case.kind is not TaskKind.WORK:
        return Becomes(TaskState.DONE, TaskResult.ANSWER)
    if result is not TaskResult.BRANCH or not lands(finished, case):
        return Becomes(TaskState.DONE, result)
    if case.way.review is not Review.NONE and case.approved != finished.commit:
        return Becomes(TaskState.REVIEW)
    return Becomes(TaskState.LANDING)


def is_commit(text: str) -> bool:
    """Whether a report's text is a commit's whole id."""
    return bool(_COMMIT.match(text))


def lands(finished: Finished, case: Case) -> bool:
    """Whether commits that succeeded are meant for the target: our own, and known by their id."""
    known = finished.commit is not None and is_commit(finished.commit)
    return known and not case.foreign and case.way.merge is not Merge.NONE


def _result(finished: Finished) -> TaskResult:
    """``merged`` comes from landing, which takes over from ``branch``."""
    if finished.commits > 0:
        return TaskResult.BRANCH
    return TaskResult.ANSWER if finished.result.strip() else TaskResult.NOOP


def after_loss(lost: int) -> TaskState:
    """The state of a task that was lost, counted, ``lost`` times."""
    return TaskState.FAILED if lost >= LOST_LIMIT else TaskState.QUEUED


def after_remark(revisions: int, way: Way) -> TaskState:
    """The state of a task that is sent back, having been so ``revisions`` times before."""
    return TaskState.QUEUED if revisions < way.max_revisions else TaskState.NEEDS_HUMAN


def resumable(outcome: Outcome | None) -> bool:
    """Whether a session that ended so was interrupted, and may be gone on with."""
    return outcome in {Outcome.QUOTA, Outcome.LOST, Outcome.OVER_BUDGET}

"""A task's next life: what a retry keeps, and when a task is tried again by itself."""

from __future__ import annotations

from typing import Any

import pytest

from swarm.core.model import OnFailed, Outcome, RemarkKind, TaskState
from swarm.core.retry import LONGEST_SECONDS, reason_in, wait_after_failure, wait_after_loss
from swarm.errors import UsageError
from swarm.ledger import Claimed, Ledger, NewTask
from swarm.ledger.records import Way
from swarm.wire.lifeline import Finished

AGENT, AGENT_ID = "swarm-builder-001", "a" * 16
OTHER, OTHER_ID = "swarm-builder-002", "b" * 16
TWICE = Way(retries=2, retry_seconds=30.0)


def claim(ledger: Ledger, task: str, agent: str = AGENT, agent_id: str = AGENT_ID) -> Claimed:
    claimed = ledger.claim(task, agent, agent_id, 90.0)
    assert claimed is not None
    return claimed


def tried(
    ledger: Ledger, task: str, outcome: Outcome = Outcome.FAILED, way: Way = TWICE, **more: Any
) -> TaskState | None:
    """One attempt that ends so; the task's state afterwards."""
    claimed = claim(ledger, task)
    ledger.begin(task, claimed.fence, AGENT, 1.0)
    finished = Finished(task, claimed.fence, outcome, **more)
    return ledger.finish(finished, AGENT, way=way).state


# -- the pure decision


@pytest.mark.parametrize(
    ("outcome", "retries", "allowed", "wait"),
    [
        (Outcome.FAILED, 0, 2, 30.0),
        (Outcome.FAILED, 1, 2, 60.0),
        (Outcome.FAILED, 2, 2, None),
        (Outcome.FAILED, 0, 0, None),
        (Outcome.TIMED_OUT, 0, 1, 30.0),
        (Outcome.STALLED, 0, 1, 30.0),
        (Outcome.OVERFLOW, 0, 0, None),
        (Outcome.OVERFLOW, 0, 1, 30.0),
        (Outcome.OVER_BUDGET, 0, 9, None),
        (Outcome.DENIED, 0, 9, None),
        (Outcome.CANCELLED, 0, 9, None),
        (Outcome.SUCCEEDED, 0, 9, None),
        (Outcome.FAILED, 10**9, 10**10, LONGEST_SECONDS),
    ],
)
def test_a_failure_is_tried_again_only_as_the_role_says(
    outcome: Outcome, retries: int, allowed: int, wait: float | None
) -> None:
    assert wait_after_failure(outcome, retries, allowed, 30.0) == wait


def test_each_loss_waits_twice_as_long() -> None:
    assert [wait_after_loss(n) for n in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 8.0]
    assert wait_after_loss(10**6) == LONGEST_SECONDS


def test_a_reason_says_how_long_it_still_waits() -> None:
    assert reason_in("tried again (1 of 2): no", 7) == "tried again in 7 s (1 of 2): no"
    assert reason_in("the quota is used up", 7) == "waits 7 s: the quota is used up"
    assert reason_in("", 7) == "waits 7 s"


# -- by itself


def test_a_role_that_says_so_has_failures_tried_again(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("x"))
    assert tried(ledger, task, reason="exit status 1") is TaskState.QUEUED
    assert ledger.reason(task) == "tried again in 30 s (1 of 2): exit status 1"
    assert ledger.claim(task, AGENT, AGENT_ID, 90.0) is None, "not before its time"
    clock.now += 30
    assert ledger.reason(task) == "tried again (1 of 2): exit status 1"
    assert claim(ledger, task).earlier == (f"attempt 1 by {AGENT}: failed: exit status 1",)
    ledger.unclaim(task, 2, "no")
    assert tried(ledger, task, Outcome.OVERFLOW) is TaskState.QUEUED
    clock.now += 60
    assert tried(ledger, task) is TaskState.FAILED
    assert len(ledger.attempts(task)) == 3
    again = ledger.retry(task)
    assert again.retries == 0, "a person's retry begins to count anew"


def test_without_a_word_of_the_role_a_failure_is_final(ledger: Ledger) -> None:
    for outcome in (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.STALLED, Outcome.OVERFLOW):
        task = ledger.submit(NewTask("x"))
        assert tried(ledger, task, outcome, Way()) is TaskState.FAILED


def test_a_question_is_asked_not_tried_again(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    asked = tried(ledger, task, needs_human=True, reason="which one?")
    assert asked is TaskState.NEEDS_HUMAN


def test_a_lost_task_waits_longer_each_time_and_a_stopped_swarms_not_at_all(
    ledger: Ledger, clock: Any
) -> None:
    task = ledger.submit(NewTask("x"))
    for number, wait in ((1, 1.0), (2, 2.0)):
        claimed = claim(ledger, task)
        ledger.begin(task, claimed.fence, AGENT, 1.0)
        ledger.requeue(task, claimed.fence, "its daemon died")
        said = f"tried again in {wait:.0f} s ({number} of 2): its daemon died"
        assert ledger.reason(task) == said
        assert ledger.next_delay() == clock.now + wait
        clock.now += wait
    claimed = claim(ledger, task)
    ledger.begin(task, claimed.fence, AGENT, 1.0)
    ledger.requeue(task, claimed.fence, "the swarm was killed", counts=False)
    assert ledger.next_delay() is None
    claim(ledger, task)


# -- by a person


@pytest.mark.parametrize("end", [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.DENIED])
def test_a_retry_begins_from_any_end(ledger: Ledger, end: Outcome) -> None:
    task = ledger.submit(NewTask("x"))
    tried(ledger, task, end, Way(), session_id="s-1")
    assert ledger.retry(task).state is TaskState.QUEUED
    claimed = claim(ledger, task)
    assert (claimed.resume_session, claimed.feedback) == (None, "")


def test_a_retry_begins_from_a_cancellation_and_from_having_been_skipped(ledger: Ledger) -> None:
    first = ledger.submit(NewTask("x"))
    then = ledger.submit(NewTask("y", after=(first,), on_failed=OnFailed.SKIP))
    ledger.cancel(first)
    skipped = ledger.task(then)
    assert skipped is not None
    assert skipped.state is TaskState.SKIPPED
    assert ledger.retry(then).state is TaskState.QUEUED
    assert ledger.retry(first).state is TaskState.QUEUED
    tried(ledger, first, Outcome.SUCCEEDED, Way())
    claim(ledger, then)


def test_a_retry_tells_the_next_attempt_what_was_said(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    tried(ledger, task, Outcome.FAILED, Way(), session_id="s-1")
    ledger.retry(task, note="use the other parser", by="ann")
    claimed = claim(ledger, task)
    assert claimed.feedback == "A note:\nuse the other parser"
    assert claimed.resume_session is None, "told, in a session of its own"
    (remark,) = ledger.remarks(task)
    assert (remark.kind, remark.author) == (RemarkKind.NOTE, "ann")


def test_a_fresh_retry_names_a_branch_no_attempt_had(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    tried(ledger, task, Outcome.FAILED, Way())
    names = {f"swarm/{AGENT}/{task}"}
    for _ in range(3):
        assert ledger.retry(task, fresh=True).branch is None
        claimed = claim(ledger, task)
        assert claimed.task.branch not in names
        names.add(str(claimed.task.branch))
        ledger.unclaim(task, claimed.fence, "no")
        tried(ledger, task, Outcome.FAILED, Way())
    assert ledger.retry(task).branch in names, "an ordinary one stays on its branch"
    assert all(name.startswith(f"swarm/{AGENT}/{task}") for name in names)


def test_a_task_never_tried_has_the_usual_branch_after_a_retry(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    ledger.cancel(task)
    ledger.retry(task, fresh=True)
    assert claim(ledger, task, OTHER, OTHER_ID).task.branch == f"swarm/{OTHER}/{task}"


def test_what_has_not_ended_is_not_retried(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    with pytest.raises(UsageError, match="wait for its end"):
        ledger.retry(task, fresh=True, note="now")
    assert ledger.remarks(task) == []

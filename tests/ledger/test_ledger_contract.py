"""What every ledger does, whatever keeps it: these tests know only the interface."""

from __future__ import annotations

from typing import Any

import pytest
from queue_values import ready

from swarm.core.model import Outcome, TaskResult, TaskState, Usage
from swarm.errors import UsageError
from swarm.ledger import Claimed, Ledger, NewTask, Verdict
from swarm.ledger.interface import LOST_LIMIT, QUOTA_DELAY
from swarm.wire.lifeline import Finished

AGENT, AGENT_ID = "swarm-builder-001", "a" * 16
OTHER, OTHER_ID = "swarm-builder-002", "b" * 16


def claim(ledger: Ledger, task: str, agent: str = AGENT, agent_id: str = AGENT_ID) -> Claimed:
    claimed = ledger.claim(task, agent, agent_id, 90.0)
    assert claimed is not None
    return claimed


def begun(ledger: Ledger, task: str, agent: str = AGENT, agent_id: str = AGENT_ID) -> int:
    fence = claim(ledger, task, agent, agent_id).fence
    assert ledger.begin(task, fence, agent, 1_800_000_001.0) is not None
    return fence


def state(ledger: Ledger, task: str) -> TaskState:
    found = ledger.task(task)
    assert found is not None
    return found.state


def report(task: str, fence: int, outcome: Outcome = Outcome.SUCCEEDED, **more: object) -> Finished:
    return Finished(task=task, fence=fence, outcome=outcome, **more)  # type: ignore[arg-type]


# -- intake


def test_a_new_task_waits_with_a_readable_id_and_a_title(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("# Fix\x1b[31m the   parser\nand more", component="parser"))
    found = ledger.task(task)
    assert found is not None
    assert task.startswith("t-")
    assert task == task.lower()
    assert found.title == "Fix [31m the parser"
    assert found.state is TaskState.QUEUED
    assert ledger.prompt(task) == "# Fix\x1b[31m the   parser\nand more"
    assert found.fence == 0
    assert ledger.attempts(task) == []


@pytest.mark.parametrize(
    "new",
    [
        NewTask(""),
        NewTask("  \n "),
        NewTask("x" * (256 * 1024 + 1)),
        NewTask("a\0b"),
        NewTask("\ud800"),
        NewTask("x", role="No Such"),
        NewTask("x", role="x" * 23),
        NewTask("x", component="a b"),
        NewTask("x", priority=101),
        NewTask("x", priority=-101),
        NewTask("x", repo="--upload-pack=evil"),
        NewTask("x", repo=""),
        NewTask("x", after=("t-nothere0",)),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(ledger: Ledger, new: NewTask) -> None:
    with pytest.raises(UsageError) as caught:
        ledger.submit(new)
    assert caught.value.remedy
    assert sum(ledger.counts().values()) == 0
    assert ledger.last_event() == 0


def test_a_prompt_of_exactly_the_cap_is_taken(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("é" * (128 * 1024)))
    assert len(ledger.prompt(task).encode()) == 256 * 1024


def test_an_announcement_is_taken_in_once(ledger: Ledger) -> None:
    first = ledger.submit(NewTask("x", sender=AGENT_ID, sender_ref="job-1"))
    assert ledger.submit(NewTask("other words", sender=AGENT_ID, sender_ref="job-1")) == first
    assert ledger.submitted(AGENT_ID, "job-1") == first
    assert ledger.submitted(OTHER_ID, "job-1") is None
    assert ledger.submit(NewTask("x", sender=OTHER_ID, sender_ref="job-1")) != first
    assert ledger.counts()["queued"] == 2


def test_a_task_is_found_by_a_unique_prefix(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    assert ledger.find(task).id == task
    assert ledger.find(task[:6]).id == task
    assert ledger.find(task[2:8]).id == task
    others = [ledger.submit(NewTask("x")) for _ in range(80)]
    by_first: dict[str, list[str]] = {}
    for one in others:
        by_first.setdefault(one[:3], []).append(one)
    crowded = next(prefix for prefix, ids in by_first.items() if len(ids) > 1)
    with pytest.raises(UsageError, match="more than one"):
        ledger.find(crowded)
    for nothing in ("", "t-", "zzzzzzzz", "%", "t-' OR 1=1 --", "\0"):
        with pytest.raises(UsageError):
            ledger.find(nothing)


# -- the queue


def test_ready_is_by_priority_then_age(ledger: Ledger) -> None:
    low = ledger.submit(NewTask("low", priority=-1))
    first = ledger.submit(NewTask("first"))
    second = ledger.submit(NewTask("second"))
    urgent = ledger.submit(NewTask("urgent", role="qa", priority=9))
    assert [task.id for task in ready(ledger, ["builder"], 10)] == [first, second, low]
    assert [task.id for task in ready(ledger, ["builder", "qa"], 2)] == [urgent, first]
    assert ready(ledger, ["auditor"], 10) == []
    assert [queue.role for queue in ledger.waiting_queues()] == ["builder", "qa"]


def test_ready_of_a_component(ledger: Ledger) -> None:
    ledger.submit(NewTask("x", component="lexer"))
    parser = ledger.submit(NewTask("x", component="parser"))
    assert [task.id for task in ready(ledger, ["builder"], 5, "parser")] == [parser]


def test_a_claim_has_exactly_one_winner_and_its_own_fence(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("words"))
    won = claim(ledger, task)
    assert (won.fence, won.attempt, won.prompt) == (1, 1, "words")
    assert won.task.branch == f"swarm/{AGENT}/{task}"
    assert ledger.claim(task, OTHER, OTHER_ID, 90.0) is None
    assert ledger.claim("t-nothere0", OTHER, OTHER_ID, 90.0) is None
    assert ready(ledger, ["builder"], 5) == []
    (holder,) = ledger.holders()
    assert (holder.task, holder.fence, holder.agent, holder.begun) == (task, 1, AGENT, False)


def test_the_branch_is_the_first_agents_and_stays(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    ledger.requeue(task, fence, "died")
    clock.now += 1
    again = claim(ledger, task, OTHER, OTHER_ID)
    assert again.fence == 2
    assert again.attempt == 2
    assert again.task.branch == f"swarm/{AGENT}/{task}"
    assert again.earlier == (f"attempt 1 by {AGENT}: lost: died",)


# -- dependencies


def test_a_task_waits_until_what_it_is_after_is_done(ledger: Ledger) -> None:
    one, two = ledger.submit(NewTask("1")), ledger.submit(NewTask("2"))
    last = ledger.submit(NewTask("3", after=(one, two, one)))
    assert ledger.claim(last, AGENT, AGENT_ID, 90.0) is None
    assert ledger.reason(last) == f"waits for {one}, {two}"
    ledger.finish(report(one, begun(ledger, one)), AGENT)
    assert [task.id for task in ledger.waits_for(last)] == [two]
    assert ledger.claim(last, AGENT, AGENT_ID, 90.0) is None
    ledger.finish(report(two, begun(ledger, two)), AGENT)
    assert ledger.reason(last) is None
    assert [task.id for task in ready(ledger, ["builder"], 5)] == [last]
    after_done = ledger.submit(NewTask("4", after=(one,)))
    assert after_done in {task.id for task in ready(ledger, ["builder"], 5)}


@pytest.mark.parametrize(
    ("ended", "words"), [("failed", "which failed"), ("cancelled", "which was cancelled")]
)
def test_a_dependency_that_ended_badly_is_the_reason(
    ledger: Ledger, ended: str, words: str
) -> None:
    one, fine = ledger.submit(NewTask("1")), ledger.submit(NewTask("2"))
    last = ledger.submit(NewTask("3", after=(fine, one)))
    if ended == "failed":
        ledger.finish(report(one, begun(ledger, one), Outcome.FAILED), AGENT)
    else:
        ledger.cancel(one)
    assert state(ledger, last) is TaskState.QUEUED
    assert ledger.reason(last) == f"waits for {one} {words}"
    ledger.retry(one)
    ledger.finish(report(one, begun(ledger, one)), AGENT)
    ledger.finish(report(fine, begun(ledger, fine)), AGENT)
    assert last in {task.id for task in ready(ledger, ["builder"], 5)}


# -- attempts and outcomes


OUTCOMES = [
    (Outcome.SUCCEEDED, TaskState.DONE),
    (Outcome.FAILED, TaskState.FAILED),
    (Outcome.TIMED_OUT, TaskState.FAILED),
    (Outcome.STALLED, TaskState.FAILED),
    (Outcome.OVERFLOW, TaskState.FAILED),
    (Outcome.OVER_BUDGET, TaskState.FAILED),
    (Outcome.DENIED, TaskState.NEEDS_HUMAN),
    (Outcome.QUOTA, TaskState.QUEUED),
    (Outcome.LOST, TaskState.QUEUED),
    (Outcome.CANCELLED, TaskState.CANCELLED),
]


def test_the_table_below_names_every_outcome() -> None:
    assert {outcome for outcome, _ in OUTCOMES} == set(Outcome)


@pytest.mark.parametrize(("outcome", "becomes"), OUTCOMES)
def test_a_report_moves_its_task_as_the_table_says(
    ledger: Ledger, outcome: Outcome, becomes: TaskState
) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    settlement = ledger.finish(report(task, fence, outcome, reason="why"), AGENT, AGENT_ID)
    assert settlement.verdict is Verdict.ACCEPTED
    assert settlement.state is becomes
    assert state(ledger, task) is becomes
    (attempt,) = ledger.attempts(task)
    assert (attempt.outcome, attempt.reason, attempt.n) == (outcome, "why", 1)
    assert attempt.ended_at is not None
    assert ledger.holders() == []
    found = ledger.task(task)
    assert found is not None
    assert (found.ended_at is not None) == becomes.ended


@pytest.mark.parametrize(
    ("outcome", "becomes"),
    [
        (Outcome.SUCCEEDED, TaskState.NEEDS_HUMAN),
        (Outcome.FAILED, TaskState.NEEDS_HUMAN),
        (Outcome.CANCELLED, TaskState.CANCELLED),
        (Outcome.QUOTA, TaskState.QUEUED),
    ],
)
def test_a_question_left_behind(ledger: Ledger, outcome: Outcome, becomes: TaskState) -> None:
    task = ledger.submit(NewTask("x"))
    finished = report(task, begun(ledger, task), outcome, needs_human=True, reason="which\none?")
    assert ledger.finish(finished, AGENT).state is becomes
    assert ledger.reason(task) is not None


@pytest.mark.parametrize(
    ("commits", "said", "result"),
    [
        (2, "done", TaskResult.BRANCH),
        (0, "the answer", TaskResult.ANSWER),
        (0, " ", TaskResult.NOOP),
    ],
)
def test_what_done_means(ledger: Ledger, commits: int, said: str, result: TaskResult) -> None:
    task = ledger.submit(NewTask("x"))
    ids = ["1" * 40, "2" * 40][:commits]
    finished = report(task, begun(ledger, task), commits=commits, result=said)
    ledger.finish(finished, AGENT, commits=ids)
    found = ledger.task(task)
    assert found is not None
    assert found.result is result
    assert found.commits == tuple(ids)


def test_commits_are_unknown_unless_listed(ledger: Ledger) -> None:
    one, many = ledger.submit(NewTask("x")), ledger.submit(NewTask("x"))
    ledger.finish(report(one, begun(ledger, one), commits=1, commit="3" * 40), AGENT)
    ledger.finish(report(many, begun(ledger, many), commits=2, commit="3" * 40), AGENT)
    first, second = ledger.task(one), ledger.task(many)
    assert first is not None
    assert second is not None
    assert first.commits == ("3" * 40,)
    assert second.commits is None


def test_a_quota_holds_the_task_back_and_is_resumed_by_the_same_agent(
    ledger: Ledger, clock: Any
) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    ledger.finish(report(task, fence, Outcome.QUOTA, session_id="s-1"), AGENT)
    assert ready(ledger, ["builder"], 5) == []
    assert ledger.next_delay() == clock.now + QUOTA_DELAY
    assert "waits 300 s" in (ledger.reason(task) or "")
    clock.now += QUOTA_DELAY
    assert claim(ledger, task).resume_session == "s-1"


def test_a_quota_with_a_known_end_waits_for_it(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("x"))
    until = clock.now + 40
    ledger.finish(report(task, begun(ledger, task), Outcome.QUOTA, retry_at=until), AGENT)
    clock.now = until - 1
    assert ledger.claim(task, AGENT, AGENT_ID, 90.0) is None
    clock.now = until
    assert claim(ledger, task).resume_session is None
    assert ledger.next_delay() is None


def test_only_an_interrupted_session_is_gone_on_with_and_only_by_its_agent(
    ledger: Ledger, clock: Any
) -> None:
    lost = ledger.submit(NewTask("x"))
    fence = begun(ledger, lost)
    assert ledger.spent(lost, fence, Usage(), None, "s-2")
    ledger.requeue(lost, fence, "killed")
    clock.now += 1
    assert claim(ledger, lost, OTHER, OTHER_ID).resume_session is None
    failed = ledger.submit(NewTask("x"))
    ended = report(failed, begun(ledger, failed), Outcome.FAILED, session_id="s-3")
    ledger.finish(ended, AGENT)
    ledger.retry(failed)
    assert claim(ledger, failed).resume_session is None


def test_an_attempt_begins_once_and_only_under_the_living_lease(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    fence = claim(ledger, task).fence
    assert ledger.begin(task, fence + 1, AGENT, 1.0) is None
    assert ledger.begin(task, fence, AGENT, 1.0) == 1
    assert ledger.begin(task, fence, AGENT, 2.0) == 1
    assert len(ledger.attempts(task)) == 1
    ledger.requeue(task, fence, "died")
    assert ledger.begin(task, fence, AGENT, 3.0) is None
    assert ledger.begin("t-nothere0", 1, AGENT, 3.0) is None


def test_a_report_without_a_start_is_an_attempt_all_the_same(ledger: Ledger) -> None:
    """A missing program fails its attempt before anything has started."""
    task = ledger.submit(NewTask("x"))
    fence = claim(ledger, task).fence
    ledger.finish(report(task, fence, Outcome.FAILED, reason="no such program"), AGENT)
    (attempt,) = ledger.attempts(task)
    assert attempt.started_at is None
    assert state(ledger, task) is TaskState.FAILED


# -- fences


def test_a_report_is_taken_in_once(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    assert ledger.finish(report(task, fence), AGENT).verdict is Verdict.ACCEPTED
    before = ledger.task(task)
    again = ledger.finish(report(task, fence, Outcome.FAILED), AGENT)
    assert again.verdict is Verdict.DUPLICATE
    assert again.state is TaskState.DONE
    assert ledger.task(task) == before


def test_a_stale_report_changes_nothing(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("x"))
    old = begun(ledger, task)
    ledger.requeue(task, old, "lease expired")
    clock.now += 1
    fence = begun(ledger, task, OTHER, OTHER_ID)
    before = (ledger.task(task), ledger.attempts(task))
    for wrong in (old, fence + 1, 0, -1):
        assert ledger.finish(report(task, wrong), AGENT).verdict is Verdict.STALE
    assert (ledger.task(task), ledger.attempts(task)) == before
    assert ledger.finish(report("t-nothere0", 1), AGENT).verdict is Verdict.UNKNOWN


def test_only_the_holder_reports(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    thief = ledger.finish(report(task, fence), OTHER, OTHER_ID)
    assert thief.verdict is Verdict.NOT_HOLDER
    assert state(ledger, task) is TaskState.RUNNING
    assert ledger.finish(report(task, fence), AGENT, AGENT_ID).verdict is Verdict.ACCEPTED


def test_a_late_report_with_the_last_fence_still_counts(ledger: Ledger) -> None:
    """The lease expired or its holder seemed lost, but nobody else has begun: the work is done."""
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    assert ledger.requeue(task, fence, "seemed lost") is TaskState.QUEUED
    settlement = ledger.finish(report(task, fence), AGENT, AGENT_ID)
    assert (settlement.verdict, settlement.state) == (Verdict.ACCEPTED, TaskState.DONE)
    (attempt,) = ledger.attempts(task)
    assert attempt.outcome is Outcome.SUCCEEDED
    found = ledger.task(task)
    assert found is not None
    assert found.lost == 0


def test_a_task_never_claimed_takes_no_report(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    assert ledger.finish(report(task, 0), AGENT).verdict is Verdict.STALE


# -- losing, giving back


def test_three_counted_losses_are_poison(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("x"))
    for n in range(1, LOST_LIMIT + 1):
        clock.now += 10
        became = ledger.requeue(task, begun(ledger, task), "its daemon died")
        assert became is (TaskState.FAILED if n == LOST_LIMIT else TaskState.QUEUED)
    assert "lost 3 times" in (ledger.reason(task) or "")
    assert ledger.retry(task).lost == 0
    assert ledger.requeue(task, begun(ledger, task), "again") is TaskState.QUEUED


def test_losses_that_do_not_count(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    for _ in range(LOST_LIMIT + 1):
        ledger.requeue(task, begun(ledger, task), "the swarm was killed", counts=False)
        fence = claim(ledger, task).fence
        ledger.requeue(task, fence, "it never began")  # no attempt, so nothing to count
    assert state(ledger, task) is TaskState.QUEUED
    assert len(ledger.attempts(task)) == LOST_LIMIT + 1


def test_a_lease_ends_once(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    assert ledger.requeue(task, fence + 1, "no") is None
    assert ledger.requeue(task, fence, "yes") is TaskState.QUEUED
    assert ledger.requeue(task, fence, "again") is None
    assert ledger.requeue("t-nothere0", 1, "what") is None


def test_given_back_no_attempt_is_counted(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("x"))
    fence = claim(ledger, task).fence
    assert ledger.unclaim(task, fence, "the gate is closed", 5.0) is TaskState.QUEUED
    assert ledger.unclaim(task, fence, "the gate is closed", 5.0) is TaskState.QUEUED
    assert ledger.unclaim(task, fence + 1, "what") is None
    assert ledger.attempts(task) == []
    assert "the gate is closed" in (ledger.reason(task) or "")
    assert ledger.claim(task, AGENT, AGENT_ID, 90.0) is None
    clock.now += 5.0
    again = claim(ledger, task)
    assert (again.fence, again.attempt) == (2, 1)


def test_given_back_after_it_began_ends_the_attempt_uncounted(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    assert ledger.unclaim(task, fence, "changed my mind") is TaskState.QUEUED
    (attempt,) = ledger.attempts(task)
    assert (attempt.outcome, attempt.reason) == (Outcome.CANCELLED, "given back: changed my mind")
    assert ledger.task(task).lost == 0  # type: ignore[union-attr]
    assert ledger.claim(task, AGENT, AGENT_ID, 90.0).earlier == (  # type: ignore[union-attr]
        f"attempt 1 by {AGENT}: cancelled: given back: changed my mind",
    )


def test_a_lease_is_renewed_while_it_lives(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    fence = claim(ledger, task).fence
    assert ledger.renew(task, fence)
    assert not ledger.renew(task, fence + 1)
    ledger.requeue(task, fence, "gone")
    assert not ledger.renew(task, fence)


# -- orders


def test_cancel_ends_a_waiting_task_at_once(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    assert ledger.cancel(task).state is TaskState.CANCELLED
    assert ledger.cancel(task).state is TaskState.CANCELLED
    assert ledger.claim(task, AGENT, AGENT_ID, 90.0) is None
    assert ledger.holders() == []


def test_cancel_of_a_running_task_keeps_its_attempt(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    assert ledger.cancel(task).state is TaskState.CANCELLED
    (holder,) = ledger.holders()
    assert holder.state is TaskState.CANCELLED
    ended = report(task, fence, Outcome.CANCELLED, usage=Usage(7, 8), commits=1, commit="4" * 40)
    assert ledger.finish(ended, AGENT, AGENT_ID).state is TaskState.CANCELLED
    (attempt,) = ledger.attempts(task)
    assert attempt.outcome is Outcome.CANCELLED
    assert attempt.usage.input_tokens == 7
    assert ledger.holders() == []
    found = ledger.task(task)
    assert found is not None
    assert found.commits == ("4" * 40,)


def test_a_cancelled_task_whose_holder_is_lost_stays_cancelled(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    ledger.cancel(task)
    assert ledger.requeue(task, fence, "died") is TaskState.CANCELLED
    assert ledger.holders() == []
    assert ledger.attempts(task)[0].outcome is Outcome.CANCELLED


def test_what_has_ended_is_not_cancelled_and_what_lives_not_retried(ledger: Ledger) -> None:
    done, waits = ledger.submit(NewTask("x")), ledger.submit(NewTask("x"))
    ledger.finish(report(done, begun(ledger, done)), AGENT)
    with pytest.raises(UsageError, match="done already"):
        ledger.cancel(done)
    with pytest.raises(UsageError, match="is queued"):
        ledger.retry(waits)
    for order in (ledger.cancel, ledger.retry):
        with pytest.raises(UsageError, match="there is no task"):
            order("t-nothere0")


def test_retry_queues_again_and_keeps_what_was(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    ledger.finish(report(task, begun(ledger, task), Outcome.FAILED, reason="broke"), AGENT)
    again = ledger.retry(task)
    assert (again.state, again.ended_at, again.result) == (TaskState.QUEUED, None, None)
    claimed = claim(ledger, task, OTHER, OTHER_ID)
    assert claimed.attempt == 2
    assert claimed.earlier == (f"attempt 1 by {AGENT}: failed: broke",)


def test_a_retry_is_not_ended_by_the_session_it_was_cancelled_from(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    ledger.cancel(task)
    ledger.retry(task)
    late = ledger.finish(report(task, fence, Outcome.CANCELLED), AGENT, AGENT_ID)
    assert late.verdict is Verdict.STALE
    assert state(ledger, task) is TaskState.QUEUED
    assert [a.outcome for a in ledger.attempts(task)] == [Outcome.CANCELLED]
    assert claim(ledger, task).fence > fence


# -- usage, events, pauses, notes


def test_unknown_usage_stays_unknown(ledger: Ledger, clock: Any) -> None:
    assert ledger.usage().usage == Usage()
    assert ledger.usage().cost_usd is None
    task = ledger.submit(NewTask("x"))
    fence = begun(ledger, task)
    assert ledger.spent(task, fence, Usage(input_tokens=10), None)
    assert ledger.spent(task, fence, Usage(input_tokens=30), 0.5)
    assert not ledger.spent(task, fence + 1, Usage(999), 9.0)
    ledger.finish(report(task, fence, usage=Usage(output_tokens=4)), AGENT)
    total = ledger.usage()
    assert total.usage == Usage(30, 4, None, None)
    assert total.cost_usd == 0.5
    assert not ledger.spent(task, fence, Usage(999), 9.0)
    assert ledger.usage(since=clock.now + 10).usage == Usage()


def test_every_change_has_a_number(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    seen = ledger.last_event()
    fence = begun(ledger, task)
    ledger.finish(report(task, fence), AGENT)
    kinds = [event.kind for event in ledger.events(seen)]
    assert kinds == ["claimed", "begun", "finished"]
    assert ledger.events(ledger.last_event()) == []
    other = ledger.submit(NewTask("y"))
    assert [event.task for event in ledger.events(0, task=other)] == [other]


def test_pauses_are_remembered(ledger: Ledger) -> None:
    ledger.pause("claude", "quota", 5.0)
    ledger.pause("claude", "quota again", None)
    (pause,) = ledger.pauses()
    assert (pause.scope, pause.reason, pause.until) == ("claude", "quota again", None)
    ledger.resume("claude")
    assert ledger.pauses() == []


def test_why_a_task_waits(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    assert ledger.reason(task) is None
    (queue,) = ledger.waiting_queues()
    ledger.note(f"queue:{queue.id}", "no agent takes role builder")
    assert ledger.reason(task) == "no agent takes role builder"
    ledger.note("gate", "paused: lunch")
    assert ledger.reason(task) == "paused: lunch"
    assert ledger.reason(task, live=False) == "no swarm is running"
    assert ledger.claim(task, "swarm-builder-001", "a" * 16, 90.0) is not None
    assert ledger.reason(task) is None
    assert "queues it again" in str(ledger.reason(task, live=False)), "a killed swarm's"
    ledger.note("gate", "")
    ledger.note(f"queue:{queue.id}", "")
    assert ledger.notes() == {}
    assert ledger.reason("t-nothere0") is None


def test_counts_name_every_state(ledger: Ledger) -> None:
    assert ledger.counts() == {str(state): 0 for state in TaskState}


def test_listing_gives_the_youngest_oldest_first(ledger: Ledger) -> None:
    tasks = [ledger.submit(NewTask("x", role=role)) for role in ("builder", "qa", "builder")]
    assert [task.id for task in ledger.tasks(limit=2)] == tasks[1:]
    assert [task.id for task in ledger.tasks([TaskState.QUEUED], role="qa")] == [tasks[1]]
    assert ledger.tasks([TaskState.DONE]) == []
    assert ledger.tasks([]) == []

"""Agents outside the fleet: they claim, renew, release and answer by lease, and by lease only."""

from __future__ import annotations

from typing import Any

import pytest

from swarm.core.model import Outcome, TaskKind, TaskResult, TaskState, Usage, outsider_id
from swarm.errors import StaleLease, SwarmError, UsageError
from swarm.ledger import Claimed, Ledger, NewTask, Task
from swarm.ledger.lanes_calls import MAX_RESPONSE


def take(ledger: Ledger, who: str = "chat-1", **more: Any) -> Claimed:
    claimed = ledger.lane_claim(who, **more)
    assert claimed is not None
    return claimed


def known(ledger: Ledger, task: str) -> Task:
    found = ledger.task(task)
    assert found is not None
    return found


def test_an_outsider_takes_what_it_matches_in_its_order(ledger: Ledger) -> None:
    ledger.submit(NewTask("default", priority=9))
    old = ledger.submit(NewTask("old", lane="reviews"))
    urgent = ledger.submit(NewTask("urgent", lane="reviews", priority=5))
    ledger.submit(NewTask("other", lane="reviews", labels={"vendor": "openai"}, priority=9))
    ledger.submit(NewTask("role", lane="reviews", role="qa", priority=9))
    first = take(ledger, lane="reviews", roles=["builder"])
    assert (first.task.id, first.prompt, first.attempt, first.fence) == (urgent, "urgent", 1, 1)
    assert (first.task.agent, first.task.agent_id) == ("@chat-1", outsider_id("chat-1"))
    assert take(ledger, "two", lane="reviews", roles=["builder"]).task.id == old
    assert ledger.lane_claim("three", lane="reviews", roles=["builder"]) is None
    assert take(ledger, lane="reviews", labels={"vendor": "openai"}).prompt in ("other", "role")


def test_any_lane_is_any(ledger: Ledger) -> None:
    ledger.submit(NewTask("a"))
    ledger.submit(NewTask("b", lane="reviews"))
    assert [take(ledger, lane="*").prompt for _ in range(2)] == ["a", "b"]


def test_reviews_and_plans_are_for_who_names_their_role(ledger: Ledger) -> None:
    judged = ledger.submit(NewTask("work"))
    new = NewTask("judge", kind=TaskKind.REVIEW, role="auditor", about=judged, priority=9)
    review = ledger.submit(new)
    assert take(ledger).task.id == judged
    assert ledger.lane_next() is None
    assert ledger.lane_claim("chat-1") is None
    found = ledger.lane_next(roles=["auditor"])
    assert found is not None
    assert found.id == review
    assert take(ledger, roles=["auditor"]).task.id == review


def test_an_exact_task_is_given_whatever_its_lane_and_labels(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("a", lane="far", labels={"vendor": "openai"}))
    assert ledger.lane_claim("chat-1") is None
    assert take(ledger, task=task).task.id == task
    assert ledger.lane_claim("two", task=task) is None
    assert ledger.lane_claim("two", task="t-nothere0") is None


@pytest.mark.parametrize(
    "asked",
    [
        {"who": ""},
        {"who": "a b"},
        {"who": "-x"},
        {"who": "x" * 33},
        {"who": "a" * 16},
        {"who": "../x"},
        {"lane": "A B"},
        {"labels": {"key": ""}},
        {"lease_seconds": 0.0},
        {"lease_seconds": float("nan")},
        {"lease_seconds": 1e9},
    ],
)
def test_what_no_claim_can_be_is_refused(ledger: Ledger, asked: dict[str, Any]) -> None:
    ledger.submit(NewTask("a"))
    with pytest.raises(UsageError):
        ledger.lane_claim(**({"who": "chat-1"} | asked))
    assert ledger.holders() == []


def test_the_attempt_begins_with_the_lease_and_keeps_its_end(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("why?", lane="reviews"))
    fence = take(ledger, lane="reviews").fence
    (attempt,) = ledger.attempts(task)
    assert (attempt.agent, attempt.outcome, attempt.started_at) == ("@chat-1", None, clock.now)
    clock.now += 5
    done = ledger.lane_respond(
        task, fence, "chat-1", "because", usage=Usage(10, 5), cost_usd=0.5, commit="c" * 40
    )
    assert (done.state, done.result, done.answer) == (TaskState.DONE, TaskResult.ANSWER, "because")
    (attempt,) = ledger.attempts(task)
    assert (attempt.outcome, attempt.usage, attempt.cost_usd, attempt.ended_at, attempt.tip) == (
        *(Outcome.SUCCEEDED, Usage(10, 5)),
        *(0.5, clock.now, "c" * 40),
    )
    assert not done.held


def test_an_answer_frees_what_waited_for_it(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("a"))
    child = ledger.submit(NewTask("b", after=(task,)))
    ledger.lane_respond(task, take(ledger).fence, "chat-1", "done")
    assert [one.id for one in ledger.ready([known(ledger, child).queue], 1)] == [child]


def test_a_failure_and_a_question(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("a"))
    fence = take(ledger).fence
    failed = ledger.lane_respond(task, fence, "chat-1", "", Outcome.FAILED, reason="too hard")
    assert (failed.state, failed.reason) == (TaskState.FAILED, "too hard")
    asking = ledger.submit(NewTask("b"))
    fence = take(ledger, task=asking).fence
    with pytest.raises(UsageError):
        ledger.lane_respond(asking, fence, "chat-1", "", needs_human=True)
    asks = ledger.lane_respond(asking, fence, "chat-1", "", needs_human=True, reason="which one?")
    assert (asks.state, asks.reason) == (TaskState.NEEDS_HUMAN, "which one?")
    ledger.answer(asking, "the second", "operator")
    assert "the second" in take(ledger, "two", task=asking).feedback


def test_a_long_answer_is_kept_whole_and_a_longer_one_refused(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("a"))
    fence = take(ledger).fence
    with pytest.raises(UsageError):
        ledger.lane_respond(task, fence, "chat-1", "x" * (MAX_RESPONSE + 1))
    assert len(ledger.lane_respond(task, fence, "chat-1", "x" * MAX_RESPONSE).answer) == 64_000


def test_given_back_it_waits_at_once_and_is_not_counted(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("a"))
    for _ in range(5):
        back = ledger.lane_release(task, take(ledger).fence, "chat-1", "not\nmine")
        assert (back.state, back.lost, back.held) == (TaskState.QUEUED, 0, False)
    assert back.reason == "given back by @chat-1: not mine"
    ended = [(one.outcome, one.reason) for one in ledger.attempts(task)]
    assert ended == [(Outcome.CANCELLED, "given back by @chat-1: not mine")] * 5


def test_a_renewed_lease_has_a_full_term_again(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("a"))
    fence = take(ledger, lease_seconds=60.0).fence
    for _ in range(5):
        clock.now += 50
        ledger.lane_renew(task, fence, "chat-1")
        assert ledger.lane_claim("two") is None
    (holder,) = ledger.outsiders()
    assert (holder.lease_until, holder.lease_seconds) == (clock.now + 60, 60.0)


def test_a_lease_that_ran_out_is_taken_over_at_the_next_claim(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("a"))
    first = take(ledger, lease_seconds=60.0)
    clock.now += 60
    second = take(ledger, "two")
    assert (second.task.id, second.fence, second.attempt) == (task, first.fence + 1, 2)
    assert "lost" in second.earlier[0]
    assert [one.outcome for one in ledger.attempts(task)] == [Outcome.LOST, None]
    for late in (
        lambda: ledger.lane_respond(task, first.fence, "chat-1", "late"),
        lambda: ledger.lane_renew(task, first.fence, "chat-1"),
        lambda: ledger.lane_release(task, first.fence, "chat-1"),
    ):
        with pytest.raises(StaleLease, match="@two has it with fence 2") as caught:
            late()
        assert caught.value.exit_code == 1
    assert known(ledger, task).answer == ""
    assert ledger.lane_respond(task, second.fence, "two", "mine").answer == "mine"


def test_a_late_answer_is_refused_though_nobody_else_has_it(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("a"))
    fence = take(ledger, lease_seconds=60.0).fence
    clock.now += 61
    with pytest.raises(StaleLease, match="is over: the task is queued"):
        ledger.lane_respond(task, fence, "chat-1", "late")
    assert (known(ledger, task).state, known(ledger, task).answer) == (TaskState.QUEUED, "")


def test_only_the_holder_answers(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("a"))
    fence = take(ledger).fence
    for who, given in (("two", fence), ("chat-1", fence + 1), ("chat-1", 0)):
        with pytest.raises(StaleLease):
            ledger.lane_respond(task, given, who, "stolen")
    with pytest.raises(UsageError):
        ledger.lane_respond("t-nothere0", 1, "chat-1", "x")
    fleet = ledger.submit(NewTask("b"))
    ours = ledger.claim(fleet, "swarm-builder-001", "a" * 16, 90.0)
    assert ours is not None
    with pytest.raises(StaleLease, match="swarm-builder-001 has it"):
        ledger.lane_respond(fleet, ours.fence, "swarm-builder-001", "stolen")


def test_a_cancelled_task_takes_no_answer(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("a"))
    fence = take(ledger).fence
    ledger.cancel(task)
    with pytest.raises(StaleLease, match="cancelled"):
        ledger.lane_respond(task, fence, "chat-1", "x")


def test_a_lease_of_the_fleet_never_expires_here(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("a"))
    assert ledger.claim(task, "swarm-builder-001", "a" * 16, 90.0)
    chat = ledger.submit(NewTask("b"))
    assert ledger.claim(chat, "@" + "b" * 16, "b" * 16, 90.0)
    clock.now += 10_000
    assert ledger.expire_leases() == []
    assert len(ledger.holders()) == 2
    assert ledger.outsiders() == []


def test_a_clock_that_is_put_back_makes_no_lease_longer(ledger: Ledger, clock: Any) -> None:
    ledger.submit(NewTask("a"))
    take(ledger, lease_seconds=60.0)
    clock.now -= 100_000
    assert ledger.expire_leases() == []
    clock.now += 61
    assert len(ledger.expire_leases()) == 1


def test_a_term_that_is_over_ends_only_what_was_not_renewed(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("a"))
    fence = take(ledger, lease_seconds=60.0).fence
    (seen,) = ledger.outsiders()
    clock.now += 10
    ledger.lane_renew(task, fence, "chat-1")
    until = ledger.expire(task, fence, seen.lease_until)
    assert until == clock.now + 60
    assert ledger.expire(task, fence + 1, until) is None
    assert known(ledger, task).state is TaskState.RUNNING
    assert ledger.expire(task, fence, until) is None
    assert known(ledger, task).state is TaskState.QUEUED


def test_who_stays_away_three_times_has_poisoned_it(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("a"))
    for _ in range(3):
        take(ledger, lease_seconds=5.0)
        clock.now += 6
        ledger.expire_leases()
    assert known(ledger, task).state is TaskState.FAILED
    assert "ran out" in known(ledger, task).reason


def test_who_has_it_is_said_with_and_without_a_swarm(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("a"))
    take(ledger)
    for live in (True, False):
        assert "@chat-1 has it" in str(ledger.reason(task, live=live))


# -- threads


def answered(ledger: Ledger, question: str, said: str, **more: Any) -> str:
    task = ledger.submit(NewTask(question, **more))
    ledger.lane_respond(task, take(ledger, task=task).fence, "chat-1", said)
    return task


def test_a_thread_hands_its_answers_on(ledger: Ledger) -> None:
    first = answered(ledger, "what is it?", "a parser", thread="parser")
    answered(ledger, "elsewhere", "nothing", thread="lexer")
    second = answered(ledger, "is it fast?", "no", thread="parser")
    ledger.submit(NewTask("not answered", thread="parser"))
    last = ledger.submit(NewTask("make it fast", thread="parser"))
    claimed = ledger.claim(last, "swarm-builder-001", "a" * 16, 90.0)
    assert claimed is not None
    assert claimed.thread == (
        f"{first} asked:\nwhat is it?\n{first} answered, by @chat-1:\na parser",
        f"{second} asked:\nis it fast?\n{second} answered, by @chat-1:\nno",
    )
    assert ledger.thread_of(last) == claimed.thread
    assert claimed.earlier == ()


def test_a_parent_hands_its_answer_on_and_its_thread(ledger: Ledger) -> None:
    first = answered(ledger, "what is it?", "a parser")
    second = answered(ledger, "why?", "it parses", parent=first)
    third = ledger.submit(NewTask("and?", parent=second))
    assert [told.split()[0] for told in ledger.thread_of(third)] == [first, second]
    assert ledger.parent_of(third) == second
    threaded = answered(ledger, "x", "y", thread="one")
    child = ledger.submit(NewTask("z", parent=threaded))
    assert known(ledger, child).thread == "one"
    assert ledger.parent_of(first) == ledger.parent_of("t-nothere0") == ""


def test_a_long_thread_drops_its_oldest_first(ledger: Ledger) -> None:
    tasks = [answered(ledger, "q" * 5000, "a" * 9000, thread="long") for _ in range(8)]
    task = ledger.submit(NewTask("next", thread="long"))
    told = ledger.thread_of(task)
    assert sum(map(len, told)) <= 16_000
    assert [one.split()[0] for one in told] == tasks[-3:]
    many = [answered(ledger, "q", "a", thread="many") for _ in range(30)]
    task = ledger.submit(NewTask("next", thread="many"))
    assert [one.split()[0] for one in ledger.thread_of(task)] == many[-20:]


def test_a_refused_request_is_told_apart_from_an_empty_lane(ledger: Ledger) -> None:
    with pytest.raises(SwarmError):
        ledger.lane_claim("no good")
    assert ledger.lane_claim("good") is None


def test_who_is_outside_the_fleet_has_no_branch(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("a"))
    lease = take(ledger, task=task)
    assert lease.task.branch is None
    ledger.lane_release(task, lease.fence, "chat-1")
    fleet = ledger.claim(task, "swarm-builder-001", "0123456789abcdef", 90.0)
    assert fleet is not None
    assert fleet.task.branch == f"swarm/swarm-builder-001/{task}"

"""Conflicts that an attempt left, in every ledger: another round, counted, then a person."""

from __future__ import annotations

import pytest

from swarm.core.model import Merge, Outcome, RemarkKind, Review, TaskKind, TaskState
from swarm.ledger import Ledger, NewTask, Task, Verdict
from swarm.ledger.outcomes import Becomes, Case, becomes
from swarm.ledger.records import Claimed, Settlement, Way
from swarm.wire.lifeline import Finished

AGENT, AGENT_ID = "swarm-builder-001", "a" * 16
ONE, TWO, ASIDE = "1" * 40, "2" * 40, "e" * 40
LANDS = Way()
LEFT = Finished("t-1", 2, Outcome.FAILED, unresolved=("a.txt",))


def task_of(ledger: Ledger, task: str) -> Task:
    found = ledger.task(task)
    assert found is not None
    return found


def begun(ledger: Ledger, task: str, agent: str = AGENT, agent_id: str = AGENT_ID) -> Claimed:
    claimed = ledger.claim(task, agent, agent_id, 90.0)
    assert claimed is not None
    assert ledger.begin(task, claimed.fence, agent, 1_800_000_001.0) is not None
    return claimed


def report(task: str, fence: int, **more: object) -> Finished:
    """What a daemon says of a session that left a conflict."""
    said: dict[str, object] = {
        "reason": "conflicts are left in a.txt, b c.txt; saved as refs/agentctl/salvage/x/t.2",
        "commit": ONE,
        "commits": 1,
        "session_id": "s",
        "unresolved": ("a.txt", "b c.txt"),
        "aside": ASIDE,
    }
    return Finished(task, fence, Outcome.FAILED, **{**said, **more})  # type: ignore[arg-type]


def leaves_it(ledger: Ledger, task: str, way: Way = LANDS) -> tuple[Claimed, Settlement]:
    """One attempt from its claim to such a report."""
    claimed = begun(ledger, task)
    return claimed, ledger.finish(report(task, claimed.fence), AGENT, way=way)


@pytest.fixture
def task(ledger: Ledger) -> str:
    """A task that was sent back: ``main`` has moved on."""
    task = ledger.submit(NewTask("words"))
    fence = begun(ledger, task).fence
    good = Finished(task, fence, Outcome.SUCCEEDED, commit=ONE, commits=1, session_id="s")
    ledger.finish(good, AGENT, way=LANDS)
    assert ledger.sent_back(task, ONE, RemarkKind.CONFLICT, "a.txt", LANDS) is TaskState.QUEUED
    return task


# -- the decision


@pytest.mark.parametrize(("revisions", "state"), [
    (0, TaskState.QUEUED), (1, TaskState.QUEUED), (2, TaskState.NEEDS_HUMAN),
    (7, TaskState.NEEDS_HUMAN),
])  # fmt: skip
def test_a_left_conflict_is_one_more_round_or_a_persons(revisions: int, state: TaskState) -> None:
    case = Case(way=Way(Review.AGENT, retries=3), revisions=revisions)
    assert becomes(LEFT, 0.0, case) == Becomes(state, sent_back=True)


@pytest.mark.parametrize("case", [Case(foreign=True), Case(TaskKind.REVIEW), Case(TaskKind.PLAN)])
def test_others_than_our_own_work_fail_of_it(case: Case) -> None:
    assert becomes(LEFT, 0.0, case) == Becomes(TaskState.FAILED)


@pytest.mark.parametrize(
    "outcome", [o for o in Outcome if o not in {Outcome.FAILED, Outcome.SUCCEEDED}]
)
def test_only_what_says_it_is_done_is_sent_back(outcome: Outcome) -> None:
    ended = Finished("t-1", 2, outcome, unresolved=("a.txt",))
    plain = Finished("t-1", 2, outcome)
    assert becomes(ended, 0.0) == becomes(plain, 0.0)


# -- in the ledger


def test_it_goes_back_with_the_files_and_nothing_of_it_can_land(ledger: Ledger, task: str) -> None:
    claimed, settled = leaves_it(ledger, task)
    assert (settled.verdict, settled.state) == (Verdict.ACCEPTED, TaskState.QUEUED)
    back = task_of(ledger, task)
    assert (back.revisions, back.go_on, back.tip, back.approved) == (2, True, ONE, None)
    assert back.reason.startswith("sent back: a conflict or its markers were left in a.txt, b c")
    assert ledger.landing_queue() == []
    ended = ledger.attempts(task)[-1]
    assert ended.outcome is Outcome.FAILED
    assert ended.reason.startswith("conflicts are left in a.txt")
    kinds = [event.kind for event in ledger.events(task=task)]
    assert kinds[-2:] == ["finished", "sent_back"]
    said = ledger.remarks(task)[-1]
    assert (said.kind, said.fence) == (RemarkKind.CONFLICT, claimed.fence)
    again = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert again is not None
    assert again.resume_session == "s"
    assert "a.txt, b c.txt" in again.feedback
    assert "seven `=`" in again.feedback, "git takes a heading's underline for one"
    assert f"git show {ASIDE}:FILE" in again.feedback


def test_what_was_said_of_the_work_before_is_said_again(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("words"))
    fence = begun(ledger, task).fence
    good = Finished(task, fence, Outcome.SUCCEEDED, commit=ONE, commits=1)
    ledger.finish(good, AGENT, way=Way(Review.HUMAN))
    ledger.reject(task, "ada", "name it after the ship")
    leaves_it(ledger, task)
    again = begun(ledger, task)
    assert "name it after the ship" in again.feedback
    assert "left in a.txt" in again.feedback
    resolved = Finished(task, again.fence, Outcome.SUCCEEDED, commit=TWO, commits=2)
    assert ledger.finish(resolved, AGENT, way=LANDS).state is TaskState.LANDING
    ledger.sent_back(task, TWO, RemarkKind.CHECK, "red", Way(max_revisions=3))
    third = begun(ledger, task)
    assert "red" in third.feedback
    assert "ship" not in third.feedback, "that was about older work"


def test_after_the_last_round_a_person_is_asked_with_all_that_was_said(
    ledger: Ledger, task: str
) -> None:
    assert leaves_it(ledger, task)[1].state is TaskState.QUEUED
    assert leaves_it(ledger, task)[1].state is TaskState.NEEDS_HUMAN
    asked = task_of(ledger, task)
    assert asked.reason.startswith("sent back 2 times, and still not landed.")
    assert asked.reason.count("- conflict: ") == 3, "everything that was said so far"
    assert (asked.tip, asked.result) == (ONE, None)
    assert ledger.landing_queue() == []
    kinds = [event.kind for event in ledger.events(task=task)]
    assert kinds.count("needs_human") == 1
    assert kinds[-1] == "needs_human"
    assert ledger.claim(task, AGENT, AGENT_ID, 90.0) is None, "it waits, however long"
    ledger.answer(task, "keep both lines", "ada")
    again = begun(ledger, task)
    assert (again.task.revisions, again.task.go_on, again.task.tip) == (0, True, ONE)
    assert "keep both lines" in again.feedback
    assert "a.txt" in again.feedback


def test_no_rounds_at_all_may_be_wanted(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("words"))
    settled = leaves_it(ledger, task, Way(max_revisions=0))[1]
    assert settled.state is TaskState.NEEDS_HUMAN
    assert task_of(ledger, task).reason.startswith("not to be sent back")


def test_a_stale_or_second_report_of_it_changes_nothing(ledger: Ledger, task: str) -> None:
    claimed, _ = leaves_it(ledger, task)
    before, seen = task_of(ledger, task), ledger.last_event()
    twice = ledger.finish(report(task, claimed.fence), AGENT, way=LANDS)
    assert twice.verdict is Verdict.DUPLICATE
    stale = ledger.finish(report(task, claimed.fence - 1), AGENT, way=LANDS)
    assert stale.verdict is Verdict.STALE
    assert (task_of(ledger, task), ledger.last_event()) == (before, seen)
    begun(ledger, task)
    running, seen = task_of(ledger, task), ledger.last_event()
    late = ledger.finish(report(task, claimed.fence), AGENT, way=LANDS)
    assert late.verdict is Verdict.STALE
    assert (task_of(ledger, task), ledger.last_event()) == (running, seen)


def test_cancelled_meanwhile_it_stays_so(ledger: Ledger, task: str) -> None:
    claimed = begun(ledger, task)
    ledger.cancel(task)
    ended = ledger.finish(report(task, claimed.fence), AGENT, way=LANDS)
    assert ended.state is TaskState.CANCELLED
    assert task_of(ledger, task).revisions == 1
    assert len(ledger.remarks(task)) == 1


def test_a_strangers_word_of_conflicts_is_a_failure_like_any(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("words"))
    name = "@0123456789abcdef"
    claimed = begun(ledger, task, name, name[1:])
    ended = ledger.finish(report(task, claimed.fence), name, way=LANDS)
    assert (ended.state, ledger.remarks(task)) == (TaskState.FAILED, [])


def test_names_of_files_are_hostile_text(ledger: Ledger, task: str) -> None:
    claimed = begun(ledger, task)
    odd = ("a\n</feedback>\x1b[2Jb", "é" * 4000)
    ledger.finish(
        report(task, claimed.fence, unresolved=odd, aside="$(id)"), AGENT, way=Way(merge=Merge.NONE)
    )
    said = ledger.remarks(task)[-1].text
    assert "\n" not in said
    assert "\x1b" not in said
    assert "$(id)" not in said
    assert len(said) < 600

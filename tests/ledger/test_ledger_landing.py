"""Landing, review and people's decisions in every ledger: only the right commit ever moves on."""

from __future__ import annotations

import json

import pytest

from swarm.core.model import Merge, Outcome, RemarkKind, Review, TaskKind, TaskResult, TaskState
from swarm.errors import UsageError
from swarm.ledger import Ledger, NewTask, Task, Verdict
from swarm.ledger.plan_records import NewPlan, PlannedTask
from swarm.ledger.records import KEPT, Way
from swarm.wire.lifeline import Finished

AGENT, AGENT_ID = "swarm-builder-001", "a" * 16
AUDITOR, AUDITOR_ID = "swarm-auditor-001", "b" * 16
ONE, TWO, MAIN = "1" * 40, "2" * 40, "f" * 40
LANDS, HUMAN, AGENTS = Way(), Way(Review.HUMAN), Way(Review.AGENT)


def task_of(ledger: Ledger, task: str) -> Task:
    found = ledger.task(task)
    assert found is not None
    return found


def state(ledger: Ledger, task: str) -> TaskState:
    return task_of(ledger, task).state


def begun(ledger: Ledger, task: str, agent: str = AGENT, agent_id: str = AGENT_ID) -> int:
    claimed = ledger.claim(task, agent, agent_id, 90.0)
    assert claimed is not None
    assert ledger.begin(task, claimed.fence, agent, 1_800_000_001.0) is not None
    return claimed.fence


def works(
    ledger: Ledger,
    task: str,
    commit: str = ONE,
    way: Way = LANDS,
    outcome: Outcome = Outcome.SUCCEEDED,
    **more: object,
) -> TaskState:
    """One attempt from its claim to its report; what the task has become."""
    fence = begun(ledger, task)
    finished = Finished(task, fence, outcome, commit=commit, commits=1, session_id="s", **more)  # type: ignore[arg-type]
    settlement = ledger.finish(finished, AGENT, way=way)
    assert settlement.verdict is Verdict.ACCEPTED
    assert settlement.state is not None
    return settlement.state


def kinds(ledger: Ledger, task: str) -> list[str]:
    return [event.kind for event in ledger.events(task=task)]


@pytest.fixture
def task(ledger: Ledger) -> str:
    return ledger.submit(NewTask("words"))


# -- which work may land at all


def test_good_work_lands_and_is_done_with_the_targets_commit(ledger: Ledger, task: str) -> None:
    after = ledger.submit(NewTask("later", after=(task,)))
    assert works(ledger, task) is TaskState.LANDING
    assert [one.id for one in ledger.landing_queue()] == [task]
    assert task_of(ledger, after).blocked == 1, "it has not landed yet"
    assert ledger.landed(task, ONE, MAIN) is TaskState.DONE
    done = task_of(ledger, task)
    assert (done.result, done.landed, done.tip) == (TaskResult.MERGED, MAIN, ONE)
    assert ledger.landing_queue() == []
    assert task_of(ledger, after).blocked == 0
    assert kinds(ledger, task)[-3:] == ["finished", "landing", "merged"]
    assert ledger.landed(task, ONE, MAIN) is None, "once"


@pytest.mark.parametrize(
    "outcome",
    [Outcome.FAILED, Outcome.TIMED_OUT, Outcome.STALLED, Outcome.OVERFLOW, Outcome.OVER_BUDGET],
)
def test_a_failed_workers_branch_is_never_to_land(
    ledger: Ledger, task: str, outcome: Outcome
) -> None:
    """Fault of the field: the branch of a failed worker merged."""
    assert works(ledger, task, outcome=outcome) is TaskState.FAILED
    assert (ledger.landing_queue(), task_of(ledger, task).tip) == ([], None)
    assert ledger.landed(task, ONE, MAIN) is None
    with pytest.raises(UsageError):
        ledger.approve(task, None, "person")
    assert state(ledger, task) is TaskState.FAILED


def test_good_work_that_was_followed_by_a_failure_is_not_to_land(ledger: Ledger, task: str) -> None:
    works(ledger, task)
    ledger.sent_back(task, ONE, RemarkKind.CHECK, "red", LANDS)
    assert works(ledger, task, TWO, outcome=Outcome.FAILED) is TaskState.FAILED
    assert task_of(ledger, task).tip is None
    assert ledger.landed(task, ONE, MAIN) is None


def test_a_stale_report_moves_nothing_towards_landing(ledger: Ledger, task: str) -> None:
    fence = begun(ledger, task)
    ledger.requeue(task, fence, "gone", counts=False)
    begun(ledger, task)
    late = Finished(task, fence, Outcome.SUCCEEDED, commit=ONE, commits=1)
    assert ledger.finish(late, AGENT, way=LANDS).verdict is Verdict.STALE
    assert ledger.landing_queue() == []


def test_what_others_report_of_commits_stays_a_branch(ledger: Ledger, task: str) -> None:
    """Nothing of theirs was fetched by us: their word lands nothing."""
    fence = begun(ledger, task, "@0123456789abcdef", "0123456789abcdef")
    report = Finished(task, fence, Outcome.SUCCEEDED, commit=ONE, commits=1)
    assert ledger.finish(report, "@0123456789abcdef", way=LANDS).state is TaskState.DONE
    assert task_of(ledger, task).result is TaskResult.BRANCH


@pytest.mark.parametrize("commit", [None, "", "HEAD", "--upload-pack=x", "1" * 39, "G" * 40])
def test_what_is_no_commit_id_stays_a_branch(ledger: Ledger, task: str, commit: str | None) -> None:
    fence = begun(ledger, task)
    report = Finished(task, fence, Outcome.SUCCEEDED, commit=commit, commits=1)
    assert ledger.finish(report, AGENT, way=LANDS).state is TaskState.DONE


def test_the_queue_is_by_priority_then_age(ledger: Ledger) -> None:
    first, second = ledger.submit(NewTask("a")), ledger.submit(NewTask("b"))
    urgent = ledger.submit(NewTask("c", priority=5))
    for one in (second, urgent, first):
        works(ledger, one)
    assert [one.id for one in ledger.landing_queue()] == [urgent, first, second]


def test_without_a_way_or_with_none_it_stays_a_branch(ledger: Ledger, task: str) -> None:
    assert works(ledger, task, way=KEPT) is TaskState.DONE
    other = ledger.submit(NewTask("x"))
    assert works(ledger, other, way=Way(Review.HUMAN, Merge.NONE)) is TaskState.DONE


# -- approval


def test_what_waits_for_approval_cannot_land(ledger: Ledger, task: str) -> None:
    """Fault of the field: work that waits for approval merged."""
    assert works(ledger, task, way=HUMAN) is TaskState.REVIEW
    assert ledger.landing_queue() == []
    assert ledger.landed(task, ONE, MAIN) is None
    assert state(ledger, task) is TaskState.REVIEW
    approved = ledger.approve(task, ONE[:9], "person", "good")
    assert (approved.state, approved.approved) == (TaskState.LANDING, ONE)
    assert kinds(ledger, task)[-2:] == ["approved", "landing"]
    (said,) = ledger.remarks(task)
    assert (said.kind, said.author, said.commit) == (RemarkKind.APPROVAL, "person", ONE)


def test_an_approval_of_another_commit_is_refused_and_changes_nothing(
    ledger: Ledger, task: str
) -> None:
    works(ledger, task, way=HUMAN)
    ledger.reject(task, "person", "again")
    assert works(ledger, task, TWO, way=HUMAN) is TaskState.REVIEW
    seen = ledger.last_event()
    for stale in (ONE, ONE[:8], "2" * 6, "zz", ""):
        with pytest.raises(UsageError, match="is at 222222222222 now") as caught:
            ledger.approve(task, stale, "person")
        assert "task diff" in (caught.value.remedy or "")
    assert state(ledger, task) is TaskState.REVIEW
    assert ledger.last_event() == seen


def test_an_approval_does_not_outlive_its_commit(ledger: Ledger, task: str) -> None:
    works(ledger, task, way=HUMAN)
    ledger.approve(task, None, "person")
    assert ledger.sent_back(task, ONE, RemarkKind.CONFLICT, "a.txt", HUMAN) is TaskState.QUEUED
    assert works(ledger, task, TWO, way=HUMAN) is TaskState.REVIEW
    assert ledger.landing_queue() == []


def test_rules_that_changed_while_it_waited_hold(ledger: Ledger, task: str) -> None:
    works(ledger, task)
    assert ledger.back_to_review(task, ONE)
    assert [one.id for one in ledger.in_review()] == [task]
    other = ledger.submit(NewTask("x"))
    works(ledger, other)
    assert ledger.stays_branch(other, ONE)
    assert task_of(ledger, other).result is TaskResult.BRANCH


# -- revision


def test_it_goes_back_with_what_was_said_and_in_its_own_session(ledger: Ledger, task: str) -> None:
    works(ledger, task)
    assert ledger.sent_back(task, ONE, RemarkKind.CHECK, "test_x is red", LANDS) is TaskState.QUEUED
    back = task_of(ledger, task)
    assert (back.revisions, back.go_on, back.tip) == (1, True, ONE)
    assert ledger.session_holder(task) == AGENT_ID
    assert "test_x is red" in (ledger.reason(task) or "")
    claimed = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    assert claimed.resume_session == "s"
    assert "test_x is red" in claimed.feedback
    # Interrupted, the next one is told the same; a good report ends it.
    ledger.begin(task, claimed.fence, AGENT, 1.0)
    ledger.requeue(task, claimed.fence, "stopped", counts=False)
    again = ledger.claim(task, AUDITOR, AUDITOR_ID, 90.0)
    assert again is not None
    assert (again.feedback, again.resume_session) == (claimed.feedback, None)
    ledger.unclaim(task, again.fence, "no")
    assert works(ledger, task, TWO) is TaskState.LANDING
    assert not task_of(ledger, task).go_on


def test_after_max_revisions_a_person_is_asked_with_everything_said(
    ledger: Ledger, task: str
) -> None:
    way = Way(max_revisions=1)
    works(ledger, task, way=way)
    assert ledger.sent_back(task, ONE, RemarkKind.CONFLICT, "in a.txt", way) is TaskState.QUEUED
    works(ledger, task, TWO, way=way)
    asked = ledger.sent_back(task, TWO, RemarkKind.CHECK, "b is red", way)
    assert asked is TaskState.NEEDS_HUMAN
    reason = task_of(ledger, task).reason
    assert "in a.txt" in reason
    assert "b is red" in reason
    assert kinds(ledger, task)[-1] == "needs_human"
    ledger.answer(task, "ignore b", "person")
    back = task_of(ledger, task)
    assert (back.state, back.revisions, back.go_on) == (TaskState.QUEUED, 0, True)
    claimed = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    assert "b is red" in claimed.feedback
    assert "ignore b" in claimed.feedback
    assert "in a.txt" not in claimed.feedback, "that was about older work"


def test_no_revisions_at_all_may_be_wanted(ledger: Ledger, task: str) -> None:
    way = Way(max_revisions=0)
    works(ledger, task, way=way)
    assert ledger.sent_back(task, ONE, RemarkKind.CHECK, "red", way) is TaskState.NEEDS_HUMAN


def test_what_is_said_of_another_commit_changes_nothing(ledger: Ledger, task: str) -> None:
    works(ledger, task)
    assert ledger.sent_back(task, TWO, RemarkKind.CHECK, "x", LANDS) is None
    assert ledger.landed(task, TWO, MAIN) is None
    assert not ledger.not_landed(task, TWO, "x")
    assert not ledger.needs_person(task, TWO, "x")
    assert state(ledger, task) is TaskState.LANDING
    assert ledger.remarks(task) == []


def test_why_it_has_not_landed_is_shown(ledger: Ledger, task: str) -> None:
    works(ledger, task)
    assert "turn" in (ledger.reason(task) or "")
    assert ledger.not_landed(task, ONE, "the disk is\nfull")
    assert ledger.reason(task) == "the disk is full"
    assert ledger.landed(task, ONE, MAIN) is TaskState.DONE
    assert ledger.reason(task) is None


# -- people


def test_a_question_is_answered_and_the_next_attempt_has_both(ledger: Ledger, task: str) -> None:
    asked = works(ledger, task, needs_human=True, reason="which colour?")
    assert asked is TaskState.NEEDS_HUMAN
    with pytest.raises(UsageError, match="empty"):
        ledger.answer(task, "  ", "person")
    ledger.answer(task, "blue\x1b[2J", "person")
    claimed = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    assert "which colour?" in claimed.feedback
    assert "blue[2J" in claimed.feedback
    assert claimed.resume_session == "s"


def test_what_was_denied_can_be_answered(ledger: Ledger, task: str) -> None:
    assert works(ledger, task, outcome=Outcome.DENIED, reason="curl") is TaskState.NEEDS_HUMAN
    assert ledger.answer(task, "use the mirror", "person").state is TaskState.QUEUED


def test_only_what_asks_is_answered(ledger: Ledger, task: str) -> None:
    with pytest.raises(UsageError, match="asks nothing"):
        ledger.answer(task, "x", "person")
    with pytest.raises(UsageError, match="no task"):
        ledger.answer("t-nothere0", "x", "person")


def test_a_final_rejection_fails_it_and_its_dependents_follow(ledger: Ledger, task: str) -> None:
    works(ledger, task, way=HUMAN)
    with pytest.raises(UsageError, match="reason"):
        ledger.reject(task, "person", " ")
    ended = ledger.reject(task, "person", "not wanted", final=True)
    assert (ended.state, ended.branch) == (TaskState.FAILED, f"swarm/{AGENT}/{task}")
    assert kinds(ledger, task)[-2:] == ["rejected", "failed"]
    assert ledger.retry(task).tip is None


def test_a_retry_begins_anew(ledger: Ledger, task: str) -> None:
    works(ledger, task)
    ledger.sent_back(task, ONE, RemarkKind.CHECK, "red", LANDS)
    ledger.cancel(task)
    anew = ledger.retry(task)
    assert (anew.tip, anew.approved, anew.revisions, anew.go_on) == (None, None, 0, False)
    claimed = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    assert (claimed.feedback, claimed.resume_session) == ("", None)


@pytest.mark.parametrize("way", [LANDS, HUMAN])
def test_it_can_be_cancelled_before_it_lands_and_not_after(
    ledger: Ledger, task: str, way: Way
) -> None:
    works(ledger, task, way=way)
    assert ledger.cancel(task).state is TaskState.CANCELLED
    assert ledger.landing_queue() == []
    assert not ledger.stays_branch(task, ONE)
    with pytest.raises(UsageError):
        ledger.approve(task, None, "person")


def test_cancelled_too_late_it_is_done_as_the_target_has_moved(ledger: Ledger, task: str) -> None:
    works(ledger, task)
    ledger.cancel(task)
    assert ledger.landed(task, ONE, MAIN) is TaskState.DONE
    assert task_of(ledger, task).result is TaskResult.MERGED


def test_who_leaves_landing_by_somebodys_word_is_in_doubt_until_git_was_asked(
    ledger: Ledger, task: str
) -> None:
    works(ledger, task)
    assert ledger.in_doubt() == []
    ledger.cancel(task)
    ledger.cancel(task)
    assert [(one.id, one.in_doubt) for one in ledger.in_doubt()] == [(task, ONE)]
    ledger.not_in_doubt(task, TWO)
    assert ledger.in_doubt(), "that was another commit"
    ledger.not_in_doubt(task, ONE)
    assert ledger.in_doubt() == []
    assert state(ledger, task) is TaskState.CANCELLED


def test_a_plan_that_is_cancelled_leaves_its_landings_in_doubt(ledger: Ledger) -> None:
    made = ledger.apply_plan(
        NewPlan((PlannedTask("a", NewTask("x")), PlannedTask("b", NewTask("y"))))
    )
    works(ledger, made.tasks["a"])
    ledger.cancel_plan(made.id)
    assert [one.id for one in ledger.in_doubt()] == [made.tasks["a"]]
    assert ledger.landed(made.tasks["a"], ONE, MAIN) is TaskState.DONE
    assert ledger.in_doubt() == []


def test_what_landed_before_a_retry_is_noted_and_the_task_goes_on(
    ledger: Ledger, task: str
) -> None:
    works(ledger, task)
    ledger.cancel(task)
    ledger.retry(task)
    fence = begun(ledger, task)
    assert ledger.landed(task, ONE, MAIN) is TaskState.RUNNING
    assert (task_of(ledger, task).landed, task_of(ledger, task).has_landed) == (MAIN, False)
    failed = Finished(task, fence, Outcome.FAILED, "no")
    assert ledger.finish(failed, AGENT, way=LANDS).state is TaskState.FAILED
    assert ledger.landed(task, ONE, MAIN) is None, "once"
    assert state(ledger, task) is TaskState.FAILED, "its last try is what it came to"


def test_a_final_rejection_of_what_had_landed_says_so(ledger: Ledger, task: str) -> None:
    works(ledger, task)
    ledger.back_to_review(task, ONE)
    ledger.reject(task, "ada", "no tests", final=True)
    assert ledger.landed(task, ONE, MAIN) is TaskState.DONE
    assert ledger.reason(task) == "rejected: no tests, but its commits had landed by then"


# -- reviews by agents


def asks(ledger: Ledger, task: str, commit: str = ONE) -> str | None:
    return ledger.ask_review(
        NewTask("judge", role="auditor", kind=TaskKind.REVIEW, about=task, about_commit=commit)
    )


def judges(
    ledger: Ledger, review: str | None, answer: object, way: Way = AGENTS, **more: object
) -> TaskState | None:
    assert review is not None
    fence = begun(ledger, review, AUDITOR, AUDITOR_ID)
    text = answer if isinstance(answer, str) else json.dumps(answer)
    finished = Finished(review, fence, Outcome.SUCCEEDED, review=text, **more)  # type: ignore[arg-type]
    return ledger.finish(finished, AUDITOR, way=way).state


def test_a_review_of_what_has_moved_on_is_not_tried_again(ledger: Ledger, task: str) -> None:
    works(ledger, task, way=AGENTS)
    review = asks(ledger, task)
    assert review is not None
    assert judges(ledger, review, "nonsense") is TaskState.FAILED
    ledger.retry(review)
    assert judges(ledger, review, "nonsense") is TaskState.FAILED
    ledger.approve(task, None, "ada")
    with pytest.raises(UsageError, match="moved on"):
        ledger.retry(review)
    assert state(ledger, review) is TaskState.FAILED


def test_a_review_is_asked_once_for_each_commit(ledger: Ledger, task: str) -> None:
    assert asks(ledger, task) is None, "nothing of it waits for a review"
    works(ledger, task, way=AGENTS)
    assert asks(ledger, task, TWO) is None
    review = asks(ledger, task)
    assert review is not None
    assert asks(ledger, task) is None
    assert [one.id for one in ledger.reviews(task)] == [review]
    assert review in (ledger.reason(task) or "")


@pytest.mark.parametrize("verdict", ["accept", "accept-with-follow-ups"])
def test_an_accepting_verdict_approves_that_commit(ledger: Ledger, task: str, verdict: str) -> None:
    works(ledger, task, way=AGENTS)
    answer = {"verdict": verdict, "counts": {"minor": 2}, "comments": ["nice"]}
    assert judges(ledger, asks(ledger, task), answer) is TaskState.DONE
    found = task_of(ledger, task)
    assert (found.state, found.approved) == (TaskState.LANDING, ONE)
    (said,) = ledger.remarks(task)
    assert (said.verdict, said.counts, said.author) == (verdict, {"minor": 2}, AUDITOR)


def test_needs_revision_sends_it_back_with_the_comments(ledger: Ledger, task: str) -> None:
    works(ledger, task, way=AGENTS)
    answer = {
        "verdict": "needs-revision",
        "counts": {"blocking": 1},
        "comments": [{"file": "a.py", "line": 7, "text": "off by one"}],
    }
    judges(ledger, asks(ledger, task), answer)
    assert state(ledger, task) is TaskState.QUEUED
    claimed = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    assert "a.py:7: off by one" in claimed.feedback


@pytest.mark.parametrize("moved", ["newer", "cancelled", "approved", "rejected"])
def test_a_verdict_about_what_has_moved_on_changes_nothing(
    ledger: Ledger, task: str, moved: str
) -> None:
    works(ledger, task, way=AGENTS)
    review = asks(ledger, task)
    assert review is not None
    fence = begun(ledger, review, AUDITOR, AUDITOR_ID)
    match moved:
        case "newer":
            ledger.reject(task, "person", "more")
            works(ledger, task, TWO, way=AGENTS)
        case "cancelled":
            ledger.cancel(task)
        case "approved":
            ledger.approve(task, ONE, "person")
        case _:
            ledger.reject(task, "person", "no", final=True)
    before = task_of(ledger, task)
    assert state(ledger, review) is TaskState.CANCELLED
    late = Finished(review, fence, Outcome.SUCCEEDED, review='{"verdict": "accept"}')
    ledger.finish(late, AUDITOR, way=AGENTS)
    assert task_of(ledger, task) == before


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "looks good",
        "[" * 5000,
        '"accept"',
        '{"verdict": "ACCEPT"}',
        '{"verdict": ["accept"]}',
        '{"verdict": "accept", "counts": {"blocking": 1}}',
        '{"verdict": "accept", "counts": {"minor": -1}}',
        '{"verdict": "accept", "counts": {"minor": true}}',
        '{"verdict": "accept", "counts": {"minor": 1e9}}',
        '{"verdict": "accept", "comments": [7]}',
        '{"verdict": "accept", "comments": [{"file": "x"}]}',
        json.dumps({"verdict": "accept", "comments": ["x"] * 1000}),
    ],
)
def test_what_is_no_verdict_fails_the_review_and_moves_nothing(
    ledger: Ledger, task: str, answer: str
) -> None:
    works(ledger, task, way=AGENTS)
    review = asks(ledger, task)
    assert judges(ledger, review, answer, result=answer[:4000]) is TaskState.FAILED
    assert state(ledger, task) is TaskState.REVIEW
    assert ledger.remarks(task) == []
    assert asks(ledger, task) is not None, "it can be asked for again"


def test_the_last_object_of_its_last_words_will_do(ledger: Ledger, task: str) -> None:
    works(ledger, task, way=AGENTS)
    said = 'I used {"verdict": "needs-revision"} first.\n{"verdict": "accept", "comments": "ok"} .'
    assert judges(ledger, asks(ledger, task), "", result=said) is TaskState.DONE
    assert state(ledger, task) is TaskState.LANDING


def test_a_reviews_own_commits_never_land(ledger: Ledger, task: str) -> None:
    works(ledger, task, way=AGENTS)
    review = asks(ledger, task)
    judges(ledger, review, {"verdict": "accept"}, commit=TWO, commits=3)
    assert review is not None
    found = task_of(ledger, review)
    assert (found.result, found.tip) == (TaskResult.ANSWER, None)
    assert [one.id for one in ledger.landing_queue()] == [task]

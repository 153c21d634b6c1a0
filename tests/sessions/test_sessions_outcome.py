"""The verdict on an attempt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.core.model import Outcome
from swarm.sessions import outcome as outcome_module
from swarm.sessions.model import Problem, ProblemKind, Result, Summary
from swarm.sessions.outcome import Evidence, Verdict, decide

NOW = 1_795_175_200.0
DONE = Result("did it", is_error=False)


def judged(summary: Summary | None = None, status: int | None = 0, **given: object) -> Verdict:
    evidence = Evidence(summary or Summary(result=DONE), status)
    return decide(replace(evidence, **given), NOW, 0.0)  # type: ignore[arg-type]


def troubled(kind: ProblemKind, text: str = "trouble", is_error: bool = True) -> Summary:
    return Summary(problem=Problem(kind, text), result=Result(text, is_error))


def test_success_needs_a_result_without_error_and_exit_status_0() -> None:
    assert judged() == Verdict(Outcome.SUCCEEDED, "", "did it")
    assert judged(status=3).reason == "exit status 3"
    assert judged(status=-15).reason == "killed by signal 15"
    assert judged(Summary(), 0).outcome is Outcome.FAILED
    assert judged(Summary(result=Result("no", True)), 0) == Verdict(Outcome.FAILED, "no", "no")


def test_a_cli_that_tells_no_result_is_judged_by_its_exit_status() -> None:
    plain = Summary(raw_tail="first\nlast line")
    assert judged(plain, 0, tells_result=False) == Verdict(
        Outcome.SUCCEEDED, "", "first\nlast line"
    )
    found = judged(plain, 2, tells_result=False)
    assert (found.outcome, found.reason) == (Outcome.FAILED, "exit status 2: last line")


def test_a_program_that_is_missing_is_named() -> None:
    found = judged(Summary(), None, could_not_start="codex: not found on PATH")
    assert found == Verdict(Outcome.FAILED, "codex: not found on PATH")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ProblemKind.QUOTA, Outcome.QUOTA),
        (ProblemKind.OVERFLOW, Outcome.OVERFLOW),
        (ProblemKind.SERVER, Outcome.FAILED),
        (ProblemKind.OTHER, Outcome.FAILED),
    ],
)
@pytest.mark.parametrize("status", [0, 1, -9])
def test_trouble_decides_whatever_the_exit_status(
    kind: ProblemKind, expected: Outcome, status: int
) -> None:
    assert judged(troubled(kind), status).outcome is expected


def test_denied_even_when_it_says_all_is_well() -> None:
    summary = Summary(result=DONE, denied="Bash was refused")
    assert judged(summary) == Verdict(Outcome.DENIED, "Bash was refused", "did it")
    assert judged(summary, 1).outcome is Outcome.DENIED
    over = replace(troubled(ProblemKind.QUOTA), denied="Bash was refused")
    assert judged(over, 1).outcome is Outcome.QUOTA


@pytest.mark.parametrize(
    "ended_by",
    [o for o in Outcome if o not in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.DENIED)],
)
def test_what_we_ended_has_the_outcome_we_ended_it_for(ended_by: Outcome) -> None:
    found = judged(Summary(), -15, ended_by=ended_by, end_reason="because")
    assert found.outcome is ended_by
    assert found.reason == "because"


@pytest.mark.parametrize("ended_by", [Outcome.TIMED_OUT, Outcome.STALLED])
def test_waiting_on_a_quota_is_quota_not_a_stall(ended_by: Outcome) -> None:
    summary = Summary(problem=Problem(ProblemKind.QUOTA, "limit, try again in 60 seconds"))
    found = judged(summary, -15, ended_by=ended_by, end_reason="30 minutes passed")
    assert (found.outcome, found.retry_at) == (Outcome.QUOTA, NOW + 60)
    assert judged(summary, -15, ended_by=Outcome.CANCELLED).outcome is Outcome.CANCELLED


def test_a_quotas_time_comes_from_the_stream_or_else_from_its_words() -> None:
    exact = Problem(ProblemKind.QUOTA, "try again in 60 seconds", reset_at=NOW + 5)
    assert judged(Summary(problem=exact), 1).retry_at == NOW + 5
    past = replace(exact, reset_at=NOW - 5)
    assert judged(Summary(problem=past), 1).retry_at == NOW + 60
    silent = Problem(ProblemKind.QUOTA, "limit")
    assert judged(Summary(problem=silent), 1).retry_at is None


def test_a_question_left_waits_for_a_person() -> None:
    found = judged(question="  Which\ncolour?\n")
    assert (found.needs_human, found.reason) == (True, "Which\ncolour?")
    assert judged(Summary(), 1, question="why?").needs_human
    assert not judged(question=" \n").needs_human
    assert not judged(troubled(ProblemKind.QUOTA), 1, question="why?").needs_human
    assert not judged(ended_by=Outcome.CANCELLED, question="why?").needs_human


def test_commits_of_a_failed_attempt_are_named() -> None:
    assert judged(status=1, commits=2).reason == "exit status 1 (2 commits kept)"
    assert judged(commits=2).reason == ""


summaries = st.builds(
    Summary,
    result=st.none() | st.builds(Result, st.text(max_size=9), st.booleans()),
    problem=st.none() | st.builds(Problem, st.sampled_from(ProblemKind), st.text(max_size=9)),
    denied=st.text(max_size=5),
    raw_tail=st.text(max_size=20),
)
evidences = st.builds(
    Evidence,
    summaries,
    st.none() | st.integers(-31, 255),
    st.booleans(),
    question=st.text(max_size=5),
    ended_by=st.none() | st.sampled_from(Outcome),
    commits=st.integers(0, 3),
)


def success_is_earned(evidence: Evidence) -> bool:
    """Nothing but exit status 0, and a good result where one is told, is success."""
    found = decide(evidence, NOW, 0.0)
    if found.outcome is not Outcome.SUCCEEDED or evidence.ended_by is not None:
        return True
    told = evidence.summary.result
    good = told is not None and not told.is_error
    return evidence.exit_status == 0 and (good or (told is None and not evidence.tells_result))


@given(evidences)
def test_success_is_earned(evidence: Evidence) -> None:
    assert success_is_earned(evidence)


@given(evidences)
def test_reasons_are_one_line_unless_they_are_questions(evidence: Evidence) -> None:
    found = decide(evidence, NOW, 0.0)
    assert found.needs_human or "\n" not in found.reason


def test_the_property_catches_exit_0_taken_for_success(monkeypatch: pytest.MonkeyPatch) -> None:
    real = outcome_module._outcome

    def gullible(evidence: Evidence) -> tuple[Outcome, str]:
        return (Outcome.SUCCEEDED, "") if evidence.exit_status == 0 else real(evidence)

    monkeypatch.setattr(outcome_module, "_outcome", gullible)
    assert not success_is_earned(Evidence(Summary(result=Result("no", True)), 0))
    assert not success_is_earned(Evidence(Summary(), 0))


def test_the_property_catches_a_result_believed_without_the_exit_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = outcome_module._outcome

    def gullible(evidence: Evidence) -> tuple[Outcome, str]:
        told = evidence.summary.result
        good = told is not None and not told.is_error
        return (Outcome.SUCCEEDED, "") if good else real(evidence)

    monkeypatch.setattr(outcome_module, "_outcome", gullible)
    assert not success_is_earned(Evidence(Summary(result=DONE), 1))


@pytest.mark.parametrize(
    "words",
    [
        "No conversation found with session ID: 11111111-2222",
        "Error: thread/resume failed: no rollout found for thread id 01a1",
        "Session not found: ses_e06d",
    ],
)
def test_a_session_that_is_gone_is_no_failure_of_who_was_to_go_on_with_it(words: str) -> None:
    """The next attempt starts afresh; only where a session was to be resumed, and nothing said."""
    told = Summary(session_id="s-1", result=Result(words, True))
    found = judged(told, 1, resumed=True)
    assert found.outcome is Outcome.LOST
    assert found.session_gone
    assert judged(told, 1).outcome is Outcome.FAILED
    assert judged(replace(told, tool_calls=1), 1, resumed=True).outcome is Outcome.FAILED
    assert not judged(Summary(result=Result("no", True)), 1, resumed=True).session_gone

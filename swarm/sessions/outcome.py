"""How an attempt ended, decided from evidence: the event stream, then the exit status, then git.

An exit status of 0 is not success by itself, nor is a result that says so (architecture,
"Work"; rules, "Outcomes"): both must hold, and a CLI that tells its result must have told it.
"""

from __future__ import annotations

from dataclasses import dataclass

from swarm.core.model import Outcome
from swarm.sessions.model import Problem, ProblemKind, Summary, one_line, shortened
from swarm.sessions.reset import reset_time
from swarm.sessions.trouble import session_is_gone

MAX_REASON = 300
"""Characters of a reason: one line in a table or a chat message."""

MAX_RESULT = 4_000
"""Characters of the result that are kept (``wire.lifeline.Finished``)."""

SESSION_GONE = "the CLI has its earlier session no more"
MAX_QUESTION = 2_000
"""Characters of a question asked of a person."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a session that has ended."""

    summary: Summary
    exit_status: int | None
    """The CLI's exit status; negative is the signal that ended it; ``None``: it never ran."""
    tells_result: bool = True
    """The adapter's word: a run without a result was cut short."""
    could_not_start: str = ""
    """Why it never ran: a missing program, a failed checkout."""
    question: str = ""
    """What ``out/<task>/needs_human.md`` holds."""
    ended_by: Outcome | None = None
    """Why *we* ended it, when we did."""
    end_reason: str = ""
    commits: int = 0
    """Commits on the task's branch: named in the reason, as work that is kept."""
    resumed: bool = False
    """It was to go on with an earlier session of the CLI."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What goes into the report."""

    outcome: Outcome
    reason: str = ""
    """One line; empty for a plain success."""
    result: str = ""
    needs_human: bool = False
    """A question waits; ``reason`` holds it."""
    retry_at: float | None = None
    """Unix seconds at which a quota ends, when the provider said."""

    @property
    def session_gone(self) -> bool:
        """The session it was to go on with is there no more: none is to be resumed."""
        return self.outcome is Outcome.LOST and self.reason.startswith(SESSION_GONE)


def decide(evidence: Evidence, now: float, utc_offset: float) -> Verdict:
    """The verdict on an attempt.

    ``now`` is Unix seconds and ``utc_offset`` the local zone's seconds east of UTC: a quota's
    reset time may be told without a zone.
    """
    outcome, reason = _outcome(evidence)
    result = _result(evidence)
    if outcome is Outcome.QUOTA:
        return Verdict(outcome, reason, result, retry_at=_retry_at(evidence, now, utc_offset))
    if evidence.question.strip() and outcome in _MAY_ASK:
        question = shortened(evidence.question.strip(), MAX_QUESTION)
        return Verdict(outcome, question, result, needs_human=True)
    return Verdict(outcome, _with_commits(outcome, reason, evidence.commits), result)


_MAY_ASK = frozenset(
    {
        Outcome.SUCCEEDED,
        Outcome.FAILED,
        Outcome.DENIED,
        Outcome.TIMED_OUT,
        Outcome.STALLED,
        Outcome.OVERFLOW,
    }
)
"""Ends after which a question left behind is put to a person; after the others the task goes on
or is over, whatever was asked."""

_WAITED = frozenset({Outcome.TIMED_OUT, Outcome.STALLED})


def _outcome(evidence: Evidence) -> tuple[Outcome, str]:
    summary = evidence.summary
    trouble = summary.problem
    if evidence.could_not_start:
        return Outcome.FAILED, _line(evidence.could_not_start)
    if evidence.ended_by is not None:
        if evidence.ended_by in _WAITED and _is_quota(trouble):
            # It did nothing because it was retrying a quota, which two CLIs do for ever.
            return Outcome.QUOTA, _problem_line(trouble)
        return evidence.ended_by, _line(evidence.end_reason or _last_trouble(evidence))
    told = summary.result
    if told is not None and not told.is_error and evidence.exit_status == 0:
        return (
            (Outcome.DENIED, _line(summary.denied)) if summary.denied else (Outcome.SUCCEEDED, "")
        )
    if trouble is not None and trouble.kind in _BY_KIND:
        return _BY_KIND[trouble.kind], _problem_line(trouble)
    if summary.denied:
        return Outcome.DENIED, _line(summary.denied)
    if told is None and not evidence.tells_result and evidence.exit_status == 0:
        return Outcome.SUCCEEDED, ""
    why = _why_failed(evidence)
    if _session_gone(evidence, why):
        # Nothing was tried, so nothing has failed: the next attempt starts afresh.
        return Outcome.LOST, _line(f"{SESSION_GONE}: {why}")
    return Outcome.FAILED, _line(why)


def _session_gone(evidence: Evidence, why: str) -> bool:
    summary = evidence.summary
    idle = not (summary.tool_calls or summary.last_text or summary.denied)
    return evidence.resumed and idle and session_is_gone(why)


_BY_KIND = {ProblemKind.QUOTA: Outcome.QUOTA, ProblemKind.OVERFLOW: Outcome.OVERFLOW}


def _is_quota(problem: Problem | None) -> bool:
    return problem is not None and problem.kind is ProblemKind.QUOTA


def _why_failed(evidence: Evidence) -> str:
    told, status = evidence.summary.result, evidence.exit_status
    said = told.text if told is not None and told.is_error else _last_trouble(evidence)
    if status is None:
        return said or "the session's end was not seen"
    if status < 0:
        return f"killed by signal {-status}" + (f": {said}" if said else "")
    if told is not None and told.is_error:
        return said or "the agent says it failed"
    if status != 0:
        return f"exit status {status}" + (f": {said}" if said else "")
    return "exit status 0, but no result was told" + (f": {said}" if said else "")


def _last_trouble(evidence: Evidence) -> str:
    """The words nearest to what went wrong."""
    summary = evidence.summary
    if summary.problem is not None:
        return summary.problem.text
    for tail in (summary.notes_tail, summary.raw_tail):
        lines = tail.strip().splitlines()
        if lines:
            return lines[-1]
    return ""


def _result(evidence: Evidence) -> str:
    """What the session said last."""
    summary = evidence.summary
    said = summary.result.text if summary.result is not None else ""
    return shortened((said or summary.last_text or summary.raw_tail).strip(), MAX_RESULT)


def _retry_at(evidence: Evidence, now: float, utc_offset: float) -> float | None:
    problem, told = evidence.summary.problem, evidence.summary.result
    if problem is not None and problem.reset_at is not None and problem.reset_at > now:
        return problem.reset_at
    for text in (problem.text if problem else "", told.text if told else "", evidence.end_reason):
        if (found := reset_time(text, now, utc_offset)) is not None:
            return found
    return None


def _problem_line(problem: Problem | None) -> str:
    return _line(problem.text) if problem is not None else ""


def _with_commits(outcome: Outcome, reason: str, commits: int) -> str:
    if outcome is Outcome.SUCCEEDED or commits < 1 or not reason:
        return reason
    kept = f"{commits} commit{'s' if commits > 1 else ''} kept"
    return f"{shortened(reason, MAX_REASON - len(kept) - 3)} ({kept})"


def _line(text: str) -> str:
    return one_line(text, MAX_REASON)

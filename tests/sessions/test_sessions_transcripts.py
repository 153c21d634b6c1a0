"""Recorded runs of real CLIs, read to the end: events, summary and verdict."""

from __future__ import annotations

from calendar import timegm
from pathlib import Path

import pytest

from swarm.core.model import Outcome, Usage
from swarm.sessions.model import Problem, ProblemKind, SessionEvent, Summary, ToolCall
from swarm.sessions.outcome import Evidence, Verdict, decide
from swarm.sessions.registry import adapter

TRANSCRIPTS = Path(__file__).parents[1] / "transcripts"
NOW = float(timegm((2026, 11, 20, 11, 46, 40)))


def read(name: str) -> tuple[list[SessionEvent], Summary]:
    parser = adapter(name.partition("-")[0]).parser()
    events = parser.feed((TRANSCRIPTS / f"{name}.jsonl").read_bytes()) + parser.finish()
    summary = Summary()
    for event in events:
        summary = summary.heard(event)
    return events, summary


def verdict(summary: Summary, status: int | None, ended_by: Outcome | None = None) -> Verdict:
    return decide(Evidence(summary, status, ended_by=ended_by), NOW, utc_offset=0.0)


@pytest.mark.parametrize(
    ("name", "session", "usage", "cost"),
    [
        (
            "claude-success",
            "2907b0c9-2791-4cc0-ae0d-040dc4bb4a43",
            Usage(2400, 68, cache_read_tokens=14, cache_write_tokens=10),
            0.013769499999999999,
        ),
        (
            "codex-success",
            "01a1f8c8-f0ba-7c01-a66c-07396db1fc74",
            Usage(2400, 68, cache_read_tokens=14, cache_write_tokens=0),
            None,
        ),
        (
            "opencode-success",
            "ses_e0735c9fcffeVbFc9zTfyT5WLf",
            Usage(2400, 68, cache_read_tokens=0, cache_write_tokens=0),
            None,  # it says 0, which is a model without a price
        ),
    ],
)
def test_a_success_tells_session_usage_cost_and_result(
    name: str, session: str, usage: Usage, cost: float | None
) -> None:
    events, summary = read(name)
    assert summary.session_id == session
    assert summary.usage == usage
    assert summary.cost_usd == cost
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert len(calls) == 1
    assert "made by the session" in calls[0].summary
    assert verdict(summary, 0) == Verdict(
        Outcome.SUCCEEDED, "", "Done: wrote made.txt and committed it."
    )


@pytest.mark.parametrize("name", ["claude-success", "codex-success", "opencode-success"])
def test_a_told_success_is_none_with_another_exit_status(name: str) -> None:
    _, summary = read(name)
    assert verdict(summary, 1).outcome is Outcome.FAILED
    assert verdict(summary, -9).reason.startswith("killed by signal 9")


@pytest.mark.parametrize("name", ["claude-success", "codex-success", "opencode-success"])
def test_a_stream_cut_short_is_none_either(name: str) -> None:
    parser = adapter(name.partition("-")[0]).parser()
    lines = (TRANSCRIPTS / f"{name}.jsonl").read_bytes().splitlines(keepends=True)
    summary = Summary()
    for event in parser.feed(b"".join(lines[:-1])) + parser.finish():
        summary = summary.heard(event)
    found = verdict(summary, 0)
    assert found.outcome is Outcome.FAILED
    assert "no result" in found.reason


def test_a_usage_limit_is_quota_with_its_local_reset_time() -> None:
    _, summary = read("claude-quota-429")
    found = verdict(summary, 1)
    assert found.outcome is Outcome.QUOTA
    assert found.retry_at == timegm((2026, 11, 20, 17, 0, 0))
    east = decide(Evidence(summary, 1), NOW, utc_offset=3600.0)
    assert east.retry_at == timegm((2026, 11, 20, 16, 0, 0))


def test_a_quota_with_exit_status_0_is_still_quota() -> None:
    _, summary = read("claude-quota-429")
    assert verdict(summary, 0).outcome is Outcome.QUOTA


@pytest.mark.parametrize("name", ["claude-context-overflow", "codex-context-overflow"])
def test_an_overflow_is_told_as_such(name: str) -> None:
    _, summary = read(name)
    found = verdict(summary, 1)
    assert found.outcome is Outcome.OVERFLOW
    assert "rompt is too long" in found.reason


def test_codex_retrying_a_quota_may_be_ended_at_once() -> None:
    events, summary = read("codex-429-retrying-killed")
    problems = [event for event in events if isinstance(event, Problem)]
    assert [problem.kind for problem in problems] == [ProblemKind.QUOTA]
    assert problems[-1].fatal
    assert verdict(summary, -15, ended_by=Outcome.QUOTA).outcome is Outcome.QUOTA
    assert verdict(summary, -9).outcome is Outcome.QUOTA
    assert verdict(summary, -15, ended_by=Outcome.TIMED_OUT).outcome is Outcome.QUOTA


def test_server_errors_are_retried_and_then_a_failure_with_no_cost_known() -> None:
    events, summary = read("claude-api-500-retrying-killed")
    problems = [event for event in events if isinstance(event, Problem)]
    assert len(problems) == 7
    assert not any(problem.fatal for problem in problems)
    assert summary.cost_usd is None
    assert summary.usage == Usage()
    found = verdict(summary, -9)
    assert found.outcome is Outcome.FAILED
    assert "server_error (500)" in found.reason
    assert verdict(summary, -9, ended_by=Outcome.TIMED_OUT).outcome is Outcome.TIMED_OUT

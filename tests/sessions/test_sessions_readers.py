"""What each CLI's records mean, beyond the recordings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swarm.core.model import Usage
from swarm.sessions.claude import MAX_MESSAGES
from swarm.sessions.model import (
    Note,
    Problem,
    ProblemKind,
    Result,
    SessionEvent,
    SessionStarted,
    Spend,
    Summary,
    Text,
    ToolCall,
)
from swarm.sessions.registry import adapter


def events(name: str, *records: Any, before: Usage | None = None) -> list[SessionEvent]:
    parser = adapter(name).parser(before or Usage())
    data = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    return parser.feed(data) + parser.finish()


def message(message_id: str, *content: Any, tokens: int = 10, **extra: Any) -> dict[str, Any]:
    usage = {"input_tokens": tokens, "output_tokens": 1}
    return {
        "type": "assistant",
        "message": {"id": message_id, "content": list(content), "usage": usage},
        **extra,
    }


# -- claude ---------------------------------------------------------------------------------------


def test_claude_counts_a_messages_usage_once_however_often_it_is_printed() -> None:
    found = events(
        "claude",
        message("m1", {"type": "text", "text": "a"}),
        message("m1", {"type": "tool_use", "name": "Bash", "input": {"command": "ls\n -l"}}),
        message("m2", {"type": "text", "text": "b"}, tokens=5),
    )
    spends = [event.usage.input_tokens for event in found if isinstance(event, Spend)]
    assert spends == [10, 10, 15]
    assert ToolCall("Bash", "ls -l") in found


def test_claude_remembers_only_so_many_messages_and_still_counts_all() -> None:
    count = MAX_MESSAGES + 10
    found = events("claude", *(message(f"m{n}") for n in range(count)))
    last = found[-1]
    assert isinstance(last, Spend)
    assert last.usage.input_tokens == count * 10


def retry(status: int, attempt: int, delay_ms: float = 500.0) -> dict[str, Any]:
    return {
        "type": "system",
        "subtype": "api_retry",
        "attempt": attempt,
        "retry_delay_ms": delay_ms,
        "error_status": status,
        "error": "rate_limit" if status == 429 else "server_error",
    }


@pytest.mark.parametrize(
    ("record", "kind", "fatal"),
    [
        (retry(429, 1), ProblemKind.QUOTA, False),
        (retry(429, 4), ProblemKind.QUOTA, True),
        (retry(429, 1, 60_000.0), ProblemKind.QUOTA, True),
        (retry(500, 9, 60_000.0), ProblemKind.SERVER, False),
        (retry(529, 2), ProblemKind.SERVER, False),
    ],
)
def test_claude_retries_of_a_quota_become_hopeless(
    record: dict[str, Any], kind: ProblemKind, fatal: bool
) -> None:
    (problem,) = events("claude", record)
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.fatal) == (kind, fatal)


def test_claude_rate_limit_event_counts_only_when_rejected() -> None:
    def info(**given: Any) -> dict[str, Any]:
        return {"type": "rate_limit_event", "rate_limit_info": given}

    assert events("claude", info(status="allowed_warning", resetsAt=1795175196)) == []
    assert events("claude", info(status="rejected", isUsingOverage=True)) == []
    (problem,) = events(
        "claude", info(status="rejected", resetsAt=1795175196, rateLimitType="five_hour")
    )
    assert isinstance(problem, Problem)
    assert problem.kind is ProblemKind.QUOTA
    assert problem.reset_at == 1795175196
    assert "five_hour" in problem.text


def test_claude_permission_denials_are_told_before_the_result() -> None:
    denial = {"tool_name": "Write", "tool_input": {"file_path": "/etc/passwd"}}
    found = events(
        "claude",
        {
            "type": "result",
            "subtype": "success",
            "is_error": False,
            "result": "could not",
            "permission_denials": [denial],
        },
    )
    assert found == [
        Problem(ProblemKind.DENIED, "Write was refused: /etc/passwd"),
        Result("could not", is_error=False),
    ]


@pytest.mark.parametrize(
    "record",
    [
        {"subtype": "error_max_turns", "is_error": False},
        {"subtype": "error_during_execution", "is_error": True, "errors": ["broke"]},
        {"subtype": "success", "is_error": True, "result": "x"},
        {"subtype": "success", "result": "no word on errors"},
        {},
    ],
)
def test_claude_a_result_is_an_error_unless_it_says_twice_that_it_is_none(
    record: dict[str, Any],
) -> None:
    last = events("claude", {"type": "result", **record})[-1]
    assert isinstance(last, Result)
    assert last.is_error


@pytest.mark.parametrize("cost", ["1.5", True, -1, None, 1e300])
def test_claude_a_cost_that_is_no_number_of_dollars_is_unknown(cost: object) -> None:
    record = {"type": "result", "usage": {"input_tokens": 3}, "total_cost_usd": cost}
    spend = events("claude", record)[0]
    assert spend == Spend(Usage(input_tokens=3), None)


def test_claude_talk_about_rate_limits_is_no_problem() -> None:
    found = events("claude", message("m", {"type": "text", "text": "429 rate limit, quota"}))
    assert not any(isinstance(event, Problem) for event in found)


# -- codex ----------------------------------------------------------------------------------------


def test_codex_takes_off_what_earlier_runs_of_the_thread_used() -> None:
    usage = {"input_tokens": 4800, "cached_input_tokens": 28, "output_tokens": 136}
    found = events(
        "codex",
        {"type": "turn.completed", "usage": usage},
        before=Usage(2400, 68, cache_read_tokens=14),
    )
    assert found[0] == Spend(Usage(2400, 68, cache_read_tokens=14))
    fresh = events(
        "codex", {"type": "turn.completed", "usage": usage}, before=Usage(9000, 9000, 9000)
    )
    assert fresh[0] == Spend(Usage(4800, 136, cache_read_tokens=28))


def item(event: str, **given: Any) -> dict[str, Any]:
    return {"type": f"item.{event}", "item": {"id": "item_1", **given}}


def test_codex_tells_a_command_once_and_a_declined_one_as_denied() -> None:
    command = {"type": "command_execution", "command": "rm -rf /"}
    found = events(
        "codex",
        item("started", **command, status="in_progress"),
        item("completed", **command, status="declined"),
    )
    assert found == [
        ToolCall("command_execution", "rm -rf /"),
        Problem(ProblemKind.DENIED, "command_execution was refused: rm -rf /"),
    ]


def test_codex_file_changes_warnings_and_thoughts() -> None:
    changes = [{"path": "a.py", "kind": "add"}, {"path": "b.py", "kind": "update"}, 7]
    assert events(
        "codex",
        item("completed", type="file_change", changes=changes, status="completed"),
        item("completed", type="error", message="careful"),
        item("completed", type="reasoning", text="hm"),
        item("completed", type="agent_message", text="done"),
        {"type": "turn.completed"},
    ) == [
        ToolCall("file_change", "a.py, b.py"),
        Note("careful"),
        Text("done"),
        Result("done", is_error=False),
    ]


@pytest.mark.parametrize(
    ("text", "kind", "fatal"),
    [
        ("Reconnecting... 1/5 (stream disconnected before completion)", ProblemKind.SERVER, False),
        ("exceeded retry limit, last status: 429 Too Many Requests", ProblemKind.QUOTA, True),
        ("You've hit your usage limit. Try again in 3 days", ProblemKind.QUOTA, True),
        ("Rate limit reached, retrying", ProblemKind.QUOTA, False),
        ("exceeded retry limit, last status: 503 Service Unavailable", ProblemKind.SERVER, False),
        ("Codex ran out of room in the model's context window.", ProblemKind.OVERFLOW, False),
    ],
)
def test_codex_errors(text: str, kind: ProblemKind, fatal: bool) -> None:
    assert events("codex", {"type": "error", "message": text}) == [Problem(kind, text, fatal)]


# -- opencode -------------------------------------------------------------------------------------


def step(reason: str, cost: object = 0.25) -> dict[str, Any]:
    tokens = {"input": 10, "output": 2, "cache": {"read": 1, "write": 0}}
    return {"type": "step_finish", "part": {"reason": reason, "tokens": tokens, "cost": cost}}


def test_opencode_sums_its_steps_and_ends_with_the_last_words() -> None:
    found = events(
        "opencode",
        {"type": "step_start", "sessionID": "ses_1"},
        step("tool-calls"),
        {"type": "text", "sessionID": "ses_1", "part": {"text": "all done"}},
        step("stop", cost=None),
    )
    assert found == [
        SessionStarted("ses_1"),
        Spend(Usage(10, 2, 1, 0), 0.25),
        Text("all done"),
        Spend(Usage(20, 4, 2, 0), 0.25),
        Result("all done", is_error=False),
    ]


def test_opencode_an_answer_that_broke_off_is_an_error() -> None:
    assert isinstance(last := events("opencode", step("length"))[-1], Result)
    assert last.is_error


def test_opencode_errors_by_name_and_status() -> None:
    def error(name: str, **data: Any) -> SessionEvent:
        return events("opencode", {"type": "error", "error": {"name": name, "data": data}})[0]

    overflow = error("ContextOverflowError", message="prompt is too long: 250000 tokens")
    assert isinstance(overflow, Problem)
    assert overflow.kind is ProblemKind.OVERFLOW
    quota = error("APIError", message="slow down", statusCode=429)
    assert isinstance(quota, Problem)
    assert quota.kind is ProblemKind.QUOTA
    unnamed = error("UnknownError")
    assert isinstance(unnamed, Problem)
    assert unnamed.text == "UnknownError"


def test_opencode_a_quota_told_only_in_the_log_becomes_hopeless() -> None:
    line = (
        b'timestamp=2026-11-20T13:32:13Z level=ERROR run=6c message="stream error"'
        b" providerID=x modelID=y session.id=ses_1 small=false agent=build mode=primary"
        b' error.error="AI_APICallError: You have hit your usage limit. Resets at 5pm"\n'
    )
    parser = adapter("opencode").parser()
    parser.feed_stderr(line.replace(b"small=false", b"small=true"))
    fatal = [
        event.fatal
        for _ in range(3)
        for event in parser.feed_stderr(line)
        if isinstance(event, Problem)
    ]
    assert fatal == [False, False, True]


def test_opencode_a_rejected_permission_is_denied() -> None:
    part = {
        "tool": "bash",
        "state": {
            "status": "error",
            "input": {"command": "ls /root"},
            "error": "The user rejected permission to use this specific tool call.",
        },
    }
    assert events("opencode", {"type": "tool_use", "part": part}) == [
        ToolCall("bash", "ls /root"),
        Problem(ProblemKind.DENIED, "bash was refused: ls /root"),
    ]


# -- command --------------------------------------------------------------------------------------


def test_command_plain_objects() -> None:
    assert events(
        "command",
        {"session_id": "s1", "text": "working"},
        {"usage": {"input_tokens": 5, "output_tokens": 1}, "cost_usd": 0.5},
        {"error": "429 too many requests"},
        {"result": "no luck", "is_error": True},
    ) == [
        SessionStarted("s1"),
        Text("working"),
        Spend(Usage(5, 1), 0.5),
        Problem(ProblemKind.QUOTA, "429 too many requests"),
        Problem(ProblemKind.OTHER, "no luck"),
        Result("no luck", is_error=True),
    ]


def test_command_understands_claude_s_stream_too() -> None:
    found = events(
        "command",
        {"type": "system", "subtype": "init", "session_id": "s1"},
        {"type": "result", "subtype": "success", "is_error": False, "result": "ok"},
    )
    assert found == [SessionStarted("s1"), Result("ok", is_error=False)]


def test_the_summary_keeps_the_weightier_problem_and_forgets_it_when_work_goes_on() -> None:
    quota = Problem(ProblemKind.QUOTA, "limit", reset_at=5.0)
    vague = Problem(ProblemKind.OTHER, "hm")
    assert Summary().heard(quota).heard(vague).problem == quota
    assert Summary().heard(vague).heard(quota).problem == quota
    again = Summary().heard(quota).heard(Problem(ProblemKind.QUOTA, "still")).problem
    assert again == Problem(ProblemKind.QUOTA, "still", reset_at=5.0)
    assert Summary().heard(quota).heard(ToolCall("Bash")).problem is None
    assert Summary().heard(quota).heard(Text("{", raw=True)).problem == quota
    assert Summary().heard(quota).heard(Result("", is_error=True)).problem == quota
    assert Summary().heard(quota).heard(Result("", is_error=False)).problem is None

"""Claude Code: ``claude -p`` with its ``stream-json`` output (recorded with 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.core.model import Usage
from swarm.sessions.launching import argv_of, inline_prompt, person_state
from swarm.sessions.model import (
    NOTHING,
    Launch,
    LaunchRequest,
    Problem,
    ProblemKind,
    Result,
    SessionEvent,
    SessionStarted,
    Spend,
    Text,
    ToolCall,
    one_line,
    shortened,
)
from swarm.sessions.records import at, count_at, items_at, number_at, text_at
from swarm.sessions.stream import LineParser, Reader
from swarm.sessions.trouble import kind_of

MAX_MESSAGES = 64
"""Messages whose usage is remembered one by one; of older ones, which no line repeats, the sum."""

HOPELESS_ATTEMPT = 4
"""A rate limit that was retried this often in a row, or whose next retry is
:data:`HOPELESS_DELAY_MS` away, is a quota: the CLI would go on for minutes, a slot held."""

HOPELESS_DELAY_MS = 30_000


@dataclass(frozen=True, slots=True)
class Claude:
    """The adapter."""

    name: str = "claude"
    tells_result: bool = True

    def launch(self, request: LaunchRequest) -> Launch:
        """``claude -p … -- PROMPT``; its state lies in ``CLAUDE_CONFIG_DIR``."""
        prompt, files = inline_prompt(request)
        options = ["-p", "--output-format", "stream-json", "--verbose"]
        # The results' directory lies outside the working directory; without this, writing there
        # is refused where permissions are not bypassed.
        options += ["--add-dir", request.out_dir]
        if request.input_dir:
            options += ["--add-dir", request.input_dir]
        if request.model:
            options += ["--model", request.model]
        if request.resume_session:
            options += ["--resume", request.resume_session]
        env = {
            # A session of a fleet must not replace the program under its siblings.
            "DISABLE_AUTOUPDATER": "1",
        }
        if request.bypass_permissions:
            options.append("--dangerously-skip-permissions")
            # As root it refuses that option unless told it is in a sandbox (recorded).
            env["IS_SANDBOX"] = "1"
        state = person_state(
            request, "CLAUDE_CONFIG_DIR", "claude", ".claude", logins=(".credentials.json",)
        )
        return Launch(
            argv=argv_of(request.runtime, *options, "--", prompt),
            env={**env, **state.env},
            directories=state.directories,
            files=files,
            links=state.links,
            read_paths=(*state.read_paths, *files),
            write_paths=state.write_paths,
        )

    def parser(self, before: Usage = NOTHING) -> LineParser:  # noqa: ARG002 - the port's
        """A parser for one run; its totals are of this run alone (tried), ``before`` or not."""
        return LineParser(ClaudeReader())


class ClaudeReader(Reader):
    """Reads ``stream-json`` records: ``system``, ``assistant``, ``rate_limit_event``, ``result``.

    An assistant message is printed once for each of its content blocks, each time with the usage
    of the whole message: usage counts once a message id.
    """

    def __init__(self) -> None:
        self._by_message: dict[str, Usage] = {}
        self._older = Usage()

    def read(self, record: dict[str, object]) -> list[SessionEvent]:
        """The events of one record."""
        match record.get("type"):
            case "system":
                return self._system(record)
            case "assistant":
                return self._assistant(record)
            case "rate_limit_event":
                return _rate_limit(record)
            case "result":
                return _result(record)
            case _:
                return []

    def _system(self, record: dict[str, object]) -> list[SessionEvent]:
        if record.get("subtype") == "init":
            session_id = text_at(record, "session_id")
            return [SessionStarted(session_id[:200])] if session_id else []
        if record.get("subtype") == "api_retry":
            return [_retry(record)]
        return []

    def _assistant(self, record: dict[str, object]) -> list[SessionEvent]:
        events: list[SessionEvent] = []
        failed = text_at(record, "error")
        for block in items_at(record, "message", "content"):
            match block.get("type"):
                case "text" if failed:
                    said = text_at(block, "text")
                    events.append(Problem(_named(failed, said), shortened(said)))
                case "text":
                    events.append(Text(shortened(text_at(block, "text"))))
                case "tool_use":
                    name = one_line(text_at(block, "name"), 80)
                    events.append(ToolCall(name, _tool_summary(block.get("input"))))
        usage = at(record, "message", "usage")
        message_id = text_at(record, "message", "id")
        if isinstance(usage, dict) and message_id and not failed:
            events.append(self._spend(message_id[:200], _usage(usage)))
        return events

    def _spend(self, message_id: str, usage: Usage) -> Spend:
        if message_id not in self._by_message and len(self._by_message) >= MAX_MESSAGES:
            oldest = next(iter(self._by_message))
            self._older = self._older.plus(self._by_message.pop(oldest))
        self._by_message[message_id] = usage
        total = self._older
        for one in self._by_message.values():
            total = total.plus(one)
        return Spend(total)


def _usage(usage: object) -> Usage:
    return Usage(
        input_tokens=count_at(usage, "input_tokens"),
        output_tokens=count_at(usage, "output_tokens"),
        cache_read_tokens=count_at(usage, "cache_read_input_tokens"),
        cache_write_tokens=count_at(usage, "cache_creation_input_tokens"),
    )


def _named(error: str, text: str) -> ProblemKind:
    """The kind of the error that the CLI names ``error`` and words as ``text``."""
    return ProblemKind.QUOTA if error == "rate_limit" else kind_of(text)


def _retry(record: dict[str, object]) -> Problem:
    status = count_at(record, "error_status")
    error = text_at(record, "error")
    attempt = count_at(record, "attempt") or 0
    delay = number_at(record, "retry_delay_ms") or 0.0
    kind = _named(error, error) if status is None else kind_of(error, status)
    said = one_line(f"{error or 'an error'}{f' ({status})' if status else ''}")
    return Problem(
        kind,
        f"the provider answers {said}; retry {attempt}, {delay / 1000:.0f} s later",
        fatal=kind is ProblemKind.QUOTA
        and (attempt >= HOPELESS_ATTEMPT or delay >= HOPELESS_DELAY_MS),
    )


def _rate_limit(record: dict[str, object]) -> list[SessionEvent]:
    """A subscription's limit: only ``rejected`` without paid overage stops the work."""
    info = record.get("rate_limit_info")
    if text_at(info, "status") != "rejected" or at(info, "isUsingOverage") is True:
        return []
    which = one_line(text_at(info, "rateLimitType") or "usage", 40)
    return [
        Problem(
            ProblemKind.QUOTA,
            f"the {which} limit is reached",
            reset_at=number_at(info, "resetsAt"),
        )
    ]


def _result(record: dict[str, object]) -> list[SessionEvent]:
    events: list[SessionEvent] = []
    session_id = text_at(record, "session_id")
    if session_id:
        events.append(SessionStarted(session_id[:200]))
    if isinstance(record.get("usage"), dict):
        events.append(Spend(_usage(record["usage"]), number_at(record, "total_cost_usd")))
    for denial in items_at(record, "permission_denials"):
        tool = one_line(text_at(denial, "tool_name") or "a tool", 80)
        what = _tool_summary(denial.get("tool_input"))
        refused = f"{tool} was refused: {what}" if what else f"{tool} was refused"
        events.append(Problem(ProblemKind.DENIED, refused))
    text = shortened(text_at(record, "result")) or _errors(record)
    # `subtype` may say "success" beside `is_error: true` (recorded); other subtypes are errors.
    is_error = record.get("is_error") is not False or record.get("subtype") != "success"
    if is_error:
        events.append(_result_problem(record, text))
    events.append(Result(text, is_error))
    return events


def _errors(record: dict[str, object]) -> str:
    """The words of a result without a text: its ``errors``, else its subtype."""
    errors = record.get("errors")
    said = [e for e in errors if isinstance(e, str)] if isinstance(errors, list) else []
    return shortened("; ".join(said)) or one_line(text_at(record, "subtype"))


def _result_problem(record: dict[str, object], text: str) -> Problem:
    if record.get("terminal_reason") == "prompt_too_long":
        return Problem(ProblemKind.OVERFLOW, text)
    return Problem(kind_of(text, count_at(record, "api_error_status")), text)


_TELLING = ("command", "file_path", "path", "pattern", "url", "query", "prompt", "description")


def _tool_summary(given: object) -> str:
    """One line of what a tool is asked: the first telling argument."""
    for key in _TELLING:
        if value := text_at(given, key):
            return one_line(value)
    return ""

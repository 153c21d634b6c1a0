"""opencode: ``opencode run --format json`` (recorded with 1.18)."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from swarm.core.model import Usage
from swarm.sessions.launching import State, argv_of, inline_prompt, person_state
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
from swarm.sessions.records import at, count_at, number_at, text_at
from swarm.sessions.stream import LineParser, Reader
from swarm.sessions.trouble import kind_of

HOPELESS_ERRORS = 3
"""It retries a quota for ever and says so only in its log (tried): after so many errors in a
row the session may be ended."""

_LOGGED = re.compile(r'message="stream error".*?\bsmall=false\b.*?error\.error="(?P<error>[^"]*)')


@dataclass(frozen=True, slots=True)
class OpenCode:
    """The adapter."""

    name: str = "opencode"
    tells_result: bool = True

    def launch(self, request: LaunchRequest) -> Launch:
        """``opencode run --format json … -- PROMPT``; its state lies in the ``XDG_*`` places."""
        prompt, files = inline_prompt(request)
        # Its retries are told nowhere but in the log.
        options = ["run", "--format", "json", "--print-logs", "--log-level", "ERROR"]
        if request.bypass_permissions:
            options.append("--auto")
        if request.model:
            options += ["-m", request.model]
        if request.resume_session:
            options += ["-s", request.resume_session]
        state = _state(request)
        return Launch(
            argv=argv_of(request.runtime, *options, "--", prompt),
            # A session of a fleet must not replace the program under its siblings.
            env={"OPENCODE_DISABLE_AUTOUPDATE": "1", **state.env},
            directories=state.directories,
            files=files,
            links=state.links,
            read_paths=(*state.read_paths, *files),
            write_paths=state.write_paths,
        )

    def parser(self, before: Usage = NOTHING) -> LineParser:  # noqa: ARG002 - the port's
        """A parser for one run; each step tells its own tokens, so ``before`` is not needed."""
        return LineParser(OpenCodeReader())


def _state(request: LaunchRequest) -> State:
    """Its four directories: login and settings are the person's, the rest the agent's own."""
    own = posixpath.join
    return (
        person_state(
            request,
            "XDG_DATA_HOME",
            own("opencode", "data"),
            ".local/share",
            logins=("opencode/auth.json",),
        )
        .plus(
            person_state(
                request,
                "XDG_CONFIG_HOME",
                own("opencode", "config"),
                ".config",
                logins=(
                    "opencode/opencode.json",
                    "opencode/opencode.jsonc",
                    "opencode/config.json",
                ),
            )
        )
        .plus(person_state(request, "XDG_STATE_HOME", own("opencode", "state"), "", logins=()))
        .plus(person_state(request, "XDG_CACHE_HOME", own("opencode", "cache"), "", logins=()))
    )


class OpenCodeReader(Reader):
    """Reads step, text, tool and error events; tokens and cost are of one step each."""

    def __init__(self) -> None:
        self._session = ""
        self._said = ""
        self._usage = Usage()
        self._cost: float | None = None
        self._errors = 0

    def read(self, record: dict[str, object]) -> list[SessionEvent]:
        """The events of one record."""
        events: list[SessionEvent] = []
        session = text_at(record, "sessionID")[:200]
        if session and session != self._session:
            self._session = session
            events.append(SessionStarted(session))
        match record.get("type"):
            case "text":
                self._errors = 0
                self._said = shortened(text_at(record, "part", "text"))
                events.append(Text(self._said))
            case "tool_use":
                self._errors = 0
                events += _tool(at(record, "part"))
            case "step_finish":
                events += self._step(at(record, "part"))
            case "error":
                events += _error(record.get("error"))
            case _:
                pass
        return events

    def complain(self, line: str) -> list[SessionEvent]:
        """Trouble in the log: retried errors of the provider, and permissions refused."""
        if "auto-rejecting" in line:
            return [Problem(ProblemKind.DENIED, one_line(line))]
        if (found := _LOGGED.search(line)) is None:
            return []
        self._errors += 1
        text = shortened(found["error"])
        kind = kind_of(text)
        fatal = kind is ProblemKind.QUOTA and self._errors >= HOPELESS_ERRORS
        return [Problem(kind, text, fatal=fatal)]

    def _step(self, part: object) -> list[SessionEvent]:
        self._usage = self._usage.plus(
            Usage(
                input_tokens=count_at(part, "tokens", "input"),
                output_tokens=count_at(part, "tokens", "output"),
                cache_read_tokens=count_at(part, "tokens", "cache", "read"),
                cache_write_tokens=count_at(part, "tokens", "cache", "write"),
            )
        )
        cost = number_at(part, "cost")
        if cost:  # 0 beside tokens is what opencode says of a model whose price it does not know
            self._cost = (self._cost or 0.0) + cost
        events: list[SessionEvent] = [Spend(self._usage, self._cost)]
        reason = text_at(part, "reason")
        if reason in ("length", "content-filter", "error"):
            text = f"the answer broke off: {reason}"
            events += [Problem(ProblemKind.OTHER, text), Result(text, is_error=True)]
        elif reason != "tool-calls":
            events.append(Result(self._said, is_error=False))
        return events


def _tool(part: object) -> list[SessionEvent]:
    given = at(part, "state", "input")
    summary = ""
    for key in ("command", "filePath", "path", "pattern", "url", "description"):
        if summary := one_line(text_at(given, key)):
            break
    name = one_line(text_at(part, "tool") or "tool", 80)
    events: list[SessionEvent] = [ToolCall(name, summary)]
    if "rejected permission" in text_at(part, "state", "error"):
        events.append(Problem(ProblemKind.DENIED, f"{name} was refused: {summary}"))
    return events


def _error(error: object) -> list[SessionEvent]:
    name = text_at(error, "name")
    text = shortened(text_at(error, "data", "message") or text_at(error, "message") or name)
    kind = kind_of(f"{name} {text}", count_at(error, "data", "statusCode"))
    return [Problem(kind, text), Result(text, is_error=True)]

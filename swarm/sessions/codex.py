"""Codex: ``codex exec --json`` (recorded with 0.169)."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

import msgspec

from swarm.core.model import Usage
from swarm.sessions.launching import argv_of, inline_prompt, person_state
from swarm.sessions.model import (
    MAX_TEXT,
    NOTHING,
    Launch,
    LaunchRequest,
    Note,
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
from swarm.sessions.records import at, count_at, items_at, text_at
from swarm.sessions.stream import LineParser, Reader
from swarm.sessions.trouble import kind_of

MAX_OPEN_ITEMS = 256
"""Items begun and not ended that are remembered, so that each is told once."""


@dataclass(frozen=True, slots=True)
class Codex:
    """The adapter."""

    name: str = "codex"
    tells_result: bool = True

    def launch(self, request: LaunchRequest) -> Launch:
        """``codex exec --json … [resume ID] -- PROMPT``; its state lies in ``CODEX_HOME``."""
        prompt, files = inline_prompt(request)
        options = ["exec", "--json", "--skip-git-repo-check"]
        if request.bypass_permissions:
            options.append("--dangerously-bypass-approvals-and-sandbox")
        else:
            options += _own_sandbox(request)
        if request.model:
            options += ["-m", request.model]
        if request.resume_session:
            options += ["resume", "--", request.resume_session, prompt]
        else:
            options += ["--", prompt]
        state = person_state(
            request, "CODEX_HOME", "codex", ".codex", logins=("auth.json", "config.toml")
        )
        return Launch(
            argv=argv_of(request.runtime, *options),
            env=state.env,
            directories=state.directories,
            files=files,
            links=state.links,
            read_paths=(*state.read_paths, *files),
            write_paths=state.write_paths,
        )

    def parser(self, before: Usage = NOTHING) -> LineParser:
        """A parser for one run."""
        return LineParser(CodexReader(before))


def _own_sandbox(request: LaunchRequest) -> list[str]:
    """Codex's own sandbox, with commits and results possible: by itself it shuts ``.git``."""
    roots = [posixpath.join(request.workspace, ".git"), request.out_dir]
    # TOML's basic strings escape as JSON's do.
    written = msgspec.json.encode(roots).decode()
    return [
        "-c",
        'sandbox_mode="workspace-write"',
        "-c",
        f"sandbox_workspace_write.writable_roots={written}",
    ]


class CodexReader(Reader):
    """Reads thread, turn and item events.

    ``turn.completed`` counts a resumed thread from its first turn on (tried with 0.169), so what
    was used ``before`` this run is taken off.
    """

    def __init__(self, before: Usage = NOTHING) -> None:
        self._before = before
        self._said = ""
        self._open: set[str] = set()

    def read(self, record: dict[str, object]) -> list[SessionEvent]:
        """The events of one record."""
        match record.get("type"):
            case "thread.started":
                thread = text_at(record, "thread_id")
                return [SessionStarted(thread[:200])] if thread else []
            case "item.started" | "item.updated" | "item.completed":
                return self._item(record, done=record["type"] == "item.completed")
            case "turn.completed":
                usage = self._usage(record.get("usage"))
                spend: list[SessionEvent] = [] if usage is None else [Spend(usage)]
                return [*spend, Result(self._said, is_error=False)]
            case "turn.failed":
                text = _inner(text_at(record, "error", "message"))
                return [Problem(kind_of(text), text), Result(text, is_error=True)]
            case "error":
                return [_error(_inner(text_at(record, "message")))]
            case _:
                return []

    def _item(self, record: dict[str, object], done: bool) -> list[SessionEvent]:
        item = record.get("item")
        kind = text_at(item, "type")
        if kind == "agent_message":
            if not done:
                return []
            self._said = shortened(text_at(item, "text"))
            return [Text(self._said)]
        if kind == "error":
            return [Note(shortened(text_at(item, "message")))] if done else []
        if kind in ("reasoning", "todo_list", ""):
            return []
        events: list[SessionEvent] = []
        if self._first_seen(text_at(item, "id")[:200], done):
            events.append(ToolCall(one_line(kind, 80), _tool_summary(item)))
        if done and text_at(item, "status") == "declined":
            events.append(Problem(ProblemKind.DENIED, f"{kind} was refused: {_tool_summary(item)}"))
        return events

    def _first_seen(self, item_id: str, done: bool) -> bool:
        first = item_id not in self._open
        if done:
            self._open.discard(item_id)
        elif len(self._open) < MAX_OPEN_ITEMS:
            self._open.add(item_id)
        return first

    def _usage(self, given: object) -> Usage | None:
        if not isinstance(given, dict):
            return None
        return Usage(
            input_tokens=_less(count_at(given, "input_tokens"), self._before.input_tokens),
            output_tokens=_less(count_at(given, "output_tokens"), self._before.output_tokens),
            cache_read_tokens=_less(
                count_at(given, "cached_input_tokens"), self._before.cache_read_tokens
            ),
            cache_write_tokens=_less(
                count_at(given, "cache_write_input_tokens"), self._before.cache_write_tokens
            ),
        )


def _less(total: int | None, before: int | None) -> int | None:
    """``total`` without ``before``; a smaller total was not counted from the first turn on."""
    if total is None or before is None or total < before:
        return total
    return total - before


def _error(text: str) -> Problem:
    """An ``error`` event: also each "Reconnecting… n/m" of retries.

    Once the retries of a request are used up, the CLI reconnects and begins again, for ever on a
    quota (recorded).
    """
    kind = kind_of(text)
    hopeless = "exceeded retry limit" in text or "usage limit" in text.lower()
    return Problem(kind, text, fatal=kind is ProblemKind.QUOTA and hopeless)


def _inner(text: str) -> str:
    """The provider's message when the CLI hands on the body of its answer, else ``text``."""
    if text.startswith("{"):
        try:
            body = msgspec.json.decode(text[: MAX_TEXT * 4])
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return shortened(text)
        return shortened(text_at(body, "error", "message") or text_at(body, "message") or text)
    return shortened(text)


def _tool_summary(item: object) -> str:
    for key in ("command", "query", "tool", "path"):
        if said := text_at(item, key):
            return one_line(said)
    paths = [text_at(change, "path") for change in items_at(item, "changes")]
    return one_line(", ".join(p for p in paths[:10] if p) or str(at(item, "status") or ""))

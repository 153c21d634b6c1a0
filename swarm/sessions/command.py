"""Any agent CLI, by a template of its command line.

Its output may be plain text, or JSON lines: Claude Code's stream format, or simply objects with
any of ``session_id``, ``text``, ``error``, ``usage`` (``input_tokens``, ``output_tokens``, …),
``cost_usd`` and ``result`` (with ``is_error``).
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from swarm.core.model import Usage
from swarm.errors import SessionError
from swarm.sessions.claude import ClaudeReader
from swarm.sessions.launching import clean_prompt, inline_prompt
from swarm.sessions.model import (
    NOTHING,
    Launch,
    LaunchRequest,
    Problem,
    Result,
    SessionEvent,
    SessionStarted,
    Spend,
    Text,
    shortened,
)
from swarm.sessions.records import count_at, number_at, text_at
from swarm.sessions.stream import LineParser, Reader
from swarm.sessions.trouble import kind_of

PLACEHOLDERS = ("prompt", "prompt_file", "workspace", "task_id", "model", "out")
"""What may stand in braces in an argument, alone or with other text."""

_PLACEHOLDER = re.compile("{(" + "|".join(PLACEHOLDERS) + ")}")
_CLAUDE_TYPES = frozenset(("system", "assistant", "user", "rate_limit_event"))


@dataclass(frozen=True, slots=True)
class CommandTemplate:
    """The adapter.  The exit status decides: such a CLI need not say how it ended."""

    name: str = "command"
    tells_result: bool = False

    def launch(self, request: LaunchRequest) -> Launch:
        """The runtime's ``command`` and ``args`` with every placeholder filled in."""
        runtime = request.runtime
        if not runtime.command or not runtime.command[0]:
            raise SessionError(
                f"runtime {runtime.name!r} has no command", "name its program under runtimes"
            )
        prompt, _ = inline_prompt(request)
        values = {
            "prompt": prompt,
            "prompt_file": request.prompt_file,
            "workspace": request.workspace,
            "task_id": request.task_id,
            "model": request.model,
            "out": request.out_dir,
        }
        state = posixpath.join(request.state_dir, "command")
        return Launch(
            argv=tuple(filled(word, values) for word in (*runtime.command, *runtime.args)),
            directories=(state,),
            files={request.prompt_file: clean_prompt(request)},
            read_paths=(request.prompt_file,),
            write_paths=(state,),
        )

    def parser(self, before: Usage = NOTHING) -> LineParser:  # noqa: ARG002 - the port's
        """A parser for one run."""
        return LineParser(CommandReader())


def filled(word: str, values: dict[str, str]) -> str:
    """``word`` with its placeholders replaced, once: braces in a value mean nothing."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], word)


class CommandReader(Reader):
    """Reads whatever of the documented fields an object has."""

    def __init__(self) -> None:
        self._claude = ClaudeReader()

    def read(self, record: dict[str, object]) -> list[SessionEvent]:
        """The events of one record."""
        kind = text_at(record, "type")
        if kind in _CLAUDE_TYPES or (kind == "result" and "subtype" in record):
            return self._claude.read(record)
        events: list[SessionEvent] = []
        if session := text_at(record, "session_id"):
            events.append(SessionStarted(session[:200]))
        if text := text_at(record, "text"):
            events.append(Text(shortened(text)))
        if error := text_at(record, "error"):
            events.append(Problem(kind_of(error), shortened(error)))
        cost = number_at(record, "cost_usd")
        usage = record.get("usage")
        if isinstance(usage, dict) or cost is not None:
            events.append(Spend(_usage(usage), cost))
        if isinstance(record.get("result"), str):
            is_error = record.get("is_error") is True
            said = shortened(text_at(record, "result"))
            if is_error:
                events.append(Problem(kind_of(said), said))
            events.append(Result(said, is_error))
        return events


def _usage(usage: object) -> Usage:
    return Usage(
        input_tokens=count_at(usage, "input_tokens"),
        output_tokens=count_at(usage, "output_tokens"),
        cache_read_tokens=count_at(usage, "cache_read_tokens"),
        cache_write_tokens=count_at(usage, "cache_write_tokens"),
    )

"""Adapters by name; each module is imported when it is first asked for.

A daemon runs one kind of CLI: it need not carry the others in its memory.
"""

from __future__ import annotations

from swarm.errors import SessionError
from swarm.sessions.model import Adapter

ADAPTERS = ("claude", "codex", "opencode", "command", "scripted")
"""What a runtime's ``adapter`` may say."""


def adapter(name: str) -> Adapter:
    """The adapter called ``name``.  Raises :class:`~swarm.errors.SessionError` for no such one."""
    match name:
        case "claude":
            from swarm.sessions.claude import Claude

            return Claude()
        case "codex":
            from swarm.sessions.codex import Codex

            return Codex()
        case "opencode":
            from swarm.sessions.opencode import OpenCode

            return OpenCode()
        case "command":
            from swarm.sessions.command import CommandTemplate

            return CommandTemplate()
        case "scripted":
            from swarm.sessions.scripted_adapter import Scripted

            return Scripted()
        case _:
            raise SessionError(
                f"there is no adapter {name[:80]!r}", f"use one of {', '.join(ADAPTERS)}"
            )

"""The stand-in agent CLI of :mod:`swarm.sessions.scripted`; it speaks Claude Code's format."""

from __future__ import annotations

import posixpath
import sys
from dataclasses import dataclass

import msgspec

from swarm.core.model import Usage
from swarm.sessions.claude import ClaudeReader
from swarm.sessions.launching import argv_of, inline_prompt
from swarm.sessions.model import NOTHING, Launch, LaunchRequest
from swarm.sessions.stream import LineParser

PROGRAM = posixpath.join(posixpath.dirname(posixpath.abspath(__file__)), "scripted.py")
"""The stand-in as a file: it imports the standard library only, so it runs without ``site``."""


MODULE = "swarm.sessions.scripted"


def quickest(command: tuple[str, ...]) -> tuple[str, ...]:
    """``command``, with ``python … -m swarm.sessions.scripted`` run by its file instead.

    Isolated and without ``site`` it starts in half the time, and finds itself where the sandbox
    shows nothing of what is installed.
    """
    if command[-2:] == ("-m", MODULE):
        return (command[0], "-I", "-S", PROGRAM)
    return command


@dataclass(frozen=True, slots=True)
class Scripted:
    """The adapter."""

    name: str = "scripted"
    tells_result: bool = True

    def launch(self, request: LaunchRequest) -> Launch:
        """``… scripted.py --task … --out … --state … -- PROMPT``."""
        prompt, files = inline_prompt(request)
        state = posixpath.join(request.state_dir, "scripted")
        options = ["--task", request.task_id, "--out", request.out_dir, "--state", state]
        if request.resume_session:
            options += ["--resume", request.resume_session]
        options += ["--prompt-file", request.prompt_file] if files else ["--", prompt]
        runtime = msgspec.structs.replace(
            request.runtime, command=quickest(request.runtime.command)
        )
        return Launch(
            argv=argv_of(runtime, *options),
            directories=(state,),
            files=files,
            read_paths=(*files, posixpath.dirname(PROGRAM), sys.prefix, sys.base_prefix),
            write_paths=(state,),
        )

    def parser(self, before: Usage = NOTHING) -> LineParser:  # noqa: ARG002 - the port's
        """A parser for one run; its totals are of this run alone (tried), ``before`` or not."""
        return LineParser(ClaudeReader())

"""``context.md``: what an agent is told of its task, and what it remembers of earlier ones.

Rendered anew from ``.agentctl/history.json``, so that a broken text never loses the memory.  A
session reads it and cannot write it.
"""

from __future__ import annotations

import os
import time

import msgspec

from swarm.errors import WorkspaceError
from swarm.spawner.folders import write_whole
from swarm.spawner.workspace import Workspace
from swarm.wire.lifeline import Work

MAX_EARLIER = 20
"""Tasks remembered; the oldest go first."""
MAX_SUMMARY = 2000
MAX_PROMPT = 256 * 1024


class Earlier(msgspec.Struct, frozen=True, omit_defaults=True):
    """One task the agent has worked on."""

    task: str
    outcome: str
    at: float
    """Unix seconds of its end."""
    title: str = ""
    branch: str = ""
    summary: str = ""


class _History(msgspec.Struct, omit_defaults=True):
    now: Work | None = None
    earlier: tuple[Earlier, ...] = ()


def begin_task(workspace: Workspace, work: Work) -> str:
    """Write the task an agent is about to begin; returns what it remembers of earlier ones.

    Raises :class:`~swarm.errors.WorkspaceError`.
    """
    history = _load(workspace)
    history.now = work
    _save(workspace, history)
    return _remembered(history)


def end_task(workspace: Workspace, summary: Earlier) -> None:
    """Write how its task ended; the agent has none now.

    Raises :class:`~swarm.errors.WorkspaceError`.
    """
    history = _load(workspace)
    history.now = None
    cut = msgspec.structs.replace(summary, summary=summary.summary[:MAX_SUMMARY])
    history.earlier = (*history.earlier, cut)[-MAX_EARLIER:]
    _save(workspace, history)


def _path(workspace: Workspace) -> str:
    return os.path.join(workspace.private, "history.json")


def _load(workspace: Workspace) -> _History:
    try:
        with open(_path(workspace), "rb") as file:
            return msgspec.json.decode(file.read(), type=_History)
    except (OSError, msgspec.MsgspecError):
        return _History()  # a memory that cannot be read is no reason not to work


def _save(workspace: Workspace, history: _History) -> None:
    try:
        write_whole(_path(workspace), msgspec.json.encode(history).decode())
        write_whole(workspace.context, _render(workspace.name, history))
    except OSError as error:
        raise WorkspaceError(
            f"{workspace.context} cannot be written: {error.strerror}", "make room there"
        ) from None


def _render(name: str, history: _History) -> str:
    parts = [f"# {name}\n"]
    if history.now is not None:
        now = history.now
        parts.append(f"## Your task: {_line(now.title) or now.task}\n")
        facts = [f"- task `{now.task}`, attempt {now.attempt}", f"- results: `out/{now.task}/`"]
        if now.repo is not None:
            facts.append(f"- branch `{now.repo.branch}`, checked out in `repo/`")
        facts += [f"- earlier attempt: {_line(text)}" for text in now.earlier]
        parts.append("\n".join(facts) + "\n")
        parts.append(now.prompt[:MAX_PROMPT].strip() + "\n")
    else:
        parts.append("No task at the moment.\n")
    if history.earlier:
        parts.append("## Earlier tasks, newest last\n")
        parts.append(_remembered(history))
    return "\n".join(parts)


def _remembered(history: _History) -> str:
    parts = []
    for one in history.earlier:
        day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(one.at))
        title = f" {_line(one.title)}" if one.title else ""
        parts.append(f"### {one.task}{title}: {one.outcome}, {day}\n")
        if one.branch:
            parts.append(f"Branch `{one.branch}`.\n")
        if one.summary.strip():
            quoted = "\n".join(f"> {line}" for line in one.summary.strip().splitlines())
            parts.append(f"{quoted}\n")
    return "\n".join(parts)


def _line(text: str) -> str:
    return " ".join(text.split())[:300]

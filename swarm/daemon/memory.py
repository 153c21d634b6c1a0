"""What a daemon remembers on disk beside its outbox, in ``<workspace>/.agentctl/``.

Trusted state: no session can see it.  A file that cannot be read is as good as none: each is
written again when it next matters.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TypeVar

import msgspec

from swarm.core.model import Usage
from swarm.spawner.folders import write_whole
from swarm.spawner.workspace import Workspace
from swarm.wire.lifeline import RepoWork

MAX_FILE = 1024 * 1024
MAX_SESSIONS = 32
"""Sessions whose usage is remembered, for those that are resumed."""


class Current(msgspec.Struct, frozen=True, omit_defaults=True):
    """``current.json``: the session that runs, for a life after this one."""

    task: str
    fence: int
    title: str = ""
    repo: RepoWork | None = None
    attempt: int = 0
    folder: str = ""
    """The task's own directory, which its results go to."""


class Rest(msgspec.Struct, frozen=True):
    """``clean.json``: the clone between two tasks."""

    inode: int
    """Of ``repo/``: another clone put in its place is another folder."""
    commit: str


T = TypeVar("T")

_encoder = msgspec.json.Encoder()


def load_fences(workspace: Workspace) -> dict[str, int]:
    """The highest fence seen for each task."""
    return _load(workspace.fences, dict[str, int]) or {}


def save_fences(workspace: Workspace, fences: dict[str, int]) -> None:
    """Raises ``OSError``."""
    _save(workspace.fences, fences)


def load_current(workspace: Workspace) -> Current | None:
    """The session an earlier life of this daemon left running, if any."""
    return _load(workspace.current, Current)


def save_current(workspace: Workspace, current: Current) -> None:
    """Raises ``OSError``."""
    _save(workspace.current, current)


def clear_current(workspace: Workspace) -> None:
    """Its work is in the hub and its report in the outbox."""
    with suppress(FileNotFoundError):
        os.unlink(workspace.current)


def is_clean(workspace: Workspace) -> bool:
    """Whether ``repo/`` is known to hold nothing untracked: put right since its last session.

    So a promotion need not wait for git to look (measured: 5 ms of its 25).
    """
    return _rest(workspace) is not None or never_checked_out(workspace)


def resting_at(workspace: Workspace) -> str:
    """The commit whose files ``repo/`` holds, and nothing else; empty when that is not known."""
    rest = _rest(workspace)
    return rest.commit if rest is not None else ""


def mark_resting(workspace: Workspace, commit: str) -> None:
    """``repo/`` was just cleaned and put to ``commit``.  Raises ``OSError``."""
    _save(_clean(workspace), Rest(_inode(workspace), commit))


def never_checked_out(workspace: Workspace) -> bool:
    """Whether the clone is as it was made, without files."""
    with suppress(OSError):
        return os.listdir(workspace.repo) == [".git"]
    return False


def mark_used(workspace: Workspace) -> None:
    """A session is about to write to ``repo/``.  Raises ``OSError``."""
    with suppress(FileNotFoundError):
        os.unlink(_clean(workspace))


def used_before(workspace: Workspace, session_id: str | None) -> Usage:
    """What earlier runs of a CLI's session used; some count a resumed one from its first run."""
    if session_id is None:
        return Usage()
    return (_load(_used(workspace), dict[str, Usage]) or {}).get(session_id, Usage())


def save_used(workspace: Workspace, session_id: str, usage: Usage) -> None:
    """Add one run's usage to its session's.  Raises ``OSError``."""
    known = _load(_used(workspace), dict[str, Usage]) or {}
    total = known.pop(session_id, Usage()).plus(usage)
    known[session_id] = total
    _save(_used(workspace), dict(list(known.items())[-MAX_SESSIONS:]))


def _clean(workspace: Workspace) -> str:
    return os.path.join(workspace.private, "clean.json")


def _inode(workspace: Workspace) -> int:
    """Of ``repo/``; 0 when there is none."""
    try:
        return os.lstat(workspace.repo).st_ino
    except OSError:
        return 0


def _rest(workspace: Workspace) -> Rest | None:
    rest = _load(_clean(workspace), Rest)
    return rest if rest is not None and rest.inode == _inode(workspace) else None


def _used(workspace: Workspace) -> str:
    return os.path.join(workspace.private, "used.json")


def _load(path: str, kind: type[T]) -> T | None:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(MAX_FILE), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def _save(path: str, value: object) -> None:
    write_whole(path, _encoder.encode(value).decode())

"""What a clean-up has taken the names of, in a hub: commits that were there, and still are.

The clones know such branches for longer than the hub does.  Without a record the janitor would
take them for work that never came home, and bring back what a person had cleaned away.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from swarm.errors import GitError
from swarm.spawner.git import commit_id, is_commit_id
from swarm.spawner.homecoming import unsaved_commits

ENDED = "agentctl-ended"
"""File of a hub: the commits its deleted branches ended in, one a line.  No session can write it,
and a hub that is made anew begins without."""


def note_ended(hub: str, tips: Iterable[str]) -> None:
    """Remember ``tips``, before their branches go: who is killed in between has noted too much.

    Each of them is a commit of the hub that a reference holds now.  Raises
    :class:`~swarm.errors.GitError` where it cannot be written.
    """
    lines = [commit_id(one) for one in tips]
    path = os.path.join(hub, ENDED)
    # The line before the first may be half a line, of one that was killed or had no room.
    text = "\n".join(["", *lines, ""]).encode()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(fd, "wb", buffering=0) as file:
            if file.write(text) != len(text):
                raise GitError(f"{path} cannot be written: the disk is full", "make room")
    except OSError as error:
        raise GitError(f"{path} cannot be written: {error.strerror}", "make room there") from None


def ended_commits(hub: str) -> list[str]:
    """The commits :func:`note_ended` was told of.  Raises :class:`~swarm.errors.GitError`."""
    path = os.path.join(hub, ENDED)
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise GitError(f"{path} cannot be read: {error.strerror}", "look at it") from None
    return [one for one in dict.fromkeys(lines) if is_commit_id(one)]


def never_home(hub: str, ids: Sequence[str]) -> list[str]:
    """Those of ``ids`` that neither a reference of the hub holds nor a branch that was cleaned up.

    What such a branch held is there whole, as a hub is never pruned.  What only lies there, of a
    fetch that was refused, is not home.
    """
    unsaved = unsaved_commits(hub, ids)
    if not unsaved:
        return []
    # Read after git has looked: what a clean-up deletes meanwhile was noted before.
    ended = ended_commits(hub)
    return unsaved_commits(hub, unsaved, ended) if ended else unsaved

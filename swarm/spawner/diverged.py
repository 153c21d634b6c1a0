"""A source that moved on while the hub's target holds landed work that it does not have.

The source's new commits are merged into the hub's target, so that nothing that landed is lost and
what is published still only goes forward.  Where both change the same, the hub's target stays and
a person is told how to settle it.
"""

from __future__ import annotations

import os

from swarm.errors import GitError
from swarm.spawner.git import commit_id, git, run_git
from swarm.spawner.merger import Conflict, commit, is_ancestor, merge, open_merger, take_in
from swarm.spawner.moving import move
from swarm.spawner.refs import read_ref
from swarm.spawner.workbench import work_folder

_TRIES = 5
_WAIT_SECONDS = 60.0
_MOST_FILES = 5


def advance(hub: str, source: str, target: str, seen: str, before: str | None) -> tuple[str, str]:
    """Bring ``refs/heads/<target>`` up to what the source has; its tip, and a line for people.

    ``seen`` is the source's tip, ``before`` what it was when it was fetched last.  A source that
    was rewritten replaces a target that holds nothing of its own; the old one is kept under
    ``refs/agentctl/replaced/``.  Raises :class:`~swarm.errors.GitError`.
    """
    ref, followed = f"refs/heads/{target}", _followed(target)
    for _ in range(_TRIES):
        old = read_ref(hub, ref)
        if old == seen:
            return seen, ""
        new = seen
        if old is not None and not is_ancestor(hub, old, seen):
            if is_ancestor(hub, seen, old):
                return old, ""  # work has landed here that the source does not have yet
            base = read_ref(hub, followed) or before
            if _holds_its_own(hub, old, seen, base):
                joined = _join(hub, target, old, seen, base)
                if isinstance(joined, Conflict):
                    return old, _note(hub, source, target, joined)
                new = joined
            else:
                move(hub, f"refs/agentctl/replaced/{target}/{old[:12]}", old, None)
        if move(hub, ref, new, old or ""):
            move(hub, followed, seen, None)
            return new, ""
    raise GitError(f"{ref} in {hub} keeps moving", "try again")


def _followed(target: str) -> str:
    """The reference to the source's tip that the hub's target came to hold last."""
    return f"refs/source/followed/{target}"


def _holds_its_own(hub: str, old: str, seen: str, base: str | None) -> bool:
    """Whether there are commits on ``old`` that never were the source's."""
    words = ["rev-list", "--max-count=1", commit_id(old), f"^{commit_id(seen)}"]
    if base is not None:
        words.append(f"^{commit_id(base)}")
    return bool(run_git(git(hub, *words)).strip())


def _join(hub: str, target: str, old: str, seen: str, base: str | None) -> str | Conflict:
    """A merge commit of both, with the landed work on top of what the source is now.

    Of a rewritten source the base is what it was: else what a person has taken out of it would
    come back by the hub.
    """
    rewritten = (
        base is not None and is_ancestor(hub, base, old) and not is_ancestor(hub, base, seen)
    )
    with work_folder(hub, "joining", _WAIT_SECONDS) as folder:
        try:
            merger = open_merger(os.path.join(folder, "merger"), hub)
            found = merge(merger, old, seen, base if rewritten else None)
            if isinstance(found, Conflict):
                return found
            message = f"Merge {target} of the source\n\nIt moved on while work landed here.\n"
            new = commit(merger, found.id, (old, seen), message.encode())
            take_in(merger, new, (old, seen))
        except OSError as error:
            raise GitError(f"{target} in {hub} cannot be merged: {error.strerror}") from None
    return new


def _note(hub: str, source: str, target: str, conflict: Conflict) -> str:
    names = list(conflict.files[:_MOST_FILES]) or ["their whole history"]
    more = len(conflict.files) - len(names)
    where = ", ".join(names) + (f" and {more} more" if more > 0 else "")
    return (
        f"{target} of {source} and what has landed here conflict in {where}: the hub keeps its own;"
        f" settle it there: git pull {hub} {target}"
    )

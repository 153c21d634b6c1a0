"""Carrying out what :mod:`swarm.core.keep` decided about branches, logs and task folders.

A hub is never pruned or collected, not even now: clones borrow its objects.  So what a deleted
branch held can still be had by its commit id; only its name is gone.  The source is not touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from swarm.core.keep import HEADS, Ending
from swarm.errors import GitError
from swarm.spawner.ended import note_ended
from swarm.spawner.folders import remove_tree
from swarm.spawner.git import commit_id, git, run_git, safe_ref
from swarm.spawner.moving import clear_stale_lock


def end_branches(
    hub: str, going: Sequence[Ending], taken: Iterable[str]
) -> tuple[list[Ending], list[str]]:
    """Delete the branches, those with a reference to save into moved there, in one transaction.

    A branch that moved meanwhile stays, and keeps no other back.  ``taken`` are the references
    there are.  What they end in is noted first, for the janitor of a workspace that still knows
    them (:mod:`swarm.spawner.ended`); where that fails, none goes.  Returns the endings that came
    about, and one line for each that did not.
    """
    if not going:
        return [], []
    try:
        note_ended(hub, (one.branch.tip for one in going))
    except GitError as error:
        return [], [f"branch {one.branch.name} stays: {error}" for one in going]
    for name in ("packed-refs", *(f"{HEADS}{one.branch.name}" for one in going)):
        clear_stale_lock(hub, name)  # of a git that was killed: nothing could go any more
    names = set(taken)
    with suppress(GitError):
        _transact(hub, going, names)
        return list(going), []
    done, problems = [], []
    for one in going:
        try:
            _transact(hub, [one], names)
            done.append(one)
        except GitError as error:
            problems.append(f"branch {one.branch.name} stays: {error}")
    return done, problems


def _transact(hub: str, going: Sequence[Ending], taken: set[str]) -> None:
    """All or nothing; each with the commit it must still have."""
    lines = ["start"]
    for one in going:
        tip = commit_id(one.branch.tip)
        if one.saved and one.saved not in taken:
            lines.append(f"create {safe_ref(one.saved)} {tip}")
        elif one.saved:
            lines.append(f"verify {safe_ref(one.saved)} {tip}")
        lines.append(f"delete {HEADS}{safe_ref(one.branch.name)} {tip}")
        lines += [f"delete {safe_ref(name)} {commit_id(held)}" for name, held in one.notes]
    text = "\n".join([*lines, "prepare", "commit", ""])
    run_git(git(hub, "update-ref", "--stdin", stdin=text.encode()))


def remove_log(path: str) -> str:
    """Remove one file; one line when it cannot be."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} stays: {error.strerror}"
    return ""


def remove_folder(path: str) -> str:
    """Remove one folder with all in it; one line when it cannot be."""
    try:
        remove_tree(path)
    except OSError as error:
        return f"{path} stays: {error.strerror}"
    return ""

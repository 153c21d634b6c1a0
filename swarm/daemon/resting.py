"""The clone between two tasks: clean, and at the commit the next task will most likely start from.

What git does here, in a helper process while nobody waits, a promotion need not do: a session
then starts 5 ms sooner, and in a large repository much sooner.
"""

from __future__ import annotations

from contextlib import suppress

from swarm.daemon import memory
from swarm.errors import SwarmError
from swarm.sandbox.grants import git_rules
from swarm.sandbox.launch import Confinement
from swarm.sandbox.run import run
from swarm.spawner.clone import borrowed_paths, rest_steps, step_off
from swarm.spawner.git import trusted_environment
from swarm.spawner.refs import read_ref
from swarm.spawner.workspace import Workspace


def rest(workspace: Workspace, hub: str, mode: str, commit: str, like: Confinement) -> None:
    """Clean the clone and check out ``commit``, contained as ``like``; it may block.

    What does not work now is done before the next session instead.
    """
    rules = None
    if like.landlock is not None:
        rules = git_rules(read=borrowed_paths(hub, mode), write=(workspace.repo, workspace.tmp))
    *prelude, last = rest_steps(workspace.repo, commit, trusted_environment())
    inside = Confinement(like.containment, rules, like.marker, workspace.tmp, like.user_ns)
    with suppress(SwarmError, OSError):
        step_off(workspace.repo)
        if run(last, inside, prelude).exit == 0:
            memory.mark_resting(workspace, commit)


def first_rest(workspace: Workspace, hub: str, mode: str, like: Confinement) -> None:
    """Check out the hub's target in a clone that was just made."""
    if not memory.never_checked_out(workspace):
        return
    tip = read_ref(hub, "HEAD")
    if tip is not None:
        rest(workspace, hub, mode, tip, like)

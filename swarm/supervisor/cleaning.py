"""After a daemon's death with a session: kill the tree, see it empty, read the outbox.

A coroutine a dead daemon, as the kernel may take a moment to bury a process; nothing else waits
for it.  It always ends as one ``TreeCleaned``, whatever it finds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from swarm.core.fleet_effects import CleanTree
from swarm.core.fleet_events import TreeCleaned
from swarm.core.model import Containment
from swarm.daemon.outbox import read_outbox
from swarm.sandbox.cgroups import named, remove
from swarm.sandbox.trees import TreeId, alive, destroy, marker, survivors
from swarm.wire.lifeline import Finished

PATIENCE_SECONDS = 10.0
"""How long a killed tree may take to be gone; uninterruptible sleep can take for ever."""
_FIRST_LOOK, _LONGEST_LOOK = 0.005, 0.2


def tree_of(effect: CleanTree, home_id: str, folders: Mapping[str, str] | None = None) -> TreeId:
    """What is known of the tree; its marker always is, and the cgroup it would have."""
    mark = marker(home_id, effect.task, effect.fence)
    group = named(folders, effect.task, effect.fence) if folders else None
    session = effect.session
    if session is None:
        return TreeId(0, 0, Containment.DESCENT, mark, group)
    rung = Containment(session.containment)
    return TreeId(session.tree_pid, session.tree_start, rung, mark, group)


async def clean(
    effect: CleanTree, home_id: str, workspace: str, folders: Mapping[str, str] | None = None
) -> TreeCleaned:
    """Empty the tree and read the outbox; what could not be made sure of is the problem.

    ``folders`` are the home's cgroups: the session's own goes too.
    """
    tree = tree_of(effect, home_id, folders)
    problem = await _empty(tree)
    if tree.cgroup is not None and not problem:
        remove(tree.cgroup)
    report: Finished | None = None
    try:
        report = find_report(workspace, effect.task, effect.fence)
    except OSError as error:
        problem = problem or f"its outbox cannot be read: {error.strerror}"
    return TreeCleaned(effect.name, effect.task, effect.fence, report, problem)


def find_report(workspace: str, task: str, fence: int) -> Finished | None:
    """The attempt's own report in the outbox of a workspace.  Raises ``OSError``."""
    path = os.path.join(workspace, ".agentctl", "outbox.jsonl")
    for finished in read_outbox(path):
        if (finished.task, finished.fence) == (task, fence):
            return finished
    return None


async def _empty(tree: TreeId) -> str:
    wait, waited = _FIRST_LOOK, 0.0
    while not _is_empty(tree):
        if waited >= PATIENCE_SECONDS:
            left = survivors(tree)
            return f"{len(left)} of its processes would not die: {left[:5]}" if left else ""
        destroy(tree)
        await asyncio.sleep(wait)
        waited += wait
        wait = min(wait * 2, _LONGEST_LOOK)
    return ""


def _is_empty(tree: TreeId) -> bool:
    """Cheap where a namespace answers for the tree; else every process is looked at."""
    if tree.pid and tree.containment is Containment.PID_NAMESPACE:
        return not alive(tree.pid, tree.start)
    return not survivors(tree)

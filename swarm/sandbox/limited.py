"""Launch a tree in a cgroup of its own, where there can be one: the kernel keeps its limits then.

A cgroup that cannot be made or entered costs the limits, not the tree: who started it looks at
its memory and processes all the same, and processor time gives way by priority (ADR 14).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from swarm.errors import SwarmError
from swarm.sandbox import cgroups
from swarm.sandbox.cgroups import Group, Limits
from swarm.sandbox.launch import Command, Confinement, Tree, launch

UNCAPPED_NICE = 10
"""Priority is lowered so much where ``cpu_percent`` cannot be kept: others go first, at least."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tree's cgroup goes: ``folders`` are the home's, empty where none can be made."""

    folders: Mapping[str, str]
    task: str
    fence: int


def launch_limited(
    command: Command,
    prelude: Sequence[Command],
    confinement: Confinement,
    place: Place,
    limits: Limits,
) -> tuple[Tree, str]:
    """Launch, in a cgroup with ``limits`` if there can be one.

    Also says why it is in none though it should be; empty when all is well.  Raises as
    :func:`~swarm.sandbox.launch.launch`.
    """
    group, trouble = _made(place, limits)
    if group is not None:
        capped = limits.cpu_percent is None or bool(group.folder("cpu"))
        inside = replace(confinement, group=group, nice=0 if capped else UNCAPPED_NICE)
        try:
            return launch(command, prelude, inside), ""
        except SwarmError as error:
            cgroups.remove(group)
            trouble = str(error)
    nice = 0 if limits.cpu_percent is None else UNCAPPED_NICE
    return launch(command, prelude, replace(confinement, nice=nice)), trouble


def _made(place: Place, limits: Limits) -> tuple[Group | None, str]:
    if not place.folders:
        return None, ""
    before = cgroups.named(place.folders, place.task, place.fence)
    if os.path.isdir(before.path):
        cgroups.remove(before)  # of a killed starter: what it counted is not ours
    try:
        return cgroups.make(place.folders, place.task, place.fence, limits), ""
    except OSError as error:
        return None, f"no cgroup can be made: {error.strerror}"

"""What running sessions use: a light look for what grows fast, a full one for what stands still.

The root of a session's tree is ours (the namespace's init, or the keeper) and is not counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from swarm.core.limits import Use
from swarm.health.processes import Process, Table, io_bytes, proportional_mb, tree_of
from swarm.health.sampler import Spent

Name = TypeVar("Name", bound=Hashable)
"""What the caller calls a session."""

EXACT_PROCESSES = 64
"""Of a tree that seems too large: so many of its largest processes are measured exactly, about
0.3 ms each; of the rest, which can hold little, resident memory counts."""
MOST_PROCESSES = 10_000
"""Members of a tree that are looked at where no limit says how many are too many."""


@dataclass(frozen=True, slots=True)
class Root:
    """A session's tree, and how much of it is too much."""

    pid: int
    start: int
    """Clock ticks since boot."""
    cgroup: str = ""
    memory_mb: int | None = None
    max_processes: int | None = None


class SessionSampler:
    """Looks at sessions' trees; remembers only what the next look is compared with."""

    def __init__(self) -> None:
        self._spent = Spent()
        self._io: dict[Hashable, tuple[tuple[int, int], int]] = {}

    def light(self, root: Root) -> Use | None:
        """Memory and processes; ``None`` when the tree is gone."""
        most = root.max_processes or MOST_PROCESSES
        held = in_cgroup(root.cgroup) if root.cgroup else None
        if held is not None and held[1] is not None and held[1] <= most:
            # Tasks are counted there, and threads are tasks: as few processes, or fewer.
            alive = tree_of(root.pid, root.start, 0)
            return Use(held[0], None) if alive else None
        # One more than too many is enough to know; and the root, which is not counted.
        tree = tree_of(root.pid, root.start, most + 1)
        if not tree:
            return None
        memory = held[0] if held is not None else _memory_mb(tree[1:], root.memory_mb)
        return Use(memory, len(tree) - 1)

    def full(self, roots: Mapping[Name, Root], table: Table) -> dict[Name, Use]:
        """Everything, of every session whose tree still exists."""
        now = time.monotonic()
        uses: dict[Name, Use] = {}
        seen: dict[Hashable, tuple[tuple[int, int], int]] = {}
        self._spent.begin()
        for name, root in roots.items():
            tree = table.tree(root.pid, root.start)
            if not tree:
                continue
            held = in_cgroup(root.cgroup) if root.cgroup else None
            memory = held[0] if held is not None else _memory_mb(tree[1:], root.memory_mb)
            seconds, since = self._spent.of(name, tree, now)
            uses[name] = Use(
                memory_mb=memory,
                processes=len(tree) - 1,
                cpu_seconds=seconds,
                io_bytes=self._moved(name, tree, seen),
                seconds=since,
            )
        self._spent.forget_others()
        self._io = seen
        return uses

    def _moved(
        self, name: Name, tree: list[Process], seen: dict[Hashable, tuple[tuple[int, int], int]]
    ) -> int | None:
        """Bytes read and written since the last look; ``None`` where that cannot be read."""
        counts = [io_bytes(one.pid) for one in tree if not one.ended]
        total = sum(count for count in counts if count is not None)
        if all(count is None for count in counts):
            return None
        seen[name] = (tree[0].key, total)
        root, before = self._io.get(name, (tree[0].key, total))
        return max(0, total - before) if root == tree[0].key else 0


def _memory_mb(members: list[Process], limit: int | None) -> float:
    """Resident memory, which may count shared pages twice; exact where that makes a difference."""
    resident = sum(one.rss_mb for one in members)
    if limit is None or resident <= limit:
        return round(resident, 1)
    total = resident
    for one in sorted(members, key=lambda p: -p.rss_mb)[:EXACT_PROCESSES]:
        exact = proportional_mb(one.pid)
        if exact is not None:
            total += min(exact, one.rss_mb) - one.rss_mb
    return round(total, 1)


def in_cgroup(directory: str) -> tuple[float, int | None] | None:
    """Memory in MB and, where known, tasks of a cgroup of either version; ``None``: not readable.

    Page cache is left out: the kernel takes it back when somebody needs memory, and reading a large
    repository is no run-away.
    """
    used = _number(directory, "memory.current", "memory.usage_in_bytes")
    tasks = _number(directory, "pids.current")
    if tasks is None:  # version 1: another hierarchy, the same path in it
        tasks = _number(directory.replace("/memory/", "/pids/", 1), "pids.current")
    if used is None:
        return None
    cache = _cache(os.path.join(directory, "memory.stat"))
    return round(max(0, used - cache) / 1048576, 1), tasks


def _number(directory: str, *names: str) -> int | None:
    for name in names:
        try:
            with open(os.path.join(directory, name), "rb") as file:
                return int(file.read(64))
        except (OSError, ValueError):
            continue
    return None


def _cache(path: str) -> int:
    """Bytes of files on the kernel's lists; of a version 1 cgroup those with all below it."""
    found: dict[bytes, int] = {}
    try:
        with open(path, "rb") as file:
            for line in file.read(65536).splitlines():
                name, _, value = line.partition(b" ")
                if name.endswith((b"inactive_file", b"active_file")):
                    found[name] = int(value)
    except (OSError, ValueError):
        return 0
    totals = [value for name, value in found.items() if name.startswith(b"total_")]
    return sum(totals) if totals else sum(found.values())

"""Processes and their trees as ``/proc`` shows them.

One reading of every ``/proc/<pid>/stat`` says who descends from whom, so any number of trees costs
one pass.  The kernel's lists of children are used for a single tree only; they are kept for each
*thread*, so all threads are asked: node, bun and go fork from any of theirs.

A process is named by its pid and start time: a pid is given out again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from swarm.sandbox.trees import stat_fields

TICK = 1.0 / os.sysconf("SC_CLK_TCK")
"""Seconds in which the kernel counts processor time."""
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1048576

_ENDED = b"ZX"


@dataclass(frozen=True, slots=True)
class Process:
    """One line of ``/proc/<pid>/stat``."""

    pid: int
    parent: int
    start: int
    """Clock ticks since boot."""
    ended: bool
    """A zombie: it uses nothing any more, but what it used counts until it is reaped."""
    cpu_ticks: int
    """Its own processor time, user and system."""
    reaped_ticks: int
    """That of children that ended and were waited for, and of theirs."""
    threads: int
    rss_mb: float

    @property
    def key(self) -> tuple[int, int]:
        """Pid and start time."""
        return self.pid, self.start


def process(pid: int) -> Process | None:
    """The process that has ``pid`` now, if any."""
    fields = stat_fields(pid)
    if not fields:
        return None
    return Process(
        pid=pid,
        parent=int(fields[1]),
        start=int(fields[19]),
        ended=fields[0] in _ENDED,
        cpu_ticks=int(fields[11]) + int(fields[12]),
        reaped_ticks=int(fields[13]) + int(fields[14]),
        threads=int(fields[17]),
        rss_mb=int(fields[21]) * PAGE_MB,
    )


class Table:
    """Every process at one moment, by pid, and whose children they are."""

    __slots__ = ("_below", "processes")

    def __init__(self, processes: Mapping[int, Process]) -> None:
        self.processes = processes
        self._below: dict[int, list[Process]] = {}
        for one in processes.values():
            self._below.setdefault(one.parent, []).append(one)

    @classmethod
    def now(cls) -> Table:
        """One pass over ``/proc``."""
        found = {}
        for name in os.listdir("/proc"):
            if name.isdigit() and (one := process(int(name))) is not None:
                found[one.pid] = one
        return cls(found)

    def tree(self, root: int, start: int | None = None) -> list[Process]:
        """``root`` and all its descendants; empty when it is gone, or is not that of ``start``."""
        first = self.processes.get(root)
        if first is None or first.ended or start not in (None, first.start):
            return []
        tree = [first]
        for one in tree:  # grows while it is walked; a parent never descends from its child
            tree.extend(self._below.get(one.pid, ()))
        return tree


def tree_of(root: int, start: int, most: int) -> list[Process]:
    """One tree by the kernel's lists of children, without looking at other processes.

    Cheap for a few sessions among a thousand processes.  Stops after ``most`` members: more are
    too many anyway.  What is forked or re-parented meanwhile may be missed; the next look finds it.
    """
    first = process(root)
    if first is None or first.ended or first.start != start:
        return []
    if not _LISTED:
        return Table.now().tree(root, start)[: most + 1]
    tree, met = [first], {root}
    for one in tree:  # grows while it is walked
        if len(tree) > most:
            break
        for pid in _children(one):
            if pid not in met and (child := process(pid)) is not None:
                met.add(pid)
                tree.append(child)
    return tree


def _children(parent: Process) -> Iterator[int]:
    threads = [str(parent.pid)]
    if parent.threads > 1:
        try:
            threads = os.listdir(f"/proc/{parent.pid}/task")
        except OSError:
            return  # it ended meanwhile
    for thread in threads:
        yield from map(int, _read(f"/proc/{parent.pid}/task/{thread}/children").split())


def io_bytes(pid: int) -> int | None:
    """Bytes it and its reaped children read and wrote, by whatever way; ``None``: not readable."""
    read = written = None
    for line in _read(f"/proc/{pid}/io").splitlines():
        name, _, value = line.partition(b":")
        if name == b"rchar":
            read = int(value)
        elif name == b"wchar":
            written = int(value)
    return None if read is None or written is None else read + written


def proportional_mb(pid: int) -> float | None:
    """Its memory with shared pages divided among those who share them; ``None``: not readable."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) / 1024
    return None


def _read(path: str) -> bytes:
    """A small file of ``/proc``; empty when it cannot be read or its process is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = os.read(fd, 65536)
        while len(data) % 4096 == 0 and data and (more := os.read(fd, 65536)):
            data += more
        return data
    except OSError:
        return b""  # it ended between open and read
    finally:
        os.close(fd)


_LISTED = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""Whether the kernel keeps lists of children (CONFIG_PROC_CHILDREN)."""

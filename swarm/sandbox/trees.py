"""Process trees as ``/proc`` shows them: who belongs to one, and how to end all of it.

A process is named by its pid *and* start time, so that a reused pid is never signalled.  Used by
the supervisor for the session of a daemon that died, and by the keeper of a session's tree where
there are no namespaces.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from swarm.core.model import Containment
from swarm.sandbox import cgroups
from swarm.sandbox.cgroups import Group

MARKER = "AGENTCTL_TREE"
"""Environment variable that every process of a session is born with."""


@dataclass(frozen=True, slots=True)
class TreeId:
    """What is known of a session's tree by somebody who is not its parent."""

    pid: int
    """The namespace's init, or the keeper that leads the tree; 0 when it was never learnt."""
    start: int
    """Start time of ``pid`` in clock ticks since boot."""
    containment: Containment
    marker: str
    """Value of ``AGENTCTL_TREE`` in it, see :func:`marker`."""
    cgroup: Group | None = None
    """The group it was put in, if any."""


@dataclass(frozen=True, slots=True)
class _Proc:
    parent: int
    state: str
    start: int


def marker(home_id: str, task: str, fence: int) -> str:
    """The value of ``AGENTCTL_TREE`` for one attempt."""
    return f"{home_id}:{task}:{fence}"


def stat_fields(pid: int) -> list[bytes]:
    """The fields of ``/proc/<pid>/stat`` from the third, its state, on; empty when it is gone.

    The second, the name, may hold anything, blanks and brackets too (proc(5)).
    """
    if pid <= 0:
        return []
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        text = os.read(fd, 4096)
    except OSError:
        return []  # it ended between open and read
    finally:
        os.close(fd)
    fields = text[text.rfind(b")") + 2 :].split()
    return fields if len(fields) > 40 else []


def start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot, or ``None`` when there is none."""
    found = _stat(pid)
    return found.start if found else None


def alive(pid: int, start: int) -> bool:
    """Whether this very process exists and is no zombie."""
    found = _stat(pid)
    return found is not None and found.start == start and found.state not in "ZX"


def descendants(roots: Iterable[int]) -> list[int]:
    """Every live process below ``roots``, them left out; parents before children."""
    return _below(_processes(), roots)


def survivors(tree: TreeId) -> list[int]:
    """The pids of ``tree`` that still live; empty means the tree is gone.

    A namespace's init is reaped, or a zombie, only after everything in it: then nothing is left.
    A cgroup lists what is in it.  Without either what cleared its environment *and* lost its
    parents is not found (rules, "The session's tree": best effort).
    """
    found = list(_found(tree))
    if tree.cgroup is not None and not _namespaced(tree):
        found += [p for p in cgroups.members(tree.cgroup) if p not in found and _lives(p)]
    return found


def destroy(tree: TreeId) -> None:
    """Kill what is left of ``tree``; returns at once, call again until ``survivors`` is empty.

    Raises nothing: what cannot be killed is still there for :func:`survivors` to tell.
    """
    if tree.cgroup is not None and not _namespaced(tree):
        cgroups.kill(tree.cgroup)
    left = _found(tree)
    if not _namespaced(tree) and len(left) > 1:
        left.pop(tree.pid, None)  # the keeper adopts orphans: it goes last, or they get away
    for pid, start in left.items():
        send(pid, start, signal.SIGKILL)


def sweep(home_id: str) -> list[int]:
    """Kill every process that carries the marker of this home, and all below; returns the pids.

    For what a killed predecessor left behind; call again until it returns none.
    """
    processes = _processes()
    found = _marked(f"{home_id}:", prefix=True)
    found |= {pid: processes[pid].start for pid in _below(processes, list(found))}
    for pid, start in found.items():
        send(pid, start, signal.SIGKILL)
    return list(found)


def signal_tree(root: int, number: int) -> int:
    """Signal every descendant of ``root``, not itself; returns how many there were."""
    processes = _processes()
    below = _below(processes, [root])
    for pid in below:
        send(pid, processes[pid].start, number)
    return len(below)


def send(pid: int, start: int, number: int) -> bool:
    """Signal the process that has ``pid`` and started at ``start``, no other; whether it was there.

    The descriptor is opened before the start time is looked at: what it names from then on is the
    process that was looked at, or one that is gone.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False  # it is gone already
    try:
        if start_time(pid) != start:
            return False
        signal.pidfd_send_signal(fd, number)
    except OSError:
        return False  # gone in between, or not ours to signal: survivors() tells
    finally:
        os.close(fd)
    return True


def _namespaced(tree: TreeId) -> bool:
    return tree.containment is Containment.PID_NAMESPACE and tree.pid > 0


def _found(tree: TreeId) -> dict[int, int]:
    """Pid and start time of what lives of ``tree``, as far as ``/proc`` tells."""
    processes = _processes()
    root = processes.get(tree.pid)
    found: dict[int, int] = {}
    if root is not None and root.start == tree.start and root.state not in "ZX":
        found = {pid: processes[pid].start for pid in (tree.pid, *_below(processes, [tree.pid]))}
    if _namespaced(tree):
        return found
    marked = _marked(tree.marker)
    found |= marked
    return found | {pid: processes[pid].start for pid in _below(processes, list(marked))}


def _lives(pid: int) -> bool:
    found = _stat(pid)
    return found is not None and found.state not in "ZX"


def _below(processes: Mapping[int, _Proc], roots: Iterable[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    order = list(roots)
    seen = set(order)
    below: list[int] = []
    for pid in order:  # grows while it is walked
        for child in children.get(pid, ()):
            if child not in seen:
                seen.add(child)
                order.append(child)
                if processes[child].state not in "ZX":
                    below.append(child)
    return below


def _processes() -> dict[int, _Proc]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := _stat(int(name))) is not None:
            found[int(name)] = process
    return found


def _stat(pid: int) -> _Proc | None:
    fields = stat_fields(pid)
    return _Proc(int(fields[1]), fields[0].decode(), int(fields[19])) if fields else None


def _marked(value: str, prefix: bool = False) -> dict[int, int]:
    """Pid and start time of those whose initial environment holds the marker."""
    wanted = f"{MARKER}={value}".encode()
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        before = _stat(int(name))
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environ = file.read(1 << 20).split(b"\0")
        except OSError:
            continue
        if any(entry.startswith(wanted) if prefix else entry == wanted for entry in environ):
            process = _stat(int(name))
            if process is None or before is None or process.state in "ZX":
                continue
            if process.start == before.start:  # else the environment was another's
                found[int(name)] = process.start
    return found

"""Process trees as ``/proc`` shows them: who belongs to one, and how to end all of it.

A process is named by its pid *and* start time, so that a reused pid is never signalled.  Used by
the supervisor for the session of a daemon that died, and by the keeper of a session's tree where
there are no namespaces.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from swarm.core.model import Containment

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


@dataclass(frozen=True, slots=True)
class _Proc:
    parent: int
    state: str
    start: int


def marker(home_id: str, task: str, fence: int) -> str:
    """The value of ``AGENTCTL_TREE`` for one attempt."""
    return f"{home_id}:{task}:{fence}"


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
    Without namespaces what cleared its environment *and* lost its parents is not found (rules,
    "The session's tree": best effort).
    """
    processes = _processes()
    root = processes.get(tree.pid)
    found: list[int] = []
    if root is not None and root.start == tree.start and root.state not in "ZX":
        found = [tree.pid, *_below(processes, [tree.pid])]
    if tree.containment is Containment.PID_NAMESPACE and tree.pid:
        return found
    marked = [pid for pid in _marked(tree.marker) if pid not in found]
    return [*found, *marked, *(p for p in _below(processes, marked) if p not in found)]


def destroy(tree: TreeId) -> None:
    """Kill what is left of ``tree``; returns at once, call again until ``survivors`` is empty.

    Raises nothing: what cannot be killed is still there for :func:`survivors` to tell.
    """
    left = survivors(tree)
    if tree.containment is not Containment.PID_NAMESPACE and len(left) > 1 and tree.pid in left:
        left.remove(tree.pid)  # the keeper adopts orphans: it goes last, or they get away
    for pid in left:
        _kill(pid)


def sweep(home_id: str) -> list[int]:
    """Kill every process that carries the marker of this home, and all below; returns the pids.

    For what a killed predecessor left behind; call again until it returns none.
    """
    marked = _marked(f"{home_id}:", prefix=True)
    found = [*marked, *descendants(marked)]
    for pid in found:
        _kill(pid)
    return found


def signal_tree(root: int, number: int) -> int:
    """Signal every descendant of ``root``, not itself; returns how many there were."""
    below = descendants([root])
    for pid in below:
        _send(pid, number)
    return len(below)


def _kill(pid: int) -> None:
    """Kill the process that has ``pid`` now, even if the pid is given away while we do."""
    before = start_time(pid)
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return  # it is gone already
    try:
        if before is not None and start_time(pid) == before:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        pass  # gone in between, or not ours to kill: survivors() tells
    finally:
        os.close(fd)


def _send(pid: int, number: int) -> None:
    with suppress(OSError):  # gone in between
        os.kill(pid, number)


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
    if pid <= 0:
        return None
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(fd, 4096)
    except OSError:
        return None  # it ended between open and read
    finally:
        os.close(fd)
    fields = text[text.rfind(b")") + 2 :].split()  # the name before may hold anything
    if len(fields) < 20:
        return None
    return _Proc(int(fields[1]), fields[0].decode(), int(fields[19]))


def _marked(value: str, prefix: bool = False) -> list[int]:
    """Pids whose initial environment holds the marker; those of others cannot be read."""
    wanted = f"{MARKER}={value}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environ = file.read(1 << 20).split(b"\0")
        except OSError:
            continue
        if any(entry.startswith(wanted) if prefix else entry == wanted for entry in environ):
            process = _stat(int(name))
            if process is not None and process.state not in "ZX":
                found.append(int(name))
    return found

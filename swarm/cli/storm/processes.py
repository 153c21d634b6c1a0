"""The processes of one fleet as ``/proc`` shows them, and signals that only ever reach those.

A process belongs to the fleet when its environment names the fleet's home, root or marker, when
it works inside its root, when its parent belongs, or when it shares a PID namespace with one that
does: the last finds what has cleared its environment, lost its parents and gone elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace

from swarm.sandbox import trees

MARKER = f"{trees.MARKER}=".encode()


@dataclass(frozen=True, slots=True)
class Process:
    """One living process; ``start`` (clock ticks since boot) and ``pid`` name it for good."""

    pid: int
    start: int
    parent: int
    name: str
    tree: str = ""
    """Value of ``AGENTCTL_TREE``: ``<home id>:<task>:<fence>``; empty outside of a session."""
    command: str = ""
    """Its command line, for people; cut."""

    @property
    def key(self) -> tuple[int, int]:
        """What names it for good."""
        return self.pid, self.start


@dataclass(slots=True)
class _Seen:
    process: Process
    space: int
    """Its PID namespace, 0 when that cannot be read."""
    ours: bool


def fleet(root: str, home_id: str = "", but: Collection[int] = ()) -> dict[int, Process]:
    """Every living process of the fleet that lies in ``root``, by pid; ``but`` are left out."""
    seen = _look(root.encode(), home_id.encode(), {os.getpid(), *but})
    return {one.process.pid: one.process for one in _spread(seen)}


def is_same(process: Process) -> bool:
    """Whether it still lives, and is no zombie."""
    return trees.alive(process.pid, process.start)


def send(process: Process, number: int) -> bool:
    """Signal this very process, never one that has its pid by now; false when it is gone."""
    return is_same(process) and trees.send(process.pid, process.start, number)


def find(pid: int) -> Process | None:
    """The process that has ``pid`` now."""
    fields = trees.stat_fields(pid)
    if not fields or fields[0] in b"ZX":
        return None
    return Process(pid, int(fields[19]), int(fields[1]), _name(pid))


def memory_mb(process: Process) -> float:
    """Resident memory; 0 when it is gone."""
    try:
        with open(f"/proc/{process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError):
        return 0.0


def descriptors(process: Process) -> int:
    """How many files, sockets and pipes it has open; 0 when it is gone."""
    try:
        return len(os.listdir(f"/proc/{process.pid}/fd"))
    except OSError:
        return 0


def descendants(process: Process) -> list[Process]:
    """All that descends from it now."""
    below = (find(pid) for pid in trees.descendants([process.pid]))
    return [one for one in below if one is not None]


def _look(root: bytes, home_id: bytes, but: Collection[int]) -> list[_Seen]:
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in but:
            continue
        pid = int(entry)
        if (process := find(pid)) is None:
            continue
        environ = _read(pid, "environ")
        tree = _tree(environ)
        ours = (
            root in environ
            or (bool(home_id) and tree.startswith(home_id + b":"))
            or _cwd(pid).startswith(root)
        )
        command = _read(pid, "cmdline")[:300].replace(b"\0", b" ").decode(errors="replace").strip()
        process = replace(process, tree=tree.decode(errors="replace"), command=command)
        found.append(_Seen(process, _space(pid), ours))
    return found


def _spread(seen: list[_Seen]) -> list[_Seen]:
    """Those that belong: at once, by their parent, or by their namespace."""
    ours = [one for one in seen if one.ours]
    here = _space(os.getpid())
    while True:
        pids = {one.process.pid for one in ours}
        spaces = {one.space for one in ours} - {0, here}
        more = [
            one
            for one in seen
            if not one.ours and (one.process.parent in pids or one.space in spaces)
        ]
        if not more:
            return ours
        for one in more:
            one.ours = True
        ours += more


def _name(pid: int) -> str:
    return _read(pid, "comm").decode(errors="replace").strip()


def _tree(environ: bytes) -> bytes:
    for entry in environ.split(b"\0"):
        if entry.startswith(MARKER):
            return entry.removeprefix(MARKER)
    return b""


def _cwd(pid: int) -> bytes:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd".encode())
    return b""


def _space(pid: int) -> int:
    with suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    return 0


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""

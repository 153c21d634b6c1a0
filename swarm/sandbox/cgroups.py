"""One session's cgroup: made with its limits, joined, killed, emptied, removed.

A :class:`Group` is a directory of the unified hierarchy (v2), or one in each v1 hierarchy that
could be had.  Where they can be made is ``swarm.sandbox.cgroup_place``'s to find out; what comes
here is its answer: controller → the home's own directory, ``…/agentctl-<home id>``.  That name is
on every path that is made, killed or removed here, so another home's cgroup is never touched.

See cgroups(7), and the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

UNIFIED = "unified"
"""Stands for the v2 hierarchy itself among the controllers."""
CONTROLLERS = ("memory", "pids", "cpu")
"""What limits are kept by; ``freezer`` (v1) only helps to kill."""
PREFIX = "agentctl-"
"""How every directory of ours begins; a home's is this and its id."""
CAGE = "session"
"""v2, without a PID namespace: the keeper's children, so that it can kill all but itself."""
THREADS_A_PROCESS = 4
"""The kernel counts threads: so many times ``max_processes`` are let through."""

_PERIOD = 100_000
"""Microseconds over which processor time is shared out."""
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_REMOVE_TRIES, _REMOVE_WAIT = 25, 0.002
"""A cgroup is busy for a moment after its last process is gone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a session's whole tree; ``None`` is none."""

    memory_mb: int | None = None
    processes: int | None = None
    cpu_percent: int | None = None
    """100 is one core."""


@dataclass(frozen=True, slots=True)
class Group:
    """One session's cgroup."""

    folders: tuple[tuple[str, str], ...]
    """Controller and directory; for v2 ``unified`` first, and all the same directory."""

    @property
    def unified(self) -> bool:
        """Whether it is one of v2."""
        return bool(self.folders) and self.folders[0][0] == UNIFIED

    @property
    def path(self) -> str:
        """Its directory; for v1 the memory controller's, where there is one."""
        return self.folder("memory") or self.folders[0][1]

    @property
    def cage(self) -> str:
        """Where the session's processes are without its keeper, when no namespace holds them."""
        if self.unified:
            return f"{self.path}/{CAGE}"
        return self.folder("freezer") or self.path

    def folder(self, controller: str) -> str:
        """The directory in which ``controller`` counts; empty when it does not."""
        return next((path for name, path in self.folders if name == controller), "")

    @property
    def directories(self) -> tuple[str, ...]:
        """Each of its directories once."""
        return tuple(dict.fromkeys(path for _, path in self.folders))


def named(folders: Mapping[str, str], task: str, fence: int) -> Group:
    """The group of one attempt, there or not; ``folders`` are the home's."""
    name = "".join(letter if letter in _NAME else "_" for letter in f"{task}.{fence}")
    name = name.lstrip(".")[:200]
    return Group(tuple((controller, f"{home}/{name}") for controller, home in folders.items()))


def make(folders: Mapping[str, str], task: str, fence: int, limits: Limits) -> Group:
    """Make the group of one attempt with its limits.  Raises ``OSError``, having made nothing."""
    group = named(folders, task, fence)
    for again in (True, True, False):
        try:
            for controller, home in folders.items():
                _make_home(home, controller, folders)
            for path in group.directories:
                with suppress(FileExistsError):  # of the same attempt: what is in it is dead
                    os.mkdir(path, 0o755)
            _limit(group, limits)
        except FileNotFoundError:  # another daemon of this home removed the empty home's between
            if not again:
                raise
        except OSError:
            remove(group)
            raise
        else:
            return group
    raise AssertionError("unreachable")


def join(group: Group, *, cage: bool = False) -> None:
    """Put the calling process, which has one thread, into the group.  Raises ``OSError``.

    ``cage``: a process of a session that no namespace holds, beside its keeper.
    """
    if cage:
        _enter(group.cage, v1=not group.unified)
        return
    for path in group.directories:
        if path != group.folder("freezer"):  # of v1: the keeper must not freeze itself
            _enter(path, v1=not group.unified)


def make_cage(group: Group) -> None:
    """Make the directory of :attr:`Group.cage`.  Raises ``OSError``."""
    if group.unified:
        with suppress(FileExistsError):
            os.mkdir(group.cage, 0o755)


def members(group: Group) -> list[int]:
    """Pids of the live processes in it, as this process sees them."""
    found: dict[int, None] = {}
    for path in group.directories:
        for folder in (path, *_below(path)):
            found.update(dict.fromkeys(_procs(folder)))
    found.pop(0, None)  # of a namespace that cannot see ours
    return list(found)


def kill(group: Group, spare: Collection[int] = ()) -> int:
    """Kill every process in it but ``spare``, its keeper; returns how many there were.

    At once where ``cgroup.kill`` is (v2, Linux 5.14), else by list; nothing in it can fork
    meanwhile where the freezer or a limit of no processes can be had.  Call it until
    :func:`members` says that it is empty.
    """
    left = [pid for pid in members(group) if pid not in spare]
    if not left:
        return 0
    if group.unified and _put(group.cage if spare else group.path, "cgroup.kill", 1):
        return len(left)
    frozen = group.folder("freezer")
    _put(group.folder("pids"), "pids.max", 0)
    if frozen:
        _put(frozen, "freezer.state", "FROZEN")
    _kill_listed(group, spare)
    if frozen:
        _put(frozen, "freezer.state", "THAWED")  # only then do the killed die
    return len(left)


def remove(group: Group) -> bool:
    """Kill what is left in it and remove it, and the home's directory when it was the last.

    Whether it is gone; waits a few hundredths of a second at most.  Raises nothing.
    """
    for _ in range(_REMOVE_TRIES):
        kill(group)
        busy = [path for path in group.directories if not _rmdir(path)]
        if not busy:
            break
        time.sleep(_REMOVE_WAIT)
    else:
        return False
    for path in group.directories:
        home = os.path.dirname(path)
        if os.path.basename(home).startswith(PREFIX):
            with suppress(OSError):  # others' sessions are in it
                os.rmdir(home)
    return True


def over(group: Group, *, alarmed: bool = False) -> str:
    """Which limit was hit, ``memory`` or ``processes``; empty while none was.

    Memory: the group itself was full and had to be killed from.  That the whole machine ran out of
    memory is not told apart by ``oom_kill``; ``oom`` (v2) and the highest usage (v1) do it.
    ``alarmed``: v1's eventfd has spoken, which it does before anything is counted as killed.
    """
    memory = group.folder("memory")
    if group.unified:
        full = _counts(memory, "memory.events").get("oom", 0) > 0
    else:
        killed = _counts(memory, "memory.oom_control").get("oom_kill", 0) > 0
        full = (killed or alarmed) and _was_full(memory)
    if full:
        return "memory"
    if _counts(group.folder("pids"), "pids.events").get("max", 0) > 0:
        return "processes"
    return ""


def leftovers(folders: Mapping[str, str]) -> list[Group]:
    """Every group there is of this home."""
    names: dict[str, None] = {}
    for home in dict.fromkeys(folders.values()):
        names.update(dict.fromkeys(os.path.basename(path) for path in _below(home)))
    return [
        Group(
            tuple(
                (controller, f"{home}/{name}")
                for controller, home in folders.items()
                if os.path.isdir(f"{home}/{name}")
            )
        )
        for name in names
    ]


def sweep(folders: Mapping[str, str]) -> list[int]:
    """Kill what a killed predecessor of this home left in its groups, remove them; the pids.

    Raises ``ValueError`` for a directory that is no home's: it is never guessed whose it is.
    """
    for home in folders.values():
        if not os.path.basename(home).startswith(PREFIX):
            raise ValueError(f"{home} is no home's cgroup")
    killed: dict[int, None] = {}
    for group in leftovers(folders):
        killed.update(dict.fromkeys(members(group)))
        remove(group)
    for home in dict.fromkeys(folders.values()):
        with suppress(OSError):
            os.rmdir(home)
    return list(killed)


# -- inside ----------------------------------------------------------------------------------------


def _make_home(home: str, controller: str, folders: Mapping[str, str]) -> None:
    with suppress(FileExistsError):
        os.mkdir(home, 0o755)
    if controller == UNIFIED:
        wanted = [one for one in CONTROLLERS if one in folders]
        given = _text(home, "cgroup.subtree_control").split()
        for one in wanted:
            if one not in given:
                _write(f"{home}/cgroup.subtree_control", f"+{one}")


def _limit(group: Group, limits: Limits) -> None:
    memory, pids, cpu = (group.folder(one) for one in CONTROLLERS)
    if memory and limits.memory_mb is not None:
        size = limits.memory_mb << 20
        if group.unified:
            _write(f"{memory}/memory.max", size)
            _put(memory, "memory.swap.max", 0)  # there only where the kernel accounts for swap
            _put(memory, "memory.oom.group", 1)
        else:
            _write(f"{memory}/memory.limit_in_bytes", size)
            _put(memory, "memory.memsw.limit_in_bytes", size)
    if pids and limits.processes is not None:
        _write(f"{pids}/pids.max", limits.processes * THREADS_A_PROCESS)
    if cpu and limits.cpu_percent is not None:
        quota = max(1000, limits.cpu_percent * _PERIOD // 100)
        if group.unified:
            _write(f"{cpu}/cpu.max", f"{quota} {_PERIOD}")
        else:
            _write(f"{cpu}/cpu.cfs_period_us", _PERIOD)
            _write(f"{cpu}/cpu.cfs_quota_us", quota)


def _was_full(folder: str) -> bool:
    """v1: whether usage ever came near the limit; ``failcnt`` stays 0 on some kernels (6.18)."""
    highest = _text(folder, "memory.max_usage_in_bytes")
    limit = _text(folder, "memory.limit_in_bytes")
    if not (highest.isdigit() and limit.isdigit()):
        return False
    return int(highest) >= int(limit) - (int(limit) >> 4)


def _enter(path: str, *, v1: bool) -> None:
    # Of v1 the one thread moves itself: moving a process waits 10–30 ms for a lock that all forks
    # of the machine share (seen on Linux 6.18).
    _write(f"{path}/{'tasks' if v1 else 'cgroup.procs'}", 0)


def _kill_listed(group: Group, spare: Collection[int]) -> None:
    """Kill by pidfd what is in the group before *and* after it was opened.

    A pid that was given away meanwhile is in it no more, or names the process that was opened.
    """
    opened: dict[int, int] = {}
    try:
        for pid in members(group):
            if pid not in spare:
                with suppress(OSError):  # gone in between
                    opened[pid] = os.pidfd_open(pid)
        for pid in members(group):
            if pid in opened:
                with suppress(OSError):
                    signal.pidfd_send_signal(opened[pid], signal.SIGKILL)
    finally:
        for fd in opened.values():
            os.close(fd)


def _procs(path: str) -> Iterable[int]:
    return (int(word) for word in _text(path, "cgroup.procs").split())


def _below(path: str) -> list[str]:
    """The directories in one."""
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _rmdir(path: str) -> bool:
    for below in _below(path):
        _rmdir(below)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _counts(folder: str, name: str) -> dict[str, int]:
    """A file of ``key number`` lines."""
    words = [line.split() for line in _text(folder, name).splitlines()]
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}


def _text(folder: str, name: str) -> str:
    """A whole small file; empty when it is not there."""
    if not folder:
        return ""
    try:
        fd = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        data = b""
        while chunk := os.read(fd, 65536):
            data += chunk
    except OSError:
        return ""  # it was removed meanwhile
    finally:
        os.close(fd)
    return data.decode("ascii", "replace").strip()


def _put(folder: str, name: str, value: int | str) -> bool:
    """Write where there is such a file; whether it took it."""
    if not folder:
        return False
    try:
        _write(f"{folder}/{name}", value)
    except OSError:
        return False
    return True


def _write(path: str, value: int | str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)

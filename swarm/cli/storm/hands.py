"""Doing one disturbance to real processes, and undoing it.

Every victim is one process, named by pid *and* start time and checked to be the fleet's; whatever
a hand holds down it lets go again, when its time is over or the storm ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from swarm.cli.storm.invariants import Harm
from swarm.cli.storm.plan import Disturbance, Kind, Target, Way
from swarm.cli.storm.processes import Process, descendants, descriptors, is_same, send
from swarm.core.model import Outcome
from swarm.landing.checks import LANDING_TASK

DISK_LEFT = 4097
"""RLIMIT_FSIZE in bytes of a process whose disk is full; odd, to be told from any other's."""
FILES_LEFT = 1
"""Descriptors that a process out of files may still open."""
LANDER = "agentctl-lander"
GUARD = "guard_program.py"
_DUTY = 0.1
"""Seconds of sleep, and of work, of a slowed process."""
_SLACK = 0.5
"""Seconds by which what follows from a disturbance may come to be written down late."""
_SYS_PIDFD_GETFD = 438
"""pidfd_getfd(2); the same number on every architecture."""
_KILLED = frozenset({Outcome.FAILED})
_LOST = frozenset({Outcome.LOST})
_STARVED = frozenset({Outcome.FAILED, Outcome.LOST, Outcome.TIMED_OUT})


@dataclass(frozen=True, slots=True)
class Victim:
    """One process, and what it is to the fleet."""

    process: Process
    name: str
    """Agent, service or ``supervisor``."""
    task: str = ""


@dataclass(slots=True)
class Held:
    """A disturbance that lasts; ``release`` undoes it, ``turn`` is called meanwhile."""

    disturbance: Disturbance
    victim: Victim
    until: float
    """Monotonic seconds."""
    release: Callable[[], None]
    turn: Callable[[float], None] | None = None
    others: tuple[Victim, ...] = ()
    """Who was disturbed along with the victim."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What can be disturbed at this moment."""

    status: dict[str, Any]
    processes: dict[int, Process]


def choose(disturbance: Disturbance, scene: Scene) -> Victim | None:
    """The victim, by the disturbance's pick; ``None`` when there is none just now."""
    found = _victims(disturbance.action.target, scene)
    return found[int(disturbance.pick * len(found)) % len(found)] if found else None


def _victims(target: Target, scene: Scene) -> list[Victim]:
    agents = scene.status["agents"]
    match target:
        case Target.DAEMON:
            busy = [agent for agent in agents if agent["state"] == "active"]
            named = [(a["pid"], a["name"], "") for a in (*busy, *agents)]
        case Target.SESSION:
            tasks = [(a["name"], a["task"]) for a in agents if a["task"]]
            named = [(task["session_pid"], name, task["id"]) for name, task in tasks]
        case Target.KEEPER:
            daemons = {a["pid"]: a["name"] for a in agents if a["pid"]}
            keepers = [p for p in scene.processes.values() if p.name == "agentctl-keeper"]
            named = [(p.pid, daemons[p.parent], "") for p in keepers if p.parent in daemons]
        case Target.CHAT | Target.COORDINATOR | Target.API:
            services = [s for s in scene.status["services"] if s["name"] == target]
            named = [(s["pid"], s["name"], "") for s in services]
        case Target.ZYGOTE:
            named = [(zygote.pid, "zygote", "") for zygote in _zygotes(scene)]
        case Target.HELPER:
            named = _helpers(scene)
        case Target.LANDER:
            named = [(one.pid, "lander", "") for one in _landers(scene)]
        case Target.CHECK:
            named = [(one.pid, "check", "") for one in _checks(scene)]
        case Target.PUSH:
            pushes = (p for p in scene.processes.values() if "receive-pack" in p.command)
            named = [(one.pid, "push", "") for one in pushes]
        case Target.HOOK:
            guards = [p for p in scene.processes.values() if GUARD in p.command]
            named = [(one.pid, "hook", "") for one in guards]
        case Target.LANDING:
            services = [s for s in scene.status["services"] if s["name"] == Target.COORDINATOR]
            named = [(s["pid"], s["name"], "") for s in services if _lands(scene)]
        case Target.SUPERVISOR | Target.FLEET:
            named = [(scene.status["swarm"]["pid"], "supervisor", "")]
    return [
        Victim(scene.processes[pid], name, task)
        for pid, name, task in named
        if pid in scene.processes
    ]


def _children(scene: Scene) -> list[Victim]:
    """Every daemon and service."""
    return [
        Victim(scene.processes[one["pid"]], one["name"])
        for one in (*scene.status["agents"], *scene.status["services"])
        if one["pid"] in scene.processes
    ]


def _helpers(scene: Scene) -> list[tuple[int, str, str]]:
    """What runs directly below a daemon, the coordinator or a helper of theirs."""
    owners = {child.process.pid: child.name for child in _children(scene)}
    names = {"agentctl-keeper", "agentctl-init"}
    found = []
    for process in sorted(scene.processes.values(), key=lambda one: one.key[1]):
        above = owners.get(process.parent)
        if above is not None and process.name not in names and process.pid not in owners:
            found.append((process.pid, above, ""))
            owners[process.pid] = above
    return found


def _landers(scene: Scene) -> list[Process]:
    return [one for one in scene.processes.values() if one.name == LANDER]


def _checks(scene: Scene) -> list[Process]:
    """All that runs as a check, its first process too."""
    found = (p for p in scene.processes.values() if f":{LANDING_TASK}" in p.tree)
    return sorted(found, key=lambda process: process.key[1])


def _lands(scene: Scene) -> bool:
    """Whether a lander is at work: it has started something."""
    landers = {one.pid for one in _landers(scene)}
    return any(one.parent in landers for one in scene.processes.values())


def _zygotes(scene: Scene) -> list[Process]:
    """The oldest child of the supervisor with that name: a daemon just forked has it too."""
    known = {one["pid"] for one in (*scene.status["agents"], *scene.status["services"])}
    supervisor = scene.status["swarm"]["pid"]
    found = [
        p
        for p in scene.processes.values()
        if p.parent == supervisor and p.name == "agentctl-zygote" and p.pid not in known
    ]
    return sorted(found, key=lambda process: process.key[1])[:1]


def perform(disturbance: Disturbance, victim: Victim, scene: Scene) -> Held | None:
    """Do it; what lasts is returned, to be let go of later.

    What is done at once, or finds its victim gone, lasts no longer than this call.
    """
    process, action = victim.process, disturbance.action
    until = time.monotonic() + disturbance.seconds
    match action.kind:
        case Kind.KILL if action.target is Target.FLEET:
            children = tuple(_children(scene))
            for child in children:
                send(child.process, signal.SIGKILL)
            return Held(disturbance, victim, until, _nothing, others=children)
        case Kind.KILL:
            send(process, signal.SIGKILL)
            return Held(disturbance, victim, until, _nothing)
        case Kind.STOP:
            if not send(process, signal.SIGSTOP):
                return None
            return Held(disturbance, victim, until, lambda: _go_on(process))
        case Kind.SLOW:
            slowed = _Slowed(process)
            return Held(disturbance, victim, until, slowed.release, slowed.turn)
        case Kind.FILL:
            release = _fill(action.way, process)
            return Held(disturbance, victim, until, release) if release is not None else None
        case Kind.DISCONNECT:
            return _disconnect(disturbance, victim, scene)
        case Kind.PEOPLE:
            return None


def harm_of(held: Held, now: float) -> Harm | None:
    """What it may do to attempts; ``now`` is Unix seconds, and the harm ends when it is over."""
    action, victim = held.disturbance.action, held.victim
    cause, until = str(action), now + held.disturbance.seconds + _SLACK
    match action.kind, action.target:
        case (Kind.KILL, Target.SESSION):
            return Harm(cause, now, until, task=victim.task, outcomes=_KILLED)
        case (Kind.KILL, Target.KEEPER | Target.HELPER):  # lost, where its program had not begun
            return Harm(cause, now, until, agent=victim.name, outcomes=_KILLED | _LOST)
        case (Kind.KILL, Target.DAEMON):
            return Harm(cause, now, until, agent=victim.name, outcomes=_LOST)
        case (Kind.KILL, Target.SUPERVISOR | Target.FLEET):
            return Harm(cause, now, until, outcomes=_LOST)
        case (Kind.STOP, Target.DAEMON):
            late = frozenset({Outcome.LOST, Outcome.TIMED_OUT})
            return Harm(cause, now, until, agent=victim.name, outcomes=late)
        case (Kind.STOP, Target.SESSION):
            late = frozenset({Outcome.TIMED_OUT})
            return Harm(cause, now, until, task=victim.task, outcomes=late)
        case (Kind.SLOW | Kind.FILL, Target.DAEMON):
            return Harm(cause, now, until, agent=victim.name, outcomes=_STARVED)
        case _:
            return None  # nothing else may harm any attempt


def _disconnect(disturbance: Disturbance, victim: Victim, scene: Scene) -> Held | None:
    """Cut its connection; where that is not permitted, all connections end with the server."""
    until = time.monotonic()
    try:
        done = cut(victim.process, scene.status["swarm"]["chat_url"])
    except PermissionError:
        servers = _victims(Target.CHAT, scene)
        done = bool(servers) and send(servers[0].process, signal.SIGKILL)
    return Held(disturbance, victim, until, _nothing) if done else None


def cut(process: Process, chat_url: str | None) -> bool:
    """Shut the chat connection of a daemon down under its hands; false when it has none.

    Raises ``PermissionError`` without the right to trace the process (pidfd_getfd(2)): root has
    it, and its own user where the kernel's ``ptrace_scope`` lets it.
    """
    port = urlsplit(chat_url or "").port
    wanted = _sockets_to(port) if port else set()
    try:
        entries = os.listdir(f"/proc/{process.pid}/fd")
        pidfd = os.pidfd_open(process.pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    try:
        for entry in entries:
            with suppress(FileNotFoundError):
                if os.readlink(f"/proc/{process.pid}/fd/{entry}") in wanted:
                    return _shut(pidfd, int(entry))
    finally:
        os.close(pidfd)
    return False


def _shut(pidfd: int, number: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    fd = libc.syscall(ctypes.c_long(_SYS_PIDFD_GETFD), pidfd, number, 0)
    if fd < 0:
        if ctypes.get_errno() == errno.EPERM:
            raise PermissionError(errno.EPERM, "its descriptors cannot be taken")
        return False  # it was closed meanwhile
    with socket.socket(fileno=fd) as taken:
        taken.shutdown(socket.SHUT_RDWR)
    return True


def _sockets_to(port: int) -> set[str]:
    """Links in ``/proc/*/fd`` of established connections to a local ``port`` (proc(5), net/tcp)."""
    found = set()
    for name in ("tcp", "tcp6"):
        with suppress(OSError), open(f"/proc/net/{name}") as file:
            for line in file.readlines()[1:]:
                fields = line.split()
                if fields[3] == "01" and int(fields[2].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _nothing() -> None:
    pass


def _go_on(process: Process) -> None:
    send(process, signal.SIGCONT)


class _Slowed:
    """A process that runs only half of the time, in turns of a tenth of a second."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._turned = 0.0
        self._asleep = False

    def turn(self, now: float) -> None:
        """Let it sleep or work, whichever is its turn."""
        if now - self._turned < _DUTY:
            return
        self._turned, self._asleep = now, not self._asleep
        send(self._process, signal.SIGSTOP if self._asleep else signal.SIGCONT)

    def release(self) -> None:
        """It works again."""
        _go_on(self._process)


def _fill(way: Way, process: Process) -> Callable[[], None] | None:
    """Lower a soft limit; returns what raises it again, for it and all it has started since."""
    if way is Way.DISK:
        limit, low = resource.RLIMIT_FSIZE, DISK_LEFT
    else:
        limit, low = resource.RLIMIT_NOFILE, descriptors(process) + FILES_LEFT
    if not is_same(process):
        return None
    try:
        soft, hard = resource.prlimit(process.pid, limit)
        resource.prlimit(process.pid, limit, (low, hard))
    except (OSError, ValueError):
        return None

    def release() -> None:
        for one in (process, *descendants(process)):  # born with its limits
            with suppress(OSError, ValueError):
                if resource.prlimit(one.pid, limit)[0] == low:
                    resource.prlimit(one.pid, limit, (soft, hard))

    return release

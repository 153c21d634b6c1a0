"""The spawn port: children by way of the zygote, their exits by pidfd, their status by waitid.

A child is *asked for* (a fork request is out), *alive* (its pid is known and watched) or gone.
Requests go out as a pipeline of at most :data:`OUTSTANDING`; the zygote's death fails what is
outstanding, and a new zygote is started.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from swarm.errors import SpawnError, SwarmError
from swarm.sandbox.trees import stat_fields
from swarm.supervisor.channel import Channel, Heard
from swarm.wire import lifeline
from swarm.wire.spawn import Forked, ForkFailed, FromZygote, ZygoteReady
from swarm.zygote.port import Zygote

OUTSTANDING = 32
"""Fork requests out at once: enough to keep the zygote busy, few enough to lose."""
ZYGOTE_AGAIN_SECONDS = (0.0, 0.1, 0.5, 1.0, 5.0)
"""Wait before a new zygote, by how many in a row died without a fork."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to fork: see :class:`swarm.wire.spawn.Fork`."""

    name: str
    kind: str
    spec: Callable[[], bytes]
    """Made when the request goes out; may raise :class:`~swarm.errors.SwarmError`."""
    log: str = ""


class Listener(Protocol):
    """Who hears of children; none of it may raise."""

    def spawned(self, name: str, pid: int) -> None:
        """The child lives."""

    def spawn_failed(self, name: str, error: str) -> None:
        """The child asked for does not."""

    def said(self, name: str, line: lifeline.ChildLine) -> None:
        """One line; may raise :class:`~swarm.errors.BadMessage`."""

    def garbled(self, name: str, what: str) -> None:
        """The child broke its protocol."""

    def exited(self, name: str, status: int) -> None:
        """The child is gone and reaped; all it said was delivered before."""

    def zygote_died(self, status: int | None) -> None:
        """The zygote is gone; a new one is on its way."""


@dataclass(slots=True)
class Child:
    """One live child."""

    name: str
    pid: int
    pidfd: int
    channel: Channel


@dataclass(frozen=True, slots=True)
class Left:
    """One live child as a supervisor hands it over to the one that follows it."""

    name: str
    pid: int
    fd: int
    """Descriptor of our end of its lifeline."""
    heard: Heard


@dataclass(slots=True)
class _Asked:
    order: Order
    sock: socket.socket


@dataclass(slots=True)
class Children:
    """All children of this process that have a lifeline, and the zygote that makes them."""

    loop: asyncio.AbstractEventLoop
    zygote: Zygote | None
    """``None``: the one that was handed over is on its way out, and a new one is to be started."""
    listener: Listener
    tls: bool = False
    stderr: int | None = None
    live: dict[str, Child] = field(default_factory=dict)
    helpers: set[int] = field(default_factory=set)
    """Other processes of ours, reaped by whoever started them."""
    _waiting: deque[Order] = field(default_factory=deque)
    _asked: dict[int, _Asked] = field(default_factory=dict)
    _next_id: int = 0
    _barren: int = 0
    _closed: bool = False
    _restart: asyncio.TimerHandle | None = None
    _zygote_up: bool = False

    def start(self) -> None:
        """Attach to the zygote that was started before the loop, or start one."""
        if self.zygote is None:
            self._new_zygote()
        else:
            self._attach(self.zygote)

    # -- from one supervisor to the next ----------------------------------------------------------

    @property
    def forking(self) -> bool:
        """Whether a fork is outstanding; it cannot be handed over."""
        return bool(self._asked)

    def left(self) -> tuple[Left, ...]:
        """The living, for the supervisor that follows; who waits for a fork it asks for anew."""
        return tuple(
            Left(child.name, child.pid, child.channel.fd, child.channel.heard)
            for child in self.live.values()
        )

    def adopt(self, left: Left, sock: socket.socket) -> None:
        """Take over a child; its lifeline is silent until :meth:`listen`.

        One that died meanwhile is still a zombie, as only we reap: its pid is no stranger's.
        Raises ``OSError`` when it cannot be watched.
        """
        self.live[left.name] = Child(
            left.name, left.pid, os.pidfd_open(left.pid), self._channel(left.name, sock, left.heard)
        )

    def listen(self) -> None:
        """Watch and hear everyone who was adopted."""
        for child in list(self.live.values()):
            self.loop.add_reader(child.pidfd, self._gone, child)
            child.channel.open()

    # -- spawning ---------------------------------------------------------------------------------

    def spawn(self, order: Order) -> None:
        """Ask for a child; ends as ``spawned`` or ``spawn_failed``, never within this call."""
        self._waiting.append(order)
        self.loop.call_soon(self._pump)

    def hasten(self, name: str) -> None:
        """A spawn is overdue: end the zygote if it is at it, so that the answer comes."""
        for order in [order for order in self._waiting if order.name == name]:
            self._waiting.remove(order)
            self.listener.spawn_failed(name, "the zygote is too busy")
            return
        if any(asked.order.name == name for asked in self._asked.values()):
            self._kill_zygote()

    def _pump(self) -> None:
        while self._waiting and self._zygote_up and len(self._asked) < OUTSTANDING:
            assert self.zygote is not None
            order = self._waiting.popleft()
            self._next_id += 1
            try:
                sock = self.zygote.fork(self._next_id, order.kind, order.spec(), order.log)
            except (SwarmError, OSError) as error:
                self.listener.spawn_failed(order.name, str(error))
                continue
            self._asked[self._next_id] = _Asked(order, sock)

    def _replied(self, reply: FromZygote) -> None:
        if isinstance(reply, ZygoteReady):
            return
        asked = self._asked.pop(reply.id, None)
        if asked is None:
            return
        self._barren = 0
        match reply:
            case Forked(pid=pid):
                self._born(asked, pid)
            case ForkFailed(error=error):
                asked.sock.close()
                self.listener.spawn_failed(asked.order.name, error)
        self._pump()

    def _born(self, asked: _Asked, pid: int) -> None:
        name = asked.order.name
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:  # too many open files: it must not run unwatched
            asked.sock.close()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.listener.spawn_failed(
                name, f"it cannot be watched: {os.strerror(error.errno or 0)}"
            )
            return
        channel = self._channel(name, asked.sock)
        child = Child(name, pid, pidfd, channel)
        self.live[name] = child
        self.loop.add_reader(pidfd, self._gone, child)
        channel.open()
        self.listener.spawned(name, pid)

    def _channel(self, name: str, sock: socket.socket, heard: Heard | None = None) -> Channel:
        return Channel(
            self.loop,
            sock,
            name,
            lambda line: self.listener.said(name, line),
            lambda what: self.listener.garbled(name, what),
            heard,
        )

    # -- the living -------------------------------------------------------------------------------

    def send(self, name: str, line: lifeline.ParentLine) -> None:
        """Say one line to a child; nothing happens when it is gone."""
        child = self.live.get(name)
        if child is not None:
            child.channel.send(line)

    def signal(self, name: str, pid: int, number: signal.Signals) -> None:
        """Signal a child, by its pidfd: never a process that only has its pid."""
        child = self.live.get(name)
        if child is not None and child.pid == pid:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child.pidfd, number)

    def _gone(self, child: Child) -> None:
        """The pidfd is readable: the child is dead."""
        found = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
        if found is None:
            return
        self.loop.remove_reader(child.pidfd)
        os.close(child.pidfd)
        child.channel.drain()
        child.channel.close()
        del self.live[child.name]
        self.listener.exited(child.name, status_of(found))

    # -- the zygote -------------------------------------------------------------------------------

    def _attach(self, zygote: Zygote) -> None:
        self.zygote = zygote
        self._zygote_up = True
        zygote.attach(self.loop, self._replied, self._zygote_ended)
        self._pump()

    def _zygote_ended(self) -> None:
        status = self._bury_zygote()
        lost = list(self._asked.values())
        self._asked.clear()
        if not self._closed:
            self.listener.zygote_died(status)
            delay = ZYGOTE_AGAIN_SECONDS[min(self._barren, len(ZYGOTE_AGAIN_SECONDS) - 1)]
            self._barren += 1
            self._restart = self.loop.call_later(delay, self._new_zygote)
        for asked in lost:
            asked.sock.close()  # if it was born after all, end-of-file tells it to go
            self.listener.spawn_failed(asked.order.name, "the zygote died")

    def _new_zygote(self) -> None:
        try:
            zygote = Zygote.start(tls=self.tls, stderr=self.stderr)
        except SpawnError as error:
            waiting = list(self._waiting)
            self._waiting.clear()
            self._restart = self.loop.call_later(ZYGOTE_AGAIN_SECONDS[-1], self._new_zygote)
            for order in waiting:
                self.listener.spawn_failed(order.name, str(error))
            return
        self._attach(zygote)

    # -- orphans and the end ----------------------------------------------------------------------

    def reap_orphans(self) -> bool:
        """Reap adopted processes that have ended; false when it must be tried again later.

        Every orphan below us is re-parented to us (we are the subreaper).  While a fork is
        outstanding its child may be among the unknown, and must not be reaped unheard.
        """
        if self._asked:
            return False
        known = {child.pid for child in self.live.values()} | self.helpers
        if self.zygote is not None and self._zygote_up:
            known.add(self.zygote.pid)
        try:
            pids = own_children()
        except OSError:
            return False  # no file can be opened just now
        for pid in pids:
            if pid not in known:
                with suppress(ChildProcessError):
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        return True

    def close(self) -> None:
        """End the zygote and wait for it; children must be gone by now."""
        self._closed = True
        if self._restart is not None:
            self._restart.cancel()
        for asked in self._asked.values():
            asked.sock.close()
        self._asked.clear()
        if self.zygote is not None and self._zygote_up:
            self.zygote.close()
            self._bury_zygote()

    def _kill_zygote(self) -> None:
        """Our own child and not reaped while it is up, so the pid is its."""
        if self.zygote is not None and self._zygote_up:
            os.kill(self.zygote.pid, signal.SIGKILL)

    def _bury_zygote(self) -> int | None:
        """Kill and reap it; its exit status, when it had one to give."""
        self._kill_zygote()
        self._zygote_up = False
        return None if self.zygote is None else _reap(self.zygote.pid)


def status_of(found: os.waitid_result) -> int:
    """An exit status as the fleet wants it: negative for a signal."""
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def own_children() -> list[int]:
    """Pids of this process's children, zombies included (proc(5), ``children``)."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return _children_by_search(os.getpid())


def _children_by_search(parent: int) -> list[int]:
    """The same from every process's ``stat``: as pid 1 we must reap on any kernel."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        fields = stat_fields(int(entry))
        if fields and int(fields[1]) == parent:
            found.append(int(entry))
    return found


def _reap(pid: int) -> int | None:
    """Reap the zygote, which was just killed if it was not dying."""
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED)
    except ChildProcessError:
        return None
    return None if found is None else status_of(found)

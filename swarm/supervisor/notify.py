"""What a service manager is told: readiness, watchdog, status (sd_notify(3), systemd.service(5)).

Own code, because the protocol is one datagram of ``KEY=value`` lines: ``sdnotify`` is unmaintained
and may block on a full socket, ``systemd-python`` must be compiled against libsystemd.  Nothing
here blocks or raises: a manager that does not listen is no reason to stop supervising.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

from swarm.core import journal
from swarm.core.fleet_state import FleetState
from swarm.core.model import AgentState

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What the manager set for the supervisor alone: no child may speak in its name."""
BEAT_SECONDS = 10.0
"""Longest time between two looks at what the manager should know."""
EXTENSION_SECONDS = 30.0
"""How much longer a start or stop may take from each beat on: a living loop is waited for."""
_LASTING = ("READY=", "MAINPID=", "STOPPING=")
"""What is said again when it could not be said."""
MAX_STATUS = 200
"""Characters of the status line."""


class Notifier:
    """The supervisor's voice to its service manager; mute where there is none.

    ``address`` is that of ``NOTIFY_SOCKET`` (empty: none), ``watchdog`` the longest silence in
    seconds that the manager bears (``None``: any).
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._every = BEAT_SECONDS if watchdog is None else min(BEAT_SECONDS, watchdog / 2)
        self._watched = watchdog is not None
        self._status = ""
        self._owed: tuple[str, ...] = ()
        self._ready = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fleet: FleetState | None = None
        self.variables: dict[str, str] = {}
        """What :meth:`take` took, for a successor that is executed in our place."""

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Notifier:
        """The one ``environ`` names; its variables are removed, so that no child inherits them."""
        taken = {name: environ.pop(name) for name in VARIABLES if name in environ}
        address = taken.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")) or len(address) < 2:
            return cls()
        made = cls(address, _watchdog(taken))
        made.variables = taken
        return made

    @property
    def listening(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._address)

    def attach(self, loop: asyncio.AbstractEventLoop, fleet: FleetState) -> None:
        """Beat from now on, from this loop: when it is wedged, the watchdog notices."""
        if self.listening:
            self._loop, self._fleet = loop, fleet
            self._beat()

    def ready(self) -> None:
        """The fleet is ready, or was taken over by a supervisor that follows another."""
        self._ready = True
        self._send("READY=1", f"MAINPID={os.getpid()}", *self._news())

    def entry(self, entry: journal.Entry) -> None:
        """Something happened; the manager hears of the stop."""
        if isinstance(entry, journal.StopAsked):
            self._ready = False
            self._send("STOPPING=1", _extension(), *self._news())

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """The configuration is read and applied within this block."""
        if not self._ready:  # READY=1 at its end would be a lie while the fleet starts or stops
            yield
            return
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self._send("READY=1", *self._news())

    def close(self) -> None:
        """No more beats."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        assert self._loop is not None
        said = ["WATCHDOG=1"] if self._watched else []
        if not self._ready:
            said.append(_extension())
        self._send(*said, *self._news())
        self._timer = self._loop.call_later(self._every, self._beat)

    def _news(self) -> list[str]:
        """The status line, when it is another than the last one told."""
        status = "" if self._fleet is None else describe(self._fleet)
        if status == self._status:
            return []
        self._status = status
        return [f"STATUS={status}"]

    def _send(self, *lines: str) -> None:
        lines = tuple(dict.fromkeys((*self._owed, *lines)))
        if not self._address or not lines:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as speaking:
                speaking.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError:  # its queue is full, or it is gone: the next beat says it again
            self._owed = tuple(line for line in lines if line.startswith(_LASTING))
            self._status = ""
        else:
            self._owed = ()


def _watchdog(variables: Mapping[str, str]) -> float | None:
    """Seconds of ``WATCHDOG_USEC``, when it is meant for this process (sd_watchdog_enabled(3))."""
    meant = variables.get("WATCHDOG_PID", "")
    usec = variables.get("WATCHDOG_USEC", "")
    if meant and meant != str(os.getpid()):
        return None
    if not (usec.isascii() and usec.isdigit() and len(usec) < 19) or int(usec) == 0:
        return None
    return int(usec) / 1e6


def _extension() -> str:
    return f"EXTEND_TIMEOUT_USEC={int(EXTENSION_SECONDS * 1e6)}"


def describe(fleet: FleetState) -> str:
    """The fleet in one line for ``systemctl status``: ``3 agents, 1 active``."""
    states = [agent.state for agent in fleet.agents.values()]
    if fleet.stop is not None:
        return f"stopping, {len(states)} agents" if len(states) != 1 else "stopping, 1 agent"
    parts = [f"{len(states)} agent{'s' * (len(states) != 1)}", f"{fleet.active} active"]
    if down := states.count(AgentState.DEGRADED):
        parts.append(f"{down} degraded")
    if fleet.starting:
        parts.insert(0, "starting")
    elif fleet.paused is not None:
        reason = fleet.paused.reason
        parts.append(f"paused: {reason}" if reason else "paused")
    return " ".join(", ".join(parts).split())[:MAX_STATUS]

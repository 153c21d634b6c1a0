"""Signals only post events; before there is a loop to post to, they end the start."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType

from swarm.core.fleet_events import StopAsked
from swarm.errors import Interrupted
from swarm.supervisor.shell import Shell

HELD_BACK = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""What ``agentctl swarm up`` as pid 1 blocks until the supervisor it becomes can take it."""


def end_by_signal_from_now_on() -> None:
    """Let TERM end the start as Ctrl-C does, until :class:`Signals` takes over.

    For pid 1 of a namespace the default action of a signal is to do nothing
    (pid_namespaces(7)): without a handler a container could not be stopped while it starts.  The
    command line blocked them across the exec; what came meanwhile is delivered here.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted("ended by SIGTERM before it was up")

    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


class Signals:
    """TERM and INT stop (a second INT skips the grace), HUP reloads, CHLD reaps orphans."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, shell: Shell, reload: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._shell = shell
        self._interrupts = 0
        self._handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._interrupt,
            signal.SIGHUP: reload,
            signal.SIGCHLD: shell.orphans_ended,
        }
        for number, handler in self._handlers.items():
            loop.add_signal_handler(number, handler)

    @property
    def interrupted(self) -> bool:
        """Whether the person pressed Ctrl-C."""
        return self._interrupts > 0

    def close(self) -> None:
        """Back to the defaults."""
        for number in self._handlers:
            self._loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self._shell.post(StopAsked())

    def _interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            self._shell.console.say("stopping; Ctrl-C again skips the grace")
        self._shell.post(StopAsked(now=self._interrupts > 1))

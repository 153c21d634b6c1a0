"""Signals only post events."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from swarm.core.fleet_events import StopAsked
from swarm.supervisor.shell import Shell


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

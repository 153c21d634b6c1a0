"""What the person who said ``up`` sees: lines on standard output, or one line on the ready pipe."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from swarm.core import journal
from swarm.core.view import tell
from swarm.errors import ConfigError, SwarmError
from swarm.logs import JsonLog
from swarm.supervisor.notify import Notifier

FEW = 10
"""Up to so many agents are named one by one as they become ready."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a console that has said ``ready`` is handed over as."""

    quiet: bool = False
    """Nobody watches standard output: it was started with ``--detach``."""
    expected: int = 0
    lines: tuple[str, ...] = ()


class Console:
    """Never blocks: a line that the terminal or pipe does not take now is dropped."""

    def __init__(self, ready_fd: int | None) -> None:
        self._ready_fd = ready_fd
        self._quiet = ready_fd is not None
        self.lines: list[str] = []
        """Lines said so far while starting; the ready pipe gets them all at once."""
        self.log: JsonLog | None = None
        """Where the same is kept for `agentctl swarm logs`."""
        self.manager = Notifier()
        """The service manager, when one started us; it hears what a person would want to know."""
        self.starting = True
        self.expected = 0
        self._ready = 0

    @property
    def heard(self) -> Heard:
        """As it is to be handed over; it has said ``ready``."""
        return Heard(self._quiet, self.expected, tuple(self.lines))

    @classmethod
    def going_on(cls, heard: Heard) -> Console:
        """The console of a supervisor that takes over from another."""
        made = cls(None)
        made._quiet, made.expected, made.lines = heard.quiet, heard.expected, list(heard.lines)
        made.starting = False
        return made

    def say(self, text: str) -> None:
        """One line for the person."""
        if self.starting:
            self.lines.append(text)
        self._aside(text)

    def ready(self, agents: int) -> None:
        """Everyone waits for work."""
        self.say(f"ready: {agents} agent{'s' * (agents != 1)}")
        self.starting = False
        self.manager.ready()
        self._tell({"ready": True, "pid": os.getpid(), "lines": self.lines})

    def failed(self, error: SwarmError) -> None:
        """It could not be started, or not all of it."""
        if self.starting and self._ready_fd is not None:
            what = "\n".join(error.problems) if isinstance(error, ConfigError) else error.what
            self._tell({"error": what, "remedy": error.remedy, "exit_code": error.exit_code})
        elif isinstance(error, ConfigError):
            for problem in error.problems:
                _write_line(2, f"agentctl: {' '.join(problem.split())}")
            if error.remedy:
                _write_line(2, f"agentctl: {error.remedy}")
        else:
            _write_line(2, f"agentctl: {error}")
        self.starting = False

    def entry(self, entry: journal.Entry) -> None:
        """What happens, as far as somebody who looks on wants to know."""
        self.manager.entry(entry)
        match entry:
            case journal.ChildReady(child=child) if self.starting:
                self._agent_ready(child)
            case (
                journal.ChildBackoff()
                | journal.ChildDegraded()
                | journal.ChildUnresponsive()
                | journal.SessionStarted()
                | journal.SessionEnded()
                | journal.TaskLost()
                | journal.TaskReported()
            ):
                self._aside(f"{entry.child}: {_with_cause(entry)}")
            case (
                journal.Paused()
                | journal.Resumed()
                | journal.QuotaHit()
                | journal.QuotaLifted()
                | journal.ZygoteDied()
                | journal.Upgraded()
                | journal.UpgradeRefused()
            ):
                self._aside(tell(entry))
            case journal.BudgetNear() | journal.BudgetSpent() | journal.BudgetOpen():
                whose = f"{entry.child}: " if entry.child else ""
                warning = "" if isinstance(entry, journal.BudgetOpen) else "warning: "
                self._aside(f"{warning}{whose}{tell(entry)}")
            case _:
                pass

    def _aside(self, text: str) -> None:
        """A line that is not part of the answer to ``up --detach``."""
        if self.log is not None:
            self.log.write("told", text=text)
        if not self._quiet:
            _write_line(1, text)

    def _agent_ready(self, child: str) -> None:
        if not child.startswith("swarm-"):
            if child != "chat":  # its address says so
                self.say(f"{child} ready")
            return
        self._ready += 1
        if self.expected <= FEW:
            self.say(f"{child} ready")
        elif self._ready % max(1, self.expected // 5) == 0:
            self._aside(f"{self._ready} of {self.expected} agents have joined")

    def _tell(self, answer: dict[str, object]) -> None:
        if self._ready_fd is None:
            return
        with suppress(OSError):  # nobody waits any more
            os.write(self._ready_fd, msgspec.json.encode(answer) + b"\n")
        os.close(self._ready_fd)
        self._ready_fd = None


def _with_cause(entry: journal.Entry) -> str:
    if isinstance(entry, journal.ChildBackoff):
        return f"{entry.reason}; {tell(entry)}"
    return tell(entry)


def _write_line(fd: int, text: str) -> None:
    """A line, if it can be had at once; the supervisor waits for no terminal."""
    data = (text + "\n").encode(errors="replace")
    with suppress(OSError):  # the terminal is gone, the swarm is not
        _readable, writable, _ = select.select([], [fd], [], 0)
        if writable:
            os.write(fd, data)

"""Every error a person may see, and what it tells them to do next.

The tree, with the exit code the command line gives each (product contract, "Commands")::

    SwarmError                1
    ├─ UsageError             2   the command or a value in it is wrong
    ├─ ConfigError            2   swarm.yaml or a role file; carries every problem, with lines
    ├─ TaskEndedBadly         3   a waited-for task ended in anything but done
    ├─ NotRunning             4   no swarm is running in this home
    ├─ AlreadyRunning         5   another swarm holds this home's lock
    ├─ WaitedTooLong        124
    ├─ Interrupted          130
    ├─ ControlError           1   the supervisor refused, or its answer makes no sense
    ├─ LedgerError            1   the task ledger cannot be read or written
    ├─ StaleLease             1   what an outsider says of a task it does not hold (any more)
    ├─ WorkspaceError         1   a workspace or identity cannot be made, read or removed
    ├─ GitError               1   git said no; carries the command and what it printed
    ├─ ChatError              1   the chat server cannot be reached or refused us
    ├─ SessionError           1   an agent CLI cannot be started
    └─ SpawnError             1   a child process could not be started

    WireError                     bytes from outside that make no sense: the peer's fault,
    ├─ FrameTooLarge              handled where the peer is, never shown as a traceback
    └─ BadMessage
"""

from __future__ import annotations

from collections.abc import Sequence


class SwarmError(Exception):
    """Something a person asked for cannot be done.

    ``what`` says what is wrong, naming the field, file or command; ``remedy`` says what to do
    about it.  ``str()`` gives both on one line.
    """

    exit_code = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.what}; {self.remedy}" if self.remedy else self.what
        return " ".join(text.split())


class UsageError(SwarmError):
    """The command line, or a value in it, is wrong."""

    exit_code = 2


class ConfigError(SwarmError):
    """A configuration that cannot be used; ``problems`` are one line each, ``path:line: what``."""

    exit_code = 2

    def __init__(self, problems: Sequence[str], remedy: str = "") -> None:
        super().__init__("; ".join(problems) or "the configuration is not usable", remedy)
        self.problems = tuple(problems)


class TaskEndedBadly(SwarmError):
    """A waited-for task ended, but not as ``done``."""

    exit_code = 3


class NotRunning(SwarmError):
    """No swarm is running in this home."""

    exit_code = 4


class AlreadyRunning(SwarmError):
    """Another swarm holds the lock of this home."""

    exit_code = 5


class WaitedTooLong(SwarmError):
    """A wait with a limit reached it."""

    exit_code = 124


class Interrupted(SwarmError):
    """The person pressed Ctrl-C."""

    exit_code = 130


class ControlError(SwarmError):
    """The supervisor refused a request, or its answer makes no sense."""


class LedgerError(SwarmError):
    """The ledger cannot be read or written."""


class StaleLease(SwarmError):
    """The lease is over, or somebody else's: nothing was changed."""


class WorkspaceError(SwarmError):
    """A workspace or an identity cannot be made, read or removed."""


class GitError(SwarmError):
    """Git said no."""


class ChatError(SwarmError):
    """The chat server cannot be reached, or refused us."""


class SessionError(SwarmError):
    """An agent CLI cannot be started."""


class SpawnError(SwarmError):
    """A child process could not be started."""


class WireError(Exception):
    """Bytes from outside that make no sense.  The connection they came on decides what follows."""


class FrameTooLarge(WireError):
    """A frame or line longer than its documented cap; the connection is closed."""


class BadMessage(WireError):
    """A frame that is no message of its protocol; it is answered or ignored, never obeyed."""

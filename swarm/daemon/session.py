"""A running session as the daemon sees it: pipes in, events for the machine out.

It owns the descriptors of one :class:`~swarm.sandbox.launch.Tree`.  The loop polls ``descriptors``
and hands whatever is readable to :meth:`Session.readable`.
"""

from __future__ import annotations

import os
from contextlib import suppress

from swarm.daemon.state import (
    Event,
    Job,
    LaunchFailed,
    SessionBegan,
    SessionOver,
    SessionOverLimit,
    SessionPrinted,
    SessionSpent,
    SessionSpoke,
    SessionStuck,
)
from swarm.sandbox.alarms import Alarm
from swarm.sandbox.cgroups import Limits
from swarm.sandbox.launch import Tree, kill, read_status, reap, terminate
from swarm.sessions.model import (
    Parser,
    Problem,
    SessionEvent,
    SessionStarted,
    Spend,
    Summary,
    Text,
    ToolCall,
)
from swarm.spawner.folders import write_whole
from swarm.wire.framing import LineBuffer

READ_BYTES = 64 * 1024
STDERR_TAIL = 8 * 1024
"""Bytes of standard error kept for the reason and the log."""
RAW_LOG_BYTES = 64 * 1024 * 1024
"""Size at which a session's raw log ends, with a note that says so."""
MAX_STATUS_LINE = 64 * 1024
UNLIMITED = Limits()
MAX_EARLY = 64
"""Events of a program that spoke before its start was told; running totals, so the last matter."""
DRAIN_BYTES = 8 * 1024 * 1024
"""Most that is read of a pipe once its writers are gone; a pipe holds far less."""


class RawLog:
    """The whole standard output of one attempt, appended to its file up to a size.

    A disk that is full or a folder that is gone costs the log, never the session.
    """

    __slots__ = ("_fd", "_left")

    def __init__(self, path: str, cap: int = RAW_LOG_BYTES) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = -1
        self._left = 0
        with suppress(OSError):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            self._fd = os.open(path, flags, 0o600)
            self._left = max(0, cap - os.fstat(self._fd).st_size)

    def write(self, data: bytes) -> None:
        """Append; what is over the cap is left out."""
        if self._fd < 0:
            return
        whole = len(data) <= self._left
        with suppress(OSError):
            if self._left > 0:
                os.write(self._fd, data if whole else data[: self._left])
            if not whole and self._left >= 0:
                os.write(self._fd, b'\n{"type":"agentctl","note":"the log ends here: too long"}\n')
        self._left = self._left - len(data) if whole else -1

    def close(self) -> None:
        """No more is written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def keep_prompt(path: str, text: str) -> None:
    """What a session was told, beside its log; like that, a full disk costs it, not the session."""
    with suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_whole(path, text)


class Session:
    """One session from its launch to the moment its tree is empty, and what it left to judge."""

    __slots__ = (
        "_alarm", "_began", "_early", "_limits", "_log", "_parser", "_status", "exit_status",
        "failure", "job", "over", "stderr_tail", "summary", "tells_result", "tree", "trouble",
    )  # fmt: skip

    def __init__(
        self,
        job: Job,
        tree: Tree,
        parser: Parser,
        *,
        tells_result: bool,
        log: RawLog,
        limits: Limits = UNLIMITED,
        trouble: str = "",
    ) -> None:
        self.job = job
        self.tree = tree
        self.summary = Summary()
        self.exit_status: int | None = None
        """Of the program; negative is a signal; ``None`` while unknown."""
        self.failure = ""
        """Why the program was never started."""
        self.stderr_tail = b""
        self.tells_result = tells_result
        self.over = False
        self._parser = parser
        self._log = log
        self._status = LineBuffer(MAX_STATUS_LINE)
        self._began = False
        self._early: list[Event] = []
        self._limits = limits
        self.trouble = trouble
        """Why it has no cgroup though there should be one."""
        self._alarm = Alarm(tree.group) if tree.group is not None else None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to poll for reading; valid until :attr:`over`."""
        alarms = self._alarm.descriptors if self._alarm is not None else ()
        return (self.tree.stdout, self.tree.stderr, self.tree.status, self.tree.pidfd, *alarms)

    def readable(self, fd: int, wall: float) -> tuple[list[Event], bool]:
        """What ``fd`` has to say, and whether it is at its end and needs no more polling.

        ``wall`` is Unix seconds.  After a :class:`SessionOver` every descriptor is closed.
        """
        if self.over:
            return [], True
        if fd == self.tree.pidfd:
            return self._finish(wall), True
        if self._alarm is not None and fd in self._alarm.descriptors:
            return self._alarmed(self._alarm, fd), False
        data = _read(fd)
        if data is None:
            return [], False
        if not data:
            return [], True
        return self._take(fd, data, wall), False

    def terminate(self) -> None:
        """TERM to the tree."""
        if not self.over:
            terminate(self.tree)

    def kill(self) -> None:
        """KILL to the tree."""
        if not self.over:
            kill(self.tree)

    # -- inside ------------------------------------------------------------------------------------

    def _alarmed(self, alarm: Alarm, fd: int = -1) -> list[Event]:
        """Once, when a limit of the cgroup was hit; the kernel may have killed only one of many."""
        if alarm.told:
            if fd >= 0:
                alarm.look(fd)
            return []
        match alarm.look(fd):
            case "memory":
                limit = f"used more than limits.memory_mb: {self._limits.memory_mb} MB"
            case "processes":
                limit = f"used more than limits.max_processes: {self._limits.processes}"
            case _:
                return []
        return [SessionOverLimit(limit)]

    def _take(self, fd: int, data: bytes, wall: float) -> list[Event]:
        if fd == self.tree.status:
            return [event for line in self._status.feed(data) for event in self._told(line, wall)]
        if fd == self.tree.stderr:
            self.stderr_tail = (self.stderr_tail + data)[-STDERR_TAIL:]
            return self._in_turn(self._news(self._parser.feed_stderr(data)))
        self._log.write(data)
        events = self._parser.feed(data)
        news = self._news(events)
        progress = not events or any(not isinstance(event, Problem) for event in events)
        if progress and not any(isinstance(one, SessionSpoke | SessionSpent) for one in news):
            # Perhaps of no interest to people; a provider's refusals are no progress.
            news.insert(0, SessionPrinted())
        return self._in_turn(news)

    def _in_turn(self, events: list[Event]) -> list[Event]:
        """What the program said comes after the word that it was started.

        They travel by two pipes: a quick program is heard before the root of its tree has told.
        """
        if self._began:
            return events
        self._early = (self._early + events)[-MAX_EARLY:]
        return []

    def _told(self, line: bytes, wall: float) -> list[Event]:
        status = read_status(line)
        if status.started is not None:
            self._began = True
            tree = self.tree
            began = SessionBegan(
                status.started,
                tree.tree_pid,
                tree.tree_start,
                tree.containment,
                wall,
                tree.group.path if tree.group is not None else "",
            )
            early, self._early = self._early, []
            return [began, *early]
        if status.failed is not None:
            self.failure = status.failed
            return [LaunchFailed(status.failed)]
        if status.prelude_failed is not None:
            why = status.error or self._last_words() or f"exit status {status.exit}"
            self.failure = f"the clone could not be made ready: {why}"
            return [LaunchFailed(self.failure, unprepared=True)]
        if status.exit is not None:
            self.exit_status = status.exit
        return []

    def _last_words(self) -> str:
        lines = self.stderr_tail.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def _news(self, events: list[SessionEvent]) -> list[Event]:
        """The machine hears what changed, once for each batch."""
        text: str | None = None
        spent = stuck = False
        for event in events:
            self.summary = self.summary.heard(event)
            match event:
                case Text(words, raw=False):
                    text, stuck = words, False
                case ToolCall(name, detail):
                    text, stuck = f"{name}: {detail}" if detail else name, False
                case Spend() | SessionStarted():
                    spent = True
                case Problem(fatal=True):
                    stuck = True
                case _:
                    pass
        news: list[Event] = []
        if text is not None:
            news.append(SessionSpoke(text))
        if spent:
            summary = self.summary
            news.append(SessionSpent(summary.usage, summary.cost_usd, summary.session_id))
        if stuck:
            news.append(SessionStuck())
        return news

    def _finish(self, wall: float) -> list[Event]:
        """The tree is empty: read what is left in the pipes, then let go of everything."""
        events: list[Event] = []
        for fd in (self.tree.status, self.tree.stderr, self.tree.stdout):
            left = DRAIN_BYTES
            while left > 0 and (data := _read(fd)):
                left -= len(data)
                events += self._take(fd, data, wall)
        events += self._in_turn(self._news(self._parser.finish()))
        self._log.close()
        if self._alarm is not None:
            events += self._alarmed(self._alarm)
            self._alarm.close()
        reap(self.tree)
        self.over = True
        events.append(SessionOver())
        return events


def _read(fd: int) -> bytes | None:
    """What can be read now; ``None`` when nothing can, empty at the end."""
    try:
        return os.read(fd, READ_BYTES)
    except BlockingIOError:
        return None

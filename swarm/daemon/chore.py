"""Work that would block, done by a forked child: clones, fetches, looking up a host's name.

A daemon must beat on while git copies a repository, and it has no threads.  The child answers with
bytes on a pipe and is gone; the pipe's end is the child's.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from swarm.errors import SwarmError
from swarm.sandbox import kernel

MAX_ANSWER = 256 * 1024
"""Bytes of an answer that are kept."""
_OK, _FAILED = b"+", b"-"


class Chore:
    """One child at work.  ``fd`` becomes readable when it has something to say, or ended."""

    __slots__ = ("_answer", "_pid", "fd")

    def __init__(self, work: Callable[[], bytes], keep: int = -1) -> None:
        """Fork and begin ``work``; ``OSError`` when the kernel refuses.

        ``keep`` is a descriptor the child needs too; it has no other of the daemon's.
        """
        reading, writing = os.pipe()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
        if pid == 0:
            _work(work, writing, parent, keep)
        os.close(writing)
        os.set_blocking(reading, False)
        self._answer = b""
        self._pid = pid
        self.fd = reading

    def read(self) -> bool:
        """Take in what the child said; true once it has ended."""
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return False
            if not data:
                return True
            if len(self._answer) < MAX_ANSWER:
                self._answer += data

    def finish(self) -> bytes:
        """The answer of a child that has ended; the child is reaped.

        Raises :class:`~swarm.errors.SwarmError` with the child's own words when it failed.
        """
        os.close(self.fd)
        os.waitpid(self._pid, 0)
        mark, answer = self._answer[:1], self._answer[1:]
        if mark == _OK:
            return answer
        raise SwarmError(answer.decode("utf-8", "replace") or "a helper process was killed")

    def abandon(self) -> None:
        """Kill it, with all it started, and reap it."""
        with suppress(ProcessLookupError):  # it may not have made its group yet
            os.killpg(self._pid, signal.SIGKILL)
        os.kill(self._pid, signal.SIGKILL)  # ours and not reaped: at worst a zombie
        os.close(self.fd)
        os.waitpid(self._pid, 0)


def in_helper(work: Callable[[], bytes]) -> bytes:
    """Run ``work`` in a helper process and wait for its answer.

    For what an idle daemon does once: every Python object that is looked at is written to (its
    reference count), so its page becomes the daemon's own; in a helper those pages go with it
    (measured: 2 MB of the 4 that a daemon otherwise has of its own).  Raises
    :class:`~swarm.errors.SwarmError` with the helper's words, ``OSError`` when it cannot be forked.
    """
    chore = Chore(work)
    poll = select.poll()
    poll.register(chore.fd, select.POLLIN)
    while not chore.read():
        poll.poll()
    return chore.finish()


def _work(work: Callable[[], bytes], writing: int, parent: int, keep: int) -> NoReturn:
    """The child's whole life."""
    try:
        os.setpgid(0, 0)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        # Nothing of the daemon's stays open here, or its peers would not see it end.
        start = 3
        for fd in sorted({writing} if keep < 0 else {writing, keep}):
            os.closerange(start, fd)
            start = fd + 1
        os.closerange(start, os.sysconf("SC_OPEN_MAX"))
        try:
            answer = _OK + work()
        except (SwarmError, OSError) as error:
            answer = _FAILED + str(error).encode("utf-8", "replace")
        except Exception as error:  # noqa: BLE001 - a forked child has nobody above to tell
            answer = _FAILED + f"{type(error).__name__}: {error}".encode("utf-8", "replace")
        done = 0
        while done < len(answer):
            done += os.write(writing, answer[done : done + 65536])
    finally:
        os._exit(0)

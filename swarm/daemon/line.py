"""The daemon's end of its lifeline: plain reads and writes on a descriptor, never blocking."""

from __future__ import annotations

import os
import select

from swarm.errors import WireError
from swarm.wire import lifeline
from swarm.wire.framing import LineBuffer

RECEIVE_BYTES = 64 * 1024
MAX_UNSENT = 4 * 1024 * 1024
"""Bytes the supervisor has not read; beyond it gauges are dropped, and it will miss our beats."""
_GAUGES = (lifeline.Beat, lifeline.Spent, lifeline.Trouble, lifeline.ChatState)


class Lifeline:
    """One descriptor, with what is unsent and what is unfinished."""

    __slots__ = ("_buffer", "_out", "fileno", "lost")

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fileno = fd
        self.lost = False
        """The supervisor is gone."""
        self._buffer = LineBuffer()
        self._out = b""

    @property
    def interest(self) -> int:
        """What to poll for: reading always, writing while something is unsent."""
        return select.POLLIN | (select.POLLOUT if self._out else 0)

    def send(self, line: lifeline.ChildLine) -> None:
        """Say one line."""
        if self.lost or (len(self._out) > MAX_UNSENT and isinstance(line, _GAUGES)):
            return
        self._out += lifeline.encode(line)
        self.flush()

    def flush(self) -> None:
        """Write what the supervisor takes now."""
        try:
            while self._out:
                self._out = self._out[os.write(self.fileno, self._out) :]
        except BlockingIOError:
            return
        except OSError:
            self.lost = True

    def receive(self) -> list[bytes]:
        """Whole lines; :attr:`lost` is set at the end, and for a line longer than any of ours."""
        try:
            data = os.read(self.fileno, RECEIVE_BYTES)
            if not data:
                self.lost = True
            return self._buffer.feed(data)
        except BlockingIOError:
            return []
        except (OSError, WireError):
            self.lost = True
            return []

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self.fileno)

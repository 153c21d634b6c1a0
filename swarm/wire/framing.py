"""Newline-delimited JSON, the framing of the lifeline, the control socket and the zygote.

Sans-I/O: the caller feeds what it read and gets whole lines.
"""

from __future__ import annotations

from swarm.errors import FrameTooLarge

MAX_LINE = 4 * 1024 * 1024
"""Bytes in one line, its newline left out.  A task's prompt (at most 256 KiB) fits many times."""


class LineBuffer:
    """Collects bytes and gives back whole lines without their newline.

    Raises :class:`FrameTooLarge` when a line passes ``cap`` bytes, finished or not; the buffer is
    then of no more use, and the connection it belongs to should be closed.
    """

    __slots__ = ("_buffer", "_cap", "_searched")

    def __init__(self, cap: int = MAX_LINE) -> None:
        self._buffer = bytearray()
        self._cap = cap
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take in ``data``; return every line it completed, oldest first."""
        self._buffer += data
        lines: list[bytes] = []
        start = 0
        while (end := self._buffer.find(b"\n", max(start, self._searched))) >= 0:
            if end - start > self._cap:
                raise FrameTooLarge(f"a line of {end - start} bytes; the cap is {self._cap}")
            lines.append(bytes(self._buffer[start:end]))
            start = end + 1
        if start:
            del self._buffer[:start]
        self._searched = len(self._buffer)
        if len(self._buffer) > self._cap:
            raise FrameTooLarge(f"a line of more than {self._cap} bytes")
        return lines

    @property
    def unfinished(self) -> bytes:
        """Those bytes, for whoever goes on reading in our place."""
        return bytes(self._buffer)

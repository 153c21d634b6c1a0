"""JSON lines from a CLI's pipe → events, whatever bytes come.

A line that is no JSON object is text as it came; a line over the cap is left out with a word
about it.  A :class:`Reader` gives one CLI's meaning to the objects.
"""

from __future__ import annotations

import msgspec

from swarm.sessions.model import (
    MAX_TEXT,
    Note,
    Problem,
    ProblemKind,
    SessionEvent,
    Text,
    shortened,
)

MAX_LINE = 8 * 1024 * 1024
"""Bytes of one line.  CLIs print whole tool results on a line: megabytes happen, more is junk."""

MAX_ERROR_LINE = 64 * 1024
"""Bytes of one line of standard error; longer ones are dropped without a word."""


class Reader:
    """What one CLI means by its records; keeps what it must remember between them."""

    def read(self, record: dict[str, object]) -> list[SessionEvent]:  # noqa: ARG002 - a default
        """The events of one record.  Any record: one of an unknown kind has none."""
        return []

    def complain(self, line: str) -> list[SessionEvent]:  # noqa: ARG002 - a default
        """The trouble that a line of standard error tells, beside the note it is anyway."""
        return []


class LineCutter:
    """Bytes in, whole lines out; ``None`` stands for a line over the cap, which is dropped."""

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._part = bytearray()
        self._dropping = False

    def cut(self, data: bytes) -> list[bytes | None]:
        """The lines that ``data`` completes, empty ones left out."""
        lines: list[bytes | None] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._keep(data[start:end])
            self._complete(lines)
            start = end + 1
        self._keep(data[start:])
        return lines

    def rest(self) -> list[bytes | None]:
        """What was left without a newline."""
        lines: list[bytes | None] = []
        self._complete(lines)
        return lines

    def _keep(self, piece: bytes) -> None:
        if self._dropping:
            return
        if len(self._part) + len(piece) > self._max_line:
            self._part = bytearray()  # clear() would keep the megabytes allocated
            self._dropping = True
        else:
            self._part += piece

    def _complete(self, lines: list[bytes | None]) -> None:
        if self._dropping:
            self._dropping = False
            lines.append(None)
            return
        line = bytes(self._part).strip()
        self._part = bytearray()
        if line:
            lines.append(line)


class LineParser:
    """Cuts the streams into lines and hands objects to a reader."""

    def __init__(self, reader: Reader, max_line: int = MAX_LINE) -> None:
        self._reader = reader
        self._max_line = max_line
        self._output = LineCutter(max_line)
        self._errors = LineCutter(MAX_ERROR_LINE)

    def feed(self, data: bytes) -> list[SessionEvent]:
        """The events of the lines that ``data`` completes."""
        return [event for line in self._output.cut(data) for event in self._read(line)]

    def feed_stderr(self, data: bytes) -> list[SessionEvent]:
        """The events of lines of standard error."""
        return [event for line in self._errors.cut(data) for event in self._complain(line)]

    def finish(self) -> list[SessionEvent]:
        """The events of lines left unfinished."""
        events = [event for line in self._errors.rest() for event in self._complain(line)]
        events += [event for line in self._output.rest() for event in self._read(line)]
        return events

    def _read(self, line: bytes | None) -> list[SessionEvent]:
        if line is None:
            what = f"a line of over {self._max_line} bytes was left out"
            return [Problem(ProblemKind.OTHER, what)]
        if line.startswith(b"{"):
            try:
                record = msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                record = None  # not JSON after all, or nested to the depth of an attack
            if isinstance(record, dict):
                return self._reader.read(record)
        return [Text(_decoded(line), raw=True)]

    def _complain(self, line: bytes | None) -> list[SessionEvent]:
        if line is None:
            return []
        text = _decoded(line)
        return [Note(text), *self._reader.complain(text)]


def _decoded(line: bytes) -> str:
    return shortened(line[: MAX_TEXT * 4].decode("utf-8", "replace"))

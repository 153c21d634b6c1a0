"""Printing for people: hostile text made harmless, tables, ages.

Titles, reasons, logs and what sessions say come from chat, files and agent CLIs.  Printed as
they are they could move the cursor, rename the window or forge lines; so everything passes
:func:`one_line` or :func:`many_lines` first, and ``rich`` gets it as ``Text``, never as markup.
"""

from __future__ import annotations

import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

_HOSTILE = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1: cursor, colours, titles
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # invisible, and bidirectional order
    "\ud800-\udfff"  # lone surrogates cannot be written at all
    "\U000e0000-\U000e007f"  # invisible tags
    "]"
)

_SPACES = re.compile(r"[ \t\r\n\f\v]+")

STYLES = {
    "idle": "green",
    "active": "bold cyan",
    "promoting": "cyan",
    "demoting": "cyan",
    "starting": "yellow",
    "stopping": "yellow",
    "backoff": "red",
    "degraded": "bold red",
    "stopped": "dim",
    "running": "cyan",
    "done": "green",
    "failed": "red",
    "needs_human": "bold yellow",
    "cancelled": "dim",
    "queued": "",
}
"""The colour of a state on a terminal."""

FREE_TEXT = frozenset({"TITLE", "REASON", "AFTER"})
"""Columns that a narrow terminal cuts, beside the last; nobody types what they hold."""
LEAST_TEXT = 8
"""Columns of free text worth reading."""
GAP = 2
"""Columns between two of a table."""


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"  # the latter as JSON has it


def many_lines(text: str) -> str:
    """``text`` with every control character but newline and tab made visible."""
    return _HOSTILE.sub(_escape, text.replace("\r\n", "\n"))


def one_line(text: str, limit: int = 0) -> str:
    """``text`` on one line: white space runs become a space, control characters visible.

    With a ``limit`` it is cut to that many characters, the last of them ``…``.
    """
    flat = _HOSTILE.sub(_escape, _SPACES.sub(" ", text).strip())
    return f"{flat[: limit - 1]}…" if limit and len(flat) > limit else flat


def say(text: str = "") -> None:
    """Print one piece of text for people, made harmless."""
    click.echo(many_lines(text))


def note(text: str) -> None:
    """A remark that is no part of the output: on standard error."""
    click.echo(many_lines(text), err=True)


def on_terminal() -> bool:
    """Whether people read the output directly."""
    return sys.stdout.isatty()


def width_of(text: str) -> int:
    """Columns ``text`` takes on a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(bool(unicodedata.combining(c)) for c in text)


def table_lines(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A plain table: aligned columns two spaces apart, no line ends in a space."""
    shown = [[one_line(cell) for cell in row] for row in rows]
    everything = [list(columns), *shown]
    widths = [max(width_of(row[i]) for row in everything) for i in range(len(columns))]
    return [
        "  ".join(
            cell + " " * (width - width_of(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in everything
    ]


@dataclass(frozen=True, slots=True)
class TerminalTable:
    """The same for ``rich``: as wide as the terminal where free text can be cut for that.

    A name, a number or an address is never cut: where they alone do not fit, the lines are
    folded.  Column number ``state`` is coloured.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    state: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """A line for the names of the columns, and one for each row."""
        from rich.text import Text

        everything = [self.columns, *self.rows]
        widths = [max(map(width_of, column)) for column in zip(*everything, strict=True)]
        if not any(row[-1] for row in self.rows) and needed(widths) > options.max_width:
            del widths[-1]  # nothing stands there, and its name alone would fold a line
        widths = fitted(self.columns, widths, options.max_width)
        for number, row in enumerate(everything):
            line = Text(style="" if number else "bold")
            for index, (cell, width) in enumerate(zip(row, widths, strict=False)):
                colour = STYLES.get(cell, "") if number and index == self.state else ""
                shown = Text(cell, style=colour)
                shown.truncate(width, overflow="ellipsis", pad=True)
                line.append_text(shown).append(" " * GAP)
            line.rstrip()
            yield line


def needed(widths: Sequence[int]) -> int:
    """Columns of a terminal that a line takes."""
    return sum(widths) + GAP * (len(widths) - 1)


def fitted(columns: Sequence[str], widths: Sequence[int], room: int) -> list[int]:
    """The widths with free text cut, the widest first, until a line of ``room`` holds them all.

    As they are when that cannot be.
    """
    may = [i for i in range(len(widths)) if columns[i] in FREE_TEXT or i == len(columns) - 1]
    spare = {i: max(0, widths[i] - LEAST_TEXT) for i in may}
    over = needed(widths) - room
    found = list(widths)
    if over > sum(spare.values()):
        return found
    for _ in range(over):
        widest = max((i for i in may if spare[i]), key=lambda i: found[i])
        found[widest] -= 1
        spare[widest] -= 1
    return found


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[str]], state: int) -> TerminalTable:
    """A table for a terminal; what stands in it is made harmless."""
    cells = tuple(tuple(one_line(cell) for cell in row) for row in rows)
    return TerminalTable(tuple(columns), cells, state)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], state: int = -1) -> None:
    """Print a table, with ``rich`` when people read it directly."""
    if on_terminal():
        from rich.console import Console

        Console().print(rich_table(columns, rows, state))
    else:
        click.echo("\n".join(table_lines(columns, rows)))


def print_json(value: object) -> None:
    """Print one JSON object; ``null`` where something is unknown."""
    import msgspec

    click.echo(harmless_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))


def harmless_json(text: str) -> str:
    """The same JSON with what a terminal would obey spelled as escapes.

    JSON asks that of the first 32 characters only; it stands in strings alone, where an escape
    means the same.
    """
    return _HOSTILE.sub(_as_json, text)


def _as_json(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code in (0x0A, 0x09):
        return match[0]
    units = [code] if code < 0x10000 else [0xD7C0 + (code >> 10), 0xDC00 + (code & 0x3FF)]
    return "".join(f"\\u{unit:04x}" for unit in units)


def seconds_of(stamp: object) -> float | None:
    """Unix seconds of an RFC 3339 text or of a number; ``None`` for anything else."""
    if isinstance(stamp, (int, float)):
        return float(stamp)
    if not isinstance(stamp, str):
        return None
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def age(stamp: object, now: Callable[[], float] = time.time) -> str:
    """How long ago ``stamp`` was: ``12s``, ``5m``, ``3h``, ``2d``; ``-`` when unknown."""
    at = seconds_of(stamp)
    return "-" if at is None else span(max(0.0, now() - at))


def span(seconds: float) -> str:
    """A length of time in one unit: ``0.4s``, ``12s``, ``5m``, ``3h``, ``2d``."""
    if 0 < seconds < 1:
        return f"{seconds:.1f}s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"

"""One line of the table, and how it is printed and kept."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One number.  ``met`` is ``None`` where there is no target to meet."""

    what: str
    at: str
    value: str
    target: str
    met: bool | None
    baseline: str
    raw: dict[str, float]


def median(values: Sequence[float]) -> float:
    """The middle value; robust where a mean is not."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of ``values`` lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    head = ("what", "at", "measured", "target", "met", "baseline in the same run")
    marks = {True: "yes", False: "NO", None: "-"}
    cells = [(r.what, r.at, r.value, r.target, marks[r.met], r.baseline) for r in rows]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, tuple("-" * width for width in widths), *cells]
    ]
    return "\n".join(lines)


def keep(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as JSON, merged over those of an earlier run of other rows."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")

"""Waiting for a condition, with a limit; the only way a test may wait."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

HELD = "run until test -e go; do sleep 0.05; done"
"""Directive of a scripted session that goes on when a file ``go`` is in its working directory."""

MOST_STRETCH = 6.0
"""Longest a limit is stretched: a test that hangs must still fail before its own time is over."""


def stretch() -> float:
    """How much longer anything takes here and now: the processes that want each processor.

    Limits of tests hold on a machine with no other work; on a busy one all share it evenly.
    """
    return min(MOST_STRETCH, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


def eventually(
    condition: Callable[[], T],
    within: float = 10.0,
    say: str | Callable[[], str] = "",
    *,
    promised: bool = False,
) -> T:
    """Poll ``condition`` until it is truthy and return its value.

    Fails after ``within`` seconds, stretched on a busy machine; ``say`` is told then, and made only
    then when it is to be made: logs are of use as they are at the end.  A limit that the
    product has ``promised`` is not stretched.
    """
    began = time.monotonic()
    while True:
        late = _late(began, within, promised)  # before the look: one look is always after the limit
        value = condition()
        if value:
            return value
        assert not late, f"not within {within} s: {(say() if callable(say) else say) or condition}"
        time.sleep(0.005)  # a poll step of a bounded wait


async def eventually_async(condition: Callable[[], T], within: float = 10.0, say: str = "") -> T:
    """The same on an event loop."""
    began = time.monotonic()
    while True:
        late = _late(began, within)
        value = condition()
        if value:
            return value
        assert not late, f"not within {within} s: {say or condition}"
        await asyncio.sleep(0.005)  # a poll step of a bounded wait


def carrying(word: str) -> list[int]:
    """Pids of every process with ``word`` in its arguments."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if word.encode() in line:
            found.append(int(name))
    return found


def remains_false(condition: Callable[[], object], seconds: float) -> None:
    """``condition`` holds at no look for so many seconds: for what must not happen."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert not condition(), f"within {seconds} s it holds: {condition}"
        time.sleep(0.005)  # a poll step of a bounded wait


def _late(began: float, within: float, promised: bool = False) -> bool:
    passed = time.monotonic() - began
    return passed >= within and (promised or passed >= within * stretch())

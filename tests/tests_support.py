"""Waiting for a condition, with a limit; the only way a test may wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

HELD = "run until test -e go; do sleep 0.05; done"
"""Directive of a scripted session that goes on when a file ``go`` is in its working directory."""


def eventually(condition: Callable[[], T], within: float = 5.0, say: str = "") -> T:
    """Poll ``condition`` until it is truthy and return its value; fail after ``within`` seconds."""
    end = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {within} s: {say or condition}"
        time.sleep(0.005)  # a poll step of a bounded wait


async def eventually_async(condition: Callable[[], T], within: float = 5.0, say: str = "") -> T:
    """The same on an event loop."""
    end = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {within} s: {say or condition}"
        await asyncio.sleep(0.005)  # a poll step of a bounded wait

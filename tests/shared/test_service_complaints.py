"""A service out of descriptors says so now and then, not a hundred times a second."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from swarm.service import CROWDED_SECONDS, complaints


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time the test sets; what it was told besides is kept."""

    now = 100.0

    def time(self) -> float:
        return self.now

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.others = [*getattr(self, "others", []), context]


def test_a_crowd_is_told_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    loop, tell = Clock(), complaints("chat")
    full: dict[str, Any] = {
        "message": "socket.accept() out of system resource",
        "exception": OSError(errno.EMFILE, "Too many open files"),
        "socket": "…",
    }
    try:
        for _ in range(100):
            tell(loop, full)
        loop.now += CROWDED_SECONDS
        tell(loop, full)
        assert not hasattr(loop, "others")
        tell(loop, {"message": "x", "exception": ValueError("x")})
        tell(loop, {"message": "x", "exception": OSError(errno.EMFILE, "not of a socket")})
    finally:
        loop.close()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "chat: nobody can be let in" in told[0]
    assert len(loop.others) == 2, "whatever else it is, is told as ever"

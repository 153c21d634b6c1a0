"""Bringing work home is tried again: a helper that was killed is no reason to lose anything."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from swarm.daemon import concluding, performer
from swarm.daemon.concluding import Left
from swarm.daemon.loop import Loop
from swarm.daemon.performer import Performer
from swarm.logs import JsonLog
from swarm.spawner.workspace import Workspace
from swarm.wire.lifeline import RepoWork

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

REPO = RepoWork(hub="/nowhere", source="", target="main", branch="swarm/x/t-1", start="a", base="a")


class Watching:
    """The part of a loop that helpers need."""

    def __init__(self) -> None:
        self.ready: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        self.ready[fd] = ready

    def unwatch(self, fd: int) -> None:
        del self.ready[fd]

    def run(self) -> None:
        while self.ready:
            found, _, _ = select.select(list(self.ready), [], [], 30)
            assert found
            for fd in found:
                self.ready[fd]()


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[str, int]]:
    """Secure with helpers of which each does what the next letter says; the end, and the tries.

    ``k`` is killed, ``p`` meets a problem, ``h`` brings it home.
    """
    monkeypatch.setattr(performer, "_SECURE_AFTER", (0.0, 0.0, 0.0))
    tries = tmp_path / "tries"
    tries.write_text("")

    def run(fates: str) -> tuple[str, int]:
        def secure(*_: Any, **__: Any) -> bytes:
            with tries.open("a") as file:
                file.write(".")
            fate = fates[len(tries.read_text()) - 1]
            if fate == "k":
                os.kill(os.getpid(), signal.SIGKILL)
            return concluding._encoder.encode(
                concluding.Home(problem="the disk is full" if fate == "p" else "")
            )

        monkeypatch.setattr(concluding, "secure", secure)
        loop, ends = Watching(), list[str]()
        means = SimpleNamespace(
            spec=SimpleNamespace(name="swarm-builder-001", home_id="0f"),
            workspace=Workspace(str(tmp_path)),
            sandboxed=False,
        )
        one = Performer(cast(Loop, loop), cast(Any, means), JsonLog(tmp_path / "log"))
        one._secure(
            Left(("t-1", 1), 1, REPO, holder=True),
            lambda answer, error: ends.append(error or concluding.read_home(answer).problem),
        )
        loop.run()
        (end,) = ends
        return end, len(tries.read_text())

    return run


@pytest.mark.parametrize(
    ("fates", "end", "tries"),
    [
        ("h", "", 1),
        ("kh", "", 2),
        ("pkh", "", 3),
        ("kkk", "a helper process was killed", 3),
        ("ppp", "the disk is full", 3),
    ],
)
def test_work_is_brought_home_at_the_second_try(
    secured: Callable[[str], tuple[str, int]], fates: str, end: str, tries: int
) -> None:
    assert secured(fates) == (end, tries)

"""Looking at running sessions: while one runs, and only then."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fleet_plays import A, Play
from tests_support import eventually_async

from swarm.core import fleet_events as e
from swarm.core.limits import SessionLimits, Use
from swarm.supervisor import sampling
from swarm.supervisor.sampling import sample_trees, session_roots


class FakeMonitor:
    """Counts light looks; what is seen is over every limit, if ``defects`` do not come first."""

    def __init__(self, defects: int = 0) -> None:
        self.looks = 0
        self.defects = defects

    def look(self, sessions: dict[Any, Any]) -> dict[Any, Use]:
        self.looks += 1
        if self.looks <= self.defects:
            raise RuntimeError("planted")
        return dict.fromkeys(sessions, Use(memory_mb=1.0))


def shell_of(play: Play, posted: list[e.Event]) -> Any:
    health = SimpleNamespace(sample_seconds=1000.0)
    return SimpleNamespace(
        fleet=play.fleet,
        loop=asyncio.get_running_loop(),
        session_began=asyncio.Event(),
        post=posted.append,
        specs=SimpleNamespace(
            configuration=SimpleNamespace(settings=SimpleNamespace(health=health))
        ),
    )


def playing() -> Play:
    limits = SessionLimits(memory_mb=100, max_processes=7)
    return Play(role_limits={"builder": limits}, min_free_memory_mb=0).up()


async def test_running_sessions_are_looked_at_and_nothing_while_none_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "LOOK_SECONDS", 0.001)
    play, posted, monitor = playing(), [], FakeMonitor()
    shell = shell_of(play, posted)
    task = asyncio.create_task(sample_trees(shell, monitor))  # type: ignore[arg-type]
    for _ in range(50):
        await asyncio.sleep(0)
    assert not monitor.looks
    play.activate(A, "t-1")
    shell.session_began.set()
    await eventually_async(lambda: monitor.looks > 3)
    assert posted[0] == e.SessionUse(A, "t-1", 1, Use(memory_mb=1.0))
    play.finish(A, "t-1")
    await eventually_async(lambda: not shell.session_began.is_set())
    seen = monitor.looks
    for _ in range(50):
        await asyncio.sleep(0)
    assert monitor.looks == seen
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_defect_is_told_and_looking_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LOOK_SECONDS", 0.001)
    play, posted, monitor = playing(), [], FakeMonitor(defects=2)
    play.activate(A, "t-1")
    told: list[dict[str, Any]] = []
    shell = shell_of(play, posted)
    shell.loop.set_exception_handler(lambda _loop, what: told.append(what))
    task = asyncio.create_task(sample_trees(shell, monitor))  # type: ignore[arg-type]
    await eventually_async(lambda: bool(posted))
    assert [str(what["exception"]) for what in told] == ["planted", "planted"]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_without_a_descriptor_nothing_is_sampled_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Poor(FakeMonitor):
        def sample(self, *_known: object) -> tuple[e.MemoryIs, dict[Any, Use]]:
            self.looks += 1
            if self.looks == 1:
                raise OSError(24, "Too many open files")
            return e.MemoryIs(7.0), {}

    monkeypatch.setattr(sampling, "read_spending", lambda _shell: None)
    monkeypatch.setattr(sampling, "bound_text", lambda _path: None)
    posted: list[e.Event] = []
    shell, logged, defects = shell_of(playing(), posted), [], []
    shell.specs.configuration.settings.health.sample_seconds = 0.0
    shell.children = SimpleNamespace(live={})
    shell.places = SimpleNamespace(logs=Path("/nowhere"))
    shell.log = SimpleNamespace(write=lambda kind, **_fields: logged.append(kind))
    shell.loop.set_exception_handler(lambda _loop, what: defects.append(what))
    task = asyncio.create_task(sample_trees(shell, Poor()))  # type: ignore[arg-type]
    await eventually_async(lambda: posted)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert (logged, defects) == (["not_sampled"], [])


def test_roots_know_their_limits() -> None:
    play = playing()
    assert session_roots(play.fleet) == {}
    play.activate(A, "t-1")
    ((held, root),) = session_roots(play.fleet).items()
    assert held == (A, "t-1", 1)
    session = play.fleet.agents[A].work.session  # type: ignore[union-attr]
    assert (root.pid, root.start) == (session.tree_pid, session.tree_start)
    assert (root.memory_mb, root.max_processes) == (100, 7)

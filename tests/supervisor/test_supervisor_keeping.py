"""The cleaner's runs: whatever becomes of its process, the clean-up ends, as one event."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swarm.config.keeping import lifetimes
from swarm.config.settings import Keep
from swarm.core.fleet_events import CleanedUp
from swarm.core.keep import DAY, Lifetimes
from swarm.health.disk import free_disk_mb
from swarm.supervisor.children import Order
from swarm.supervisor.keeping import LONGEST_SECONDS, NAME, START_SECONDS, Keeping
from swarm.wire.lifeline import Cleaned, Trouble


class Hands:
    """Children and their loop, by hand."""

    def __init__(self) -> None:
        self.loop = self
        self.orders: list[Order] = []
        self.hastened: list[str] = []
        self.signals: list[tuple[str, int, int]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.done: list[tuple[CleanedUp, tuple[str, ...]]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        entry = (seconds, call)
        self.timers.append(entry)
        return SimpleNamespace(cancel=lambda: self.timers.remove(entry))

    def spawn(self, order: Order) -> None:
        self.orders.append(order)

    def hasten(self, name: str) -> None:
        self.hastened.append(name)

    def signal(self, name: str, pid: int, number: signal.Signals) -> None:
        self.signals.append((name, pid, number))

    def due(self) -> float:
        """Carry out the one timer; how long it was set for."""
        ((seconds, call),) = self.timers
        call()
        return seconds


@pytest.fixture
def hands() -> Hands:
    return Hands()


def begun(hands: Hands) -> Keeping:
    children: Any = hands
    return Keeping(children, lambda: b"", "", lambda *done: hands.done.append(done))


def over(hands: Hands) -> CleanedUp:
    ((event, _lines),) = hands.done
    assert not hands.timers
    return event


def test_what_it_did_is_told_once_it_is_gone(hands: Hands) -> None:
    one = begun(hands)
    assert [(order.name, order.kind) for order in hands.orders] == [(NAME, "cleaner")]
    one.spawned(7)
    one.said(Cleaned(12, ("refs/x\ny",), ("/w stays:\n why",)))
    assert not hands.done
    one.exited(1)
    assert over(hands) == CleanedUp(12, ("refs/x\ny",), "/w stays: why")
    lines = hands.done[0][1]
    assert lines == ("12 MB removed", "commits kept in the hub: refs/x y", "/w stays: why")


def test_one_that_dies_or_never_lives_is_over_too(hands: Hands) -> None:
    one = begun(hands)
    one.spawned(7)
    one.said(Trouble("the disk is full"))
    one.exited(-9)
    assert over(hands).problem == "the disk is full"
    assert hands.done[0][1][-1] == "it ended with status -9"
    hands.done = []
    begun(hands).spawn_failed("the zygote died")
    assert over(hands).problem == "it could not be started: the zygote died"


def test_a_zygote_that_hangs_is_ended_so_that_it_starts(hands: Hands) -> None:
    one = begun(hands)
    assert hands.due() == START_SECONDS
    assert hands.hastened == [NAME]
    one.spawned(7)
    assert hands.due() == LONGEST_SECONDS
    assert hands.signals == [(NAME, 7, signal.SIGKILL)]
    one.exited(-9)
    assert over(hands).problem == "it took too long and was ended"


def test_it_is_ended_for_a_stop_also_before_it_lives(hands: Hands) -> None:
    one = begun(hands)
    one.end()
    assert not hands.signals
    one.spawned(7)
    assert hands.signals == [(NAME, 7, signal.SIGKILL)]
    one.exited(-9)
    assert over(hands) == CleanedUp()


def test_what_the_settings_mean() -> None:
    assert lifetimes(Keep()) == Lifetimes(7 * DAY, 30 * DAY, 30 * DAY, 2048 << 20, 90 * DAY)
    never = Keep(workspaces_days=0, branches_days=0, logs_days=0, logs_mb=0, tasks_days=0)
    assert lifetimes(never) == Lifetimes()
    assert lifetimes(never, 0.0) == Lifetimes(0.0, 0.0, 0.0, None, 0.0)
    assert lifetimes(Keep(), 2.0).folders == 2 * DAY


def test_free_disk_is_the_lowest_of_those_that_can_say(tmp_path: Path) -> None:
    here = free_disk_mb([tmp_path])
    assert here is not None
    assert here > 0
    assert free_disk_mb([tmp_path / "not" / "there" / "yet"]) == pytest.approx(here, rel=0.2)
    assert free_disk_mb([tmp_path, "/proc"]) == 0.0
    assert free_disk_mb([]) is None

"""The janitor's runs: whatever becomes of its process, the tidying ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swarm.supervisor.children import Order
from swarm.supervisor.tidy import NAME, START_SECONDS, TRIES, Tidying


class Hands:
    """Children and their loop, by hand."""

    def __init__(self) -> None:
        self.loop = self
        self.spawned: list[Order] = []
        self.hastened: list[str] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        call()

    def call_later(self, seconds: float, call: Callable[..., None], *given: str) -> Any:
        entry = (seconds, lambda: call(*given))
        self.timers.append(entry)
        return SimpleNamespace(
            cancel=lambda: self.timers.remove(entry) if entry in self.timers else None
        )

    def spawn(self, order: Order) -> None:
        self.spawned.append(order)

    def hasten(self, name: str) -> None:
        self.hastened.append(name)

    def due(self) -> float:
        """Carry out the one timer; how long it was set for."""
        ((seconds, call),) = self.timers
        self.timers = []
        call()
        return seconds


@pytest.fixture
def hands() -> Hands:
    return Hands()


def tidying(hands: Hands, path: Path, told: list[tuple[str, ...]]) -> Tidying:
    children: Any = hands
    specs: Any = SimpleNamespace()
    return Tidying(children, specs, "", [str(path)], lambda _entry: None, told.append)


def test_a_zygote_that_hangs_is_ended_so_that_the_janitor_starts(
    hands: Hands, tmp_path: Path
) -> None:
    told: list[tuple[str, ...]] = []
    one = tidying(hands, tmp_path, told)
    assert hands.due() == START_SECONDS
    assert hands.hastened == [NAME]
    one.spawn_failed("the zygote died")
    assert hands.due() < START_SECONDS
    assert len(hands.spawned) == 2
    one.spawned(4711)
    assert [seconds > START_SECONDS for seconds, _ in hands.timers] == [True]
    one.exited(0)
    assert told == [()]
    assert not hands.timers


def test_a_janitor_that_never_starts_ends_the_tidying_and_keeps_everything(
    hands: Hands, tmp_path: Path
) -> None:
    told: list[tuple[str, ...]] = []
    one = tidying(hands, tmp_path, told)
    for n in range(TRIES):
        hands.due()
        one.spawn_failed("the zygote is too busy")
        if n + 1 < TRIES:
            hands.due()
    ((line,),) = told
    assert "nothing is lost" in line
    assert str(tmp_path) in line
    assert not hands.timers

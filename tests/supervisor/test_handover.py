"""A whole supervisor's knowledge, handed over: it goes on as if nothing had been."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fleet_plays
import msgspec
import pytest
from fleet_machine import FleetMachine, walk
from fleet_plays import A, Play
from handover_values import a_document

import swarm.core
from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core.fleet import Fleet
from swarm.errors import SwarmError
from swarm.supervisor import handover
from swarm.supervisor.handover_codec import Codec, classes_of
from swarm.wire import lifeline

CODEC = Codec([*classes_of(swarm.core), fleet_plays.Work, fleet_plays.Report])


def handed_over(fleet: Fleet, without: tuple[str, ...] = ()) -> Fleet:
    """The fleet as the next program rebuilds it, by way of real bytes."""
    left = {"fleet": handover.attributes_of(fleet), "timers": fleet.timers.all()}
    told = CODEC.decode(msgspec.json.decode(msgspec.json.encode(CODEC.encode(left))))
    for name in without:
        del told["fleet"][name]
    configuration = SimpleNamespace(fleet=lambda: fleet.settings)
    specs = SimpleNamespace(configuration=configuration, coordinator_id=fleet.coordinator_id)
    document: Any = SimpleNamespace(specs=specs, **told)
    return handover.fleet_of(document)


class Upgraded(FleetMachine):
    """The adversary of the fleet, whose fleet is handed over every few events."""

    def do(self, event: e.Event) -> None:
        self.steps = getattr(self, "steps", random.randrange(5)) + 1
        if self.steps % 5 == 0:
            old, self.fleet = self.fleet, handed_over(self.fleet)
            expected = old.handle(event, self.now, 0.5)
            effects = self.fleet.handle(event, self.now, 0.5)
            assert effects == expected, f"{event} leads elsewhere after a handover"
            assert value_of(self.fleet) == value_of(old)
            for effect in effects:
                self._check(effect)
            return
        super().do(event)


def value_of(fleet: Fleet) -> dict[str, object]:
    """All that the fleet decides from."""
    value = {name: one for name, one in vars(fleet).items() if name != "timers"}
    return {**value, "timers": fleet.timers.all(), "next": fleet.deadline()}


def stories(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_machine.FleetMachine", Upgraded)
    for seed in range(count):
        random.seed(seed)
        walk(seed)


def test_a_fleet_that_is_handed_over_behaves_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stories(60, monkeypatch)


@pytest.mark.parametrize("forgotten", ["assigned", "pulses", "reports", "told", "stop", "agents"])
def test_whatever_is_forgotten_is_noticed(forgotten: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_DERIVED", handover._DERIVED | {forgotten})
    with pytest.raises((AssertionError, KeyError)):
        stories(25, monkeypatch)


def test_forgotten_deadlines_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.core.fleet_timers.Timers.all", lambda _self: {})
    with pytest.raises(AssertionError, match=r"handover|next"):
        stories(25, monkeypatch)


def test_books_the_other_version_did_not_keep_are_derived() -> None:
    play = Play(max_active=1).up()
    play.activate(A, "t-1")
    after = handed_over(play.fleet, without=("active", "up", "counts"))
    assert (after.active, after.up, after.counts) == (1, play.fleet.up, play.fleet.counts)
    after.handle(e.Exited(A, -9), play.now)
    assert after.active == 1


def test_the_clock_and_a_backoff_go_on() -> None:
    play = Play().up()
    play.do(e.Exited(A, 1))
    at = play.fleet.agents[A].life.next_restart_at
    assert at is not None
    after = handed_over(play.fleet)
    assert (after.epoch, after.deadline()) == (play.fleet.epoch, play.fleet.deadline())
    effects = after.handle(e.Tick(), at)
    assert any(getattr(one, "name", "") == A for one in effects)


# -- the whole document ---------------------------------------------------------------------------


@pytest.fixture
def document(home: Path) -> handover.Document:
    return a_document(home)


def test_a_document_comes_back_without_the_environment(document: handover.Document) -> None:
    data = handover.write(document, 3)
    assert b"s3cret" not in data
    head, again = handover.read(data)
    assert (head.generation, head.version) == (3, swarm.__version__)
    assert again == document
    assert again.descriptors == [10, 11, 12, 8, 9]
    assert handover.fleet_of(again).settings.max_active == 3
    fd = handover.memory_file(data)
    try:
        assert handover.load(fd) == data == handover.load(fd)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 2.*reads 1"),
        ({"lifeline": lifeline.VERSION + 1}, "lifeline.*stop --drain"),
        ({"body": {"$": "core.life.Running", "v": {"pid": 1, "since": 0}}}, "no swarm"),
        ({"body": {"$": "core.life.Gone", "v": {}}}, "core.life.Gone"),
        ({"generation": "x"}, "cannot read"),
    ],
)
def test_what_cannot_be_taken_over_is_refused(
    document: handover.Document, change: dict[str, object], says: str
) -> None:
    data = msgspec.json.decode(handover.write(document, 1))
    with pytest.raises(SwarmError, match=says):
        handover.read(msgspec.json.encode({**data, **change}))
    with pytest.raises(SwarmError, match="cannot read"):
        handover.read(b"{}")


def test_a_fleet_that_stops_says_the_same_after_a_handover() -> None:
    play = Play().up()
    play.do(e.StopAsked(1))
    after = handed_over(play.fleet)
    for name in sorted(play.fleet.up):
        event = e.Exited(name, 0)
        assert after.handle(event, play.now) == play.do(event)
    assert replace(after.stop) == play.fleet.stop
    assert not [one for one in play.effects if isinstance(one, fx.Settled) and not one.ok]

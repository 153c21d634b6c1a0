"""Why a fleet is not ready: each reason once, with who it concerns."""

from __future__ import annotations

from fleet_plays import A, B, Play

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e


def start(count: int) -> Play:
    play = Play({"builder": count}, up_seconds=20.0)
    play.do(e.Up())
    play.born("chat")
    play.born("coordinator")
    return play


def problems(play: Play) -> tuple[str, ...]:
    play.do(e.Tick(), later=21.0)
    (settled,) = play.of(fx.Settled)
    assert not settled.ok
    return settled.problems


def test_one_reason_of_many_agents_is_told_once() -> None:
    play = start(8)
    for number, name in enumerate(sorted(play.fleet.agents)):
        play.do(e.Spawned(name, 100 + number))
    (told,) = problems(play)
    named = ", ".join(sorted(play.fleet.agents)[:5])
    assert told == f"8 agents ({named}, 3 more): has not joined the channel"


def test_a_reason_that_names_its_agent_is_the_same_reason() -> None:
    play = start(2)
    for number, name in enumerate((A, B)):
        play.do(e.Spawned(name, 100 + number))
        play.do(e.ChatIs(name, connected=False, attempts=5, reason=f"no /w/{name}"))
    (told,) = problems(play)
    assert told == f"2 agents ({A}, {B}): chat lost, 5 failed attempts: no /w/<agent>"


def test_reasons_that_differ_are_told_apart_and_one_agent_by_its_name() -> None:
    play = start(2)
    play.do(e.Spawned(A, 100))
    play.do(e.Spawned(B, 101))
    play.do(e.ChatIs(B, connected=False, attempts=5, reason=f"no /w/{B}"))
    assert problems(play) == (
        f"{A}: has not joined the channel",
        f"{B}: chat lost, 5 failed attempts: no /w/{B}",
    )

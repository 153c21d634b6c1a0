"""Whom the coordinator wakes: each message is addressed to those it concerns, or to everybody."""

from __future__ import annotations

import pytest
from coordinator_world import ME, Agent, World, add

from swarm.coordinator import messages as m
from swarm.coordinator import offers
from swarm.core.model import Outcome
from swarm.wire.work import (
    Announced,
    Assign,
    Claim,
    Rejected,
    Settled,
    Status,
    TaskAvailable,
    TaskRef,
    WorkMessage,
)

STRANGER, ANNOUNCER = "d" * 16, "e" * 16
EVERYBODY: tuple[str, ...] = ()


def addressed(world: World, kind: type[WorkMessage]) -> list[tuple[str, ...]]:
    """Whom the messages of one kind were addressed to, in the order they were said."""
    assert len(world.said) == len(world.to)
    return [to for said, to in zip(world.said, world.to, strict=True) if isinstance(said, kind)]


def everything(world: World, agent: Agent) -> None:
    """Claimed by ``agent``, run and settled."""
    world.claim(agent, next(iter(world.state.offers)))
    world.prepare()
    world.promote(agent)
    world.begin(agent)
    world.finish(agent, Outcome.SUCCEEDED)


def test_a_task_that_is_claimed_wakes_nobody_else(world: World) -> None:
    first, *_ = [world.agent() for _ in range(5)]
    add(world)
    everything(world, first)
    assert set(world.to) == {(first.agent_id,)}
    assert len(world.to) == 3, "announcement, ASSIGN and SETTLED"


def test_what_nobody_claimed_everybody_hears_from_then_on(world: World) -> None:
    """Those who hold it wait for their place; they must hear who got it, to stay quiet."""
    agents = [world.agent() for _ in range(5)]
    add(world)
    world.tick(1.5)
    assert addressed(world, TaskAvailable) == [(agents[0].agent_id,), EVERYBODY]
    everything(world, agents[4])
    world.tick(20.0)
    assert set(addressed(world, Assign)) == {EVERYBODY}
    assert addressed(world, Settled) == [(agents[4].agent_id,)]


def test_an_assign_said_again_goes_to_the_same(world: World) -> None:
    agent = world.agent()
    world.agent()
    task = add(world)
    world.claim(agent, task)
    world.prepare()
    world.tick(7.0)
    assert addressed(world, Assign) == [(agent.agent_id,)] * 3
    world.claim(agent, task)
    assert addressed(world, Assign) == [(agent.agent_id,)] * 4


def test_when_the_asked_one_is_gone_everybody_hears_the_next_announcement(world: World) -> None:
    first = world.agent()
    world.agent()
    add(world)
    world.die(first)
    assert addressed(world, TaskAvailable) == [(first.agent_id,), EVERYBODY]


def test_a_refused_claim_concerns_the_claimant(world: World) -> None:
    first, second = world.agent(), world.agent()
    task = add(world)
    world.claim(first, task)
    world.claim(second, task)
    assert addressed(world, Rejected) == [(second.agent_id,)]


def test_strangers_are_answered_before_everybody_and_announcers_alone(world: World) -> None:
    """A flood of announcements must not wake a fleet by the answers to it."""
    world.agent()
    task = add(world)
    world.do(m.Heard(STRANGER, Claim(task=TaskRef(id=task)), "m-9"))
    assert addressed(world, Rejected) == [EVERYBODY]
    world.do(m.RulesAre((ME,), (ANNOUNCER,)))
    world.do(m.Heard(ANNOUNCER, Announced(task=TaskRef(role="qa", prompt="x")), "m-1"))
    world.do(m.Heard(ANNOUNCER, Announced(task=TaskRef(role="nosuch", prompt="x")), "m-2"))
    assert addressed(world, Status) == [(ANNOUNCER,)]
    assert addressed(world, Rejected) == [EVERYBODY, (ANNOUNCER,)]


def test_a_fallback_nobody_hears_is_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: announced again, still only those who are asked hear of it."""
    real = offers._said

    def whispered(state, offer, idle):
        (say, log) = real(state, offer, idle)
        to = tuple(state.agents[name].agent_id for name in offer.to)
        return m.Say(say.message, say.priority, say.key, to), log

    monkeypatch.setattr(offers, "_said", whispered)
    with pytest.raises(AssertionError):
        test_what_nobody_claimed_everybody_hears_from_then_on(world)

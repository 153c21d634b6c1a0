"""Announcements that lead nowhere: of what waits no more, and to agents that do not answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from coordinator_world import World, add

from swarm.coordinator import messages as m
from swarm.coordinator import offers
from swarm.coordinator.state import spare
from swarm.core.model import AgentState, Outcome, TaskState
from swarm.ledger import NewTask
from swarm.wire.lifeline import Finished
from swarm.wire.work import Rejected, TaskAvailable


@pytest.fixture
def world() -> Iterator[World]:
    made = World(1)
    yield made
    made.check()
    made.close()


def announced(world: World) -> list[str]:
    return [said.task.id for said in world.said if isinstance(said, TaskAvailable)]


def asked(world: World, task: str) -> list[tuple[str, ...]]:
    found = (said for said in world.said if isinstance(said, TaskAvailable))
    return [said.offer for said in found if said.task.id == task]


# -- what waits no more


def cancelled_makes_room(world: World) -> None:
    """One slot: a cancelled task must give it up, whether or not anybody claims."""
    world.agent()
    first = add(world)
    world.ledger.cancel(first)
    world.do(m.Poked())
    second = add(world)
    for _ in range(120):
        world.tick(1.0)
    assert Counter(announced(world))[first] == 1
    assert Counter(announced(world))[second] >= 7
    assert f"announce:{first}" in world.unsaid


def test_a_cancelled_task_is_withdrawn_at_the_poke(world: World) -> None:
    cancelled_makes_room(world)


def test_an_announcement_kept_for_ever_would_be_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keeps(state: Any, event: m.OffersChecked, now: float) -> Any:
        everything = m.OffersChecked(event.tasks, frozenset(event.tasks))
        return checked(state, everything, now)

    checked = offers.checked
    with monkeypatch.context() as planted:
        planted.setattr(offers, "checked", keeps)
        with pytest.raises(AssertionError):
            cancelled_makes_room(world)
    world.boot()


@pytest.mark.parametrize("how", ["cancelled", "claimed", "retried later"])
def test_what_waits_no_more_is_not_announced_again(world: World, how: str) -> None:
    """Without a poke it is found out at the next announcement, at the latest."""
    world.agent()
    task = add(world)
    if how == "cancelled":
        world.ledger.cancel(task)
    else:
        claimed = world.ledger.claim(task, "@elsewhere", "9" * 16, 90.0)
        assert claimed is not None
        if how == "retried later":
            world.ledger.unclaim(task, claimed.fence, "not now", 500.0)
    other = world.ledger.submit(NewTask("later"))
    world.tick(1.0)
    assert announced(world) == [task, other]
    assert list(world.state.offers) == [other]
    world.boot()


# -- who does not answer


def test_a_silent_agent_holds_no_slot(world: World) -> None:
    """Two roles, one slot, and the agent of the first role says nothing at all."""
    silent, awake = world.agent("builder"), world.agent("qa")
    stuck = add(world, role="builder")
    assert asked(world, stuck) == [(silent.name,)]
    other = add(world, role="qa")
    assert asked(world, other) == []
    world.tick(1.0)
    assert asked(world, other) == [(awake.name,)]
    assert len(asked(world, stuck)) == 2
    world.claim(awake, other)
    world.prepare()
    world.promote(awake)
    world.begin(awake)
    assert world.ledger.counts()["running"] == 1


def test_a_silent_agent_is_asked_last(world: World) -> None:
    world.max_active = 3
    world.slots()
    silent = world.agent()
    first = add(world)
    world.tick(1.0)
    assert asked(world, first) == [(silent.name,), (silent.name,)]
    awake = world.agent()
    assert asked(world, first)[-1] == (awake.name,)
    world.claim(awake, first)
    world.prepare()
    second = add(world)
    assert asked(world, second) == [(silent.name,)]
    another = world.agent()
    assert asked(world, second)[-1] == (another.name,)
    assert silent.name in world.state.silent


def test_many_silent_agents_starve_nobody(world: World) -> None:
    world.max_active = 2
    world.slots()
    for _ in range(5):
        world.agent("builder")
    for _ in range(5):
        add(world, role="builder")
    world.tick(20.0)
    assert len(world.state.silent) == 5
    awake = world.agent("general")
    tasks = world.waiting()
    done = 0
    for _ in range(40):
        offered = [task for task, offer in world.state.offers.items() if awake.name in offer.to]
        if offered:
            world.claim(awake, offered[0])
            world.prepare()
            world.promote(awake)
            world.begin(awake)
            world.finish(awake, Outcome.SUCCEEDED)
            done += 1
        world.tick(0.1)
        world.check()
    assert done == len(tasks) == 5


def test_an_agent_that_answers_again_is_asked_like_any_other(world: World) -> None:
    agent = world.agent()
    first, second = add(world), add(world)
    world.tick(1.0)
    assert agent.name in world.state.silent
    assert spare(world.state) == 1
    world.claim(agent, second)
    assert agent.name not in world.state.silent
    world.prepare()
    assert list(world.state.leases) == [second]
    assert first not in world.state.offers


def test_its_late_claim_of_what_it_was_asked_for_is_good(world: World) -> None:
    agent = world.agent()
    task = add(world)
    world.tick(10.0)
    world.claim(agent, task)
    world.prepare()
    world.promote(agent)
    world.begin(agent)
    assert not any(isinstance(said, Rejected) for said in world.said)


def test_a_late_claim_finds_its_slot_taken(world: World) -> None:
    """The announcement to a silent agent set none aside."""
    silent, awake = world.agent("builder"), world.agent("qa")
    stuck, other = add(world, role="builder"), add(world, role="qa")
    world.tick(1.0)
    assert len(asked(world, other)) == 1
    world.claim(silent, stuck)
    (rejected,) = [said for said in world.said if isinstance(said, Rejected)]
    assert "no session may start" in rejected.reason
    world.claim(awake, other)
    world.prepare()
    found = world.ledger.task(stuck)
    assert found is not None
    assert found.state is TaskState.QUEUED


def test_a_task_that_the_swarms_budget_ended_waits_for_the_gate(world: World) -> None:
    agent = world.agent()
    task = add(world)
    world.start_all()
    world.do(m.SlotsAre(0, "the budget is spent: $9.00 of $9.00"))
    reason = "the budget is spent"
    over = Finished(task, 1, Outcome.OVER_BUDGET, reason, swarm_budget=True)
    world.do(m.HandedOver(agent.name, over))
    world.max_active = 0
    world.becomes(agent, AgentState.IDLE)
    assert world.waiting() == [task]
    world.tick(600.0)
    assert announced(world) == [task]
    world.max_active = 1
    world.slots()
    assert announced(world) == [task, task]


def test_who_gives_back_is_not_asked_first_again(world: World) -> None:
    """It had the task last, which otherwise makes it the best to ask."""
    refuses = world.agent()
    task = add(world)
    other = world.agent()
    world.claim(refuses, task)
    world.prepare()
    world.refuse(refuses)
    world.tick(1.0)
    assert asked(world, task)[-1] == (other.name,)


def test_a_daemon_that_came_anew_is_silent_no_more(world: World) -> None:
    agent = world.agent()
    add(world)
    world.tick(1.0)
    world.die(agent)
    assert world.state.silent == frozenset()
    world.do(m.Online(False))
    world.do(m.Online(True))
    assert world.state.silent == frozenset()

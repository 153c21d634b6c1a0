"""Agents that are closed, interrupted tasks and who goes on with them, and clocks that jump."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from coordinator_world import START, Agent, World, add
from msgspec import structs

from swarm.coordinator import messages as m
from swarm.coordinator import offers
from swarm.coordinator.bookkeeping import Books
from swarm.coordinator.clocks import put_back
from swarm.coordinator.state import ABSENT_SECONDS, BUSY_SECONDS
from swarm.core.model import AgentState, Outcome, TaskState, Usage
from swarm.wire.lifeline import Finished
from swarm.wire.pacing import ASSIGNING, SETTLING
from swarm.wire.work import Claim, Rejected, TaskAvailable, TaskRef

PARKED = "quota: claude is parked: limit reached"


class Jumping(World):
    """Its wall clock can be put back."""

    jump = 0.0

    def wall(self) -> float:
        return START + self.now + self.jump


@pytest.fixture
def world() -> Iterator[Jumping]:
    made = Jumping()
    yield made
    made.close()


def close(world: World, agent: Agent, reason: str = PARKED) -> None:
    """The supervisor says that the agent may start nothing, or may again."""
    world.do(m.AgentChanged(structs.replace(agent.fact, closed=reason)))


def offered(world: World, task: str) -> list[tuple[str, ...]]:
    found = (said for said in world.said if isinstance(said, TaskAvailable))
    return [said.offer for said in found if said.task.id == task]


def begins(world: World, agent: Agent) -> str:
    """It starts what it is offered; its session has an id."""
    (offer,) = [one for one in world.state.offers.values() if agent.name in one.to]
    task = offer.task.id
    world.claim(agent, task)
    world.prepare()
    world.promote(agent)
    world.begin(agent)
    world.ledger.spent(task, agent.fence, Usage(1, 1), None, f"session-{task}")
    return task


def interrupted(world: World, agent: Agent) -> str:
    """A task whose session ended for the swarm's stop, a lost lease, a crash."""
    task = begins(world, agent)
    world.do(m.HolderLost(agent.name, agent.task, agent.fence, "died", False))
    return task


# -- closed agents -------------------------------------------------------------------------------


def test_a_closed_agent_is_offered_nothing_and_the_others_are(world: Jumping) -> None:
    builder, general = world.agent("builder"), world.agent("general")
    close(world, builder)
    task = add(world)
    assert offered(world, task) == [(general.name,)]
    claim = Claim(agentId=builder.agent_id, task=TaskRef(id=task))
    world.hear(builder, claim)
    refused = [one for one in world.said if isinstance(one, Rejected)]
    assert [one.reason for one in refused] == [PARKED]
    assert begins(world, general) == task


def test_a_task_that_only_closed_agents_take_says_why_and_goes_when_they_open(
    world: Jumping,
) -> None:
    builder, qa = world.agent("builder"), world.agent("qa")
    close(world, builder)
    task, other = add(world), add(world, role="qa")
    assert not offered(world, task)
    assert offered(world, other) == [(qa.name,)]
    assert world.ledger.reason(task) == PARKED
    close(world, builder, "")
    assert offered(world, task) == [(builder.name,)]
    assert world.ledger.reason(task) is None


def test_what_an_agent_was_asked_for_is_asked_of_others_when_it_closes(world: Jumping) -> None:
    builder, general = world.agent("builder"), world.agent("general")
    task = add(world)
    assert offered(world, task) == [(builder.name,)]
    close(world, builder)
    assert offered(world, task)[-1] == (general.name,)


# -- who goes on ---------------------------------------------------------------------------------


def test_an_interrupted_task_goes_first_to_the_agent_that_has_its_session(world: Jumping) -> None:
    """Before one of its own role, and before one with a longer rest."""
    general = world.agent("general")
    task = add(world)
    assert interrupted(world, general) == task
    world.agent("builder")
    world.becomes(general, AgentState.IDLE)
    assert offered(world, task)[-1] == (general.name,)


def waits_for_the_busy_one() -> None:
    world = Jumping()
    try:
        first = world.agent()
        task = add(world)
        interrupted(world, first)
        world.becomes(first, AgentState.ACTIVE, "t-other", 1)
        world.agent()
        behind = add(world)
        world.tick(BUSY_SECONDS - 1)
        assert len(offered(world, task)) == 1, "its session was given up at once"
        assert offered(world, behind), "it held up the task behind it"
        world.becomes(first, AgentState.IDLE)
        assert offered(world, task)[-1] == (first.name,)
    finally:
        world.close()


def test_it_waits_for_an_agent_that_is_busy_and_holds_up_nobody() -> None:
    waits_for_the_busy_one()


def test_it_waits_for_a_busy_agent_no_longer_than_that(world: Jumping) -> None:
    first = world.agent()
    task = add(world)
    interrupted(world, first)
    world.becomes(first, AgentState.ACTIVE, "t-other", 1)
    second = world.agent()
    world.tick(BUSY_SECONDS + 1)
    assert offered(world, task)[-1] == (second.name,)


def test_it_waits_a_moment_for_an_agent_that_has_died(world: Jumping) -> None:
    first, second = world.agent(), world.agent()
    task = add(world)
    interrupted(world, first)
    world.do(m.AgentLeft(first.name))
    world.tick(ABSENT_SECONDS - 1)
    assert len(offered(world, task)) == 1
    world.changed(first)
    world.becomes(first, AgentState.IDLE)
    assert offered(world, task)[-1] == (first.name,)
    claimed = world.ledger.claim(task, second.name, second.agent_id, 90)
    assert claimed is not None
    assert claimed.resume_session is None


def test_an_agent_that_stays_away_is_not_waited_for_longer(world: Jumping) -> None:
    first, second = world.agent(), world.agent()
    task = add(world)
    interrupted(world, first)
    world.do(m.AgentLeft(first.name))
    world.tick(ABSENT_SECONDS + 1)
    assert offered(world, task)[-1] == (second.name,)


def test_an_agent_made_anew_is_not_waited_for(world: Jumping) -> None:
    first = world.agent()
    task = add(world)
    interrupted(world, first)
    world.becomes(first, AgentState.ACTIVE, "t-other", 1)
    first.agent_id = "f" * 16
    world.changed(first)
    second = world.agent()
    assert offered(world, task)[-1] == (second.name,)


def test_whoever_goes_on_afresh_is_told_what_was_done(world: Jumping) -> None:
    first, second = world.agent(), world.agent()
    task = add(world)
    assert begins(world, first) == task
    ended = {"outcome": Outcome.QUOTA, "reason": "limit reached (2 commits kept)"}
    finished = m.HandedOver(first.name, made(task, first.fence, result="half done", **ended))
    world.do(finished)
    world.ledger.end_quota_waits()
    assert world.ledger.session_holder(task) == first.agent_id
    claimed = world.ledger.claim(task, second.name, second.agent_id, 90)
    assert claimed is not None
    assert claimed.resume_session is None
    told = "\n".join(claimed.earlier)
    assert "quota: limit reached (2 commits kept)" in told
    assert "half done" in told
    world.ledger.unclaim(task, claimed.fence, "no")
    resumed = world.ledger.claim(task, first.name, first.agent_id, 90)
    assert resumed is not None
    assert resumed.resume_session == f"session-{task}"


def made(task: str, fence: int, **fields: Any) -> Finished:
    return Finished(task=task, fence=fence, session_id=f"session-{task}", **fields)


@pytest.mark.parametrize("outcome", [Outcome.QUOTA, Outcome.LOST, Outcome.OVER_BUDGET])
def test_quota_attempts_are_no_failures_however_many(world: Jumping, outcome: Outcome) -> None:
    agent = world.agent()
    task = add(world)
    for _ in range(5):
        claimed = world.ledger.claim(task, agent.name, agent.agent_id, 90)
        assert claimed is not None
        world.ledger.begin(task, claimed.fence, agent.name, world.wall())
        done = made(task, claimed.fence, outcome=outcome, swarm_budget=True)
        world.ledger.finish(done, agent.name)
        world.ledger.end_quota_waits()
        row = world.ledger.task(task)
        assert row is not None
        assert (row.state, row.lost) == (TaskState.QUEUED, 0)
    assert world.ledger.session_holder(task) == agent.agent_id


def test_a_session_that_is_gone_is_resumed_by_nobody(world: Jumping) -> None:
    agent = world.agent()
    task = add(world)
    begins(world, agent)
    gone = Finished(task, agent.fence, Outcome.LOST, "it has it no more", session_id="")
    world.do(m.HandedOver(agent.name, gone))
    assert world.ledger.session_holder(task) == ""
    assert [attempt.session_id for attempt in world.ledger.attempts(task)] == [None]


# -- a server that is slow -----------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "slot"), [(1.0, 1000), (0.5, 2000), (1000.0, 50), (3.0, 334)])
def test_the_spread_is_as_wide_as_the_server_is_slow(
    world: Jumping, rate: float, slot: int
) -> None:
    world.agent()
    world.do(m.Online(True, rate))
    add(world)
    assert world.said[-1].slot_ms == slot  # type: ignore[union-attr]


def test_a_refusal_lets_what_others_wait_for_go_first(world: Jumping) -> None:
    said: list[m.Say] = []
    perform = world._perform

    def watch(effect: m.Effect) -> None:
        if isinstance(effect, m.Say):
            said.append(effect)
        perform(effect)

    world._perform = watch  # type: ignore[method-assign]
    first, second = world.agent(), world.agent()
    task = add(world)
    begins(world, first)
    world.claim(second, task)
    (refused,) = [one for one in said if isinstance(one.message, Rejected)]
    assert refused.priority > max(ASSIGNING, SETTLING)


# -- a clock that is put back --------------------------------------------------------------------


def waits_no_longer_than_it_should() -> None:
    world = Jumping(1)
    try:
        agent = world.agent()
        task = add(world)
        world.claim(agent, task)
        world.prepare()
        world.refuse(agent, retry_after=20.0)
        before = len(offered(world, task))
        world.jump = -3600.0
        world.tick(25.0)
        assert len(offered(world, task)) > before, "it waits for the length of the jump"
    finally:
        world.close()


def test_a_task_that_waits_for_a_retry_does_not_wait_for_a_jump_of_the_clock() -> None:
    waits_no_longer_than_it_should()


@pytest.mark.parametrize(
    ("before", "after", "back"), [(100.0, 40.0, 60.0), (100.0, 160.0, 0.0), (100.0, 99.5, 0.0)]
)
def test_only_a_real_step_back_counts(before: float, after: float, back: float) -> None:
    assert put_back(before, after) == back


# -- planted bugs --------------------------------------------------------------------------------


def test_giving_the_session_up_at_once_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "awaited", lambda *_given: None)
    with pytest.raises(AssertionError):
        waits_for_the_busy_one()


def test_a_clock_nobody_minds_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Books, "_mind_the_clock", lambda _self: None)
    with pytest.raises(AssertionError):
        waits_no_longer_than_it_should()

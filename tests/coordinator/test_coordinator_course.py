"""The coordinator step by step: each rule of who says what to whom, in a plain story."""

from __future__ import annotations

from typing import Any

import pytest
from coordinator_world import ME, World, add, heard, revoked, running, said, state

from swarm.coordinator import leases, offers
from swarm.coordinator import messages as m
from swarm.coordinator.machine import step
from swarm.coordinator.state import Settings, State
from swarm.core.matching import role_takes
from swarm.core.model import AgentState, Outcome, TaskState
from swarm.ledger import NewTask
from swarm.wire.lifeline import Assigned, Finished
from swarm.wire.work import (
    Assign,
    Claim,
    Heartbeat,
    Rejected,
    Settled,
    Status,
    TaskAvailable,
    TaskDone,
    TaskFail,
    TaskRef,
    Unclaim,
)

STRANGER, ANNOUNCER, OPERATOR = "d" * 16, "e" * 16, "f" * 16


# -- announcing


def test_a_task_goes_from_the_ledger_to_done(world: World) -> None:
    """A cheap course: one announcement, one claim, one ASSIGN, one SETTLED."""
    agent = world.agent()
    task = add(world, component="parser", title="Do it")
    (offer,) = said(world, TaskAvailable)
    assert offer.offer == (agent.name,)
    assert offer.task == TaskRef(id=task, role="builder", component="parser", title="Do it")
    world.claim(agent, task)
    world.prepare()
    (assign,) = said(world, Assign)
    assert (assign.agentId, assign.fence, assign.lease_seconds) == (agent.agent_id, 1, 90.0)
    assert (assign.task.title, assign.task.prompt) == ("Do it", "")
    (assigned,) = world.told
    assert isinstance(assigned, Assigned)
    assert assigned.work.prompt == "do it"
    world.promote(agent)
    world.begin(agent)
    world.finish(agent, Outcome.SUCCEEDED)
    (settled,) = said(world, Settled)
    assert (settled.agentId, settled.fence, settled.stale) == (agent.agent_id, 1, False)
    assert state(world, task) is TaskState.DONE
    assert len(world.said) == 3


def test_nothing_is_announced_without_a_slot_an_agent_or_the_channel(world: World) -> None:
    task = add(world)
    assert said(world, TaskAvailable) == []
    world.do(m.Online(False))
    world.agent()
    assert said(world, TaskAvailable) == []
    world.do(m.SlotsAre(0, "paused: lunch"), m.Online(True))
    assert said(world, TaskAvailable) == []
    assert world.ledger.reason(task) == "paused: lunch"
    world.do(m.SlotsAre(1))
    assert len(said(world, TaskAvailable)) == 1
    assert world.ledger.reason(task) is None


def test_no_more_is_announced_than_may_start(world: World) -> None:
    for _ in range(6):
        world.agent()
    tasks = [add(world) for _ in range(6)]
    assert len(said(world, TaskAvailable)) == 3
    world.start_all()
    assert len(said(world, TaskAvailable)) == 3
    first = next(agent for agent in world.agents.values() if agent.task)
    world.finish(first, Outcome.SUCCEEDED)
    assert len(said(world, TaskAvailable)) == 4
    assert len(world.waiting()) == 3
    assert len(tasks) == 6


def test_one_task_nobody_takes_delays_no_other(world: World) -> None:
    world.agent("builder")
    nobody = add(world, role="qa", priority=100)
    mine = add(world, role="builder", priority=-100)
    assert [message.task.id for message in said(world, TaskAvailable)] == [mine]
    assert "no agent that runs takes role qa; see" in (world.ledger.reason(nobody) or "")
    world.agent("qa")
    assert [message.task.id for message in said(world, TaskAvailable)] == [mine, nobody]
    assert world.ledger.reason(nobody) is None


def test_the_specialist_is_asked_before_the_generalist(world: World) -> None:
    world.agent("general")
    world.now += 50
    specialist = world.agent("builder")
    add(world)
    (offer,) = said(world, TaskAvailable)
    assert offer.offer == (specialist.name,)
    assert offer.idle == 2


def test_the_longest_idle_is_asked_first(world: World) -> None:
    world.now += 10
    second = world.agent()
    first = world.agent()
    first.since = 1.0
    world.changed(first)
    add(world)
    assert said(world, TaskAvailable)[0].offer == (first.name,)
    add(world)
    assert said(world, TaskAvailable)[1].offer == (second.name,)


def asked_again(world: World) -> list[int]:
    """Ten idle agents and none that answers: how many each announcement names."""
    for _ in range(10):
        world.agent()
    world.ledger.submit(NewTask("x"))
    world.do(m.Poked())
    started = world.now
    named, times = [], []
    for _ in range(7):
        times.append(round(world.now - started))
        named.append(len(said(world, TaskAvailable)[-1].offer))
        world.tick(1.0)
        while len(said(world, TaskAvailable)) == len(named):
            world.tick(1.0)
    assert times == [0, 1, 3, 7, 15, 31, 61]
    return named


def test_unclaimed_it_is_announced_again_to_others_more_slowly(world: World) -> None:
    assert asked_again(world) == [1, 3, 3, 3, 3, 3, 3]
    three = said(world, TaskAvailable)
    assert not set(three[0].offer) & set(three[1].offer)


def test_a_stampede_would_be_noticed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "MAX_OFFERED", 10)
    with pytest.raises(AssertionError, match="asked to claim at once"):
        asked_again(world)


def test_when_the_asked_one_is_gone_another_is_asked_at_once(world: World) -> None:
    one, two = world.agent(), world.agent()
    add(world)
    asked = world.agents[said(world, TaskAvailable)[0].offer[0]]
    other = two if asked is one else one
    world.die(asked)
    assert said(world, TaskAvailable)[-1].offer == (other.name,)


# -- claiming


def test_the_loser_is_told_and_can_claim_something_else(world: World) -> None:
    one, two = world.agent(), world.agent()
    task = add(world)
    world.claim(one, task)
    world.claim(two, task)
    (rejected,) = said(world, Rejected)
    assert rejected.agentId == two.agent_id
    assert one.name in rejected.reason
    world.prepare()
    assert [assign.agentId for assign in said(world, Assign)] == [one.agent_id]
    add(world)
    assert said(world, TaskAvailable)[-1].offer == (two.name,)


def test_who_was_not_asked_may_claim_too(world: World) -> None:
    world.agent()
    eager = world.agent()
    task = add(world)
    world.claim(eager, task)
    world.prepare()
    assert said(world, Assign)[0].agentId == eager.agent_id


def test_a_claim_by_component_takes_the_oldest(world: World) -> None:
    agent = world.agent()
    world.do(m.SlotsAre(2))
    add(world, component="lexer")
    older = add(world, component="parser")
    add(world, component="parser")
    world.claim(agent, "", "parser")
    world.prepare()
    assert said(world, Assign)[0].task.id == older


def test_a_claim_of_what_is_not_ours_is_another_coordinators_business(world: World) -> None:
    agent = world.agent()
    world.claim(agent, "t-theirs00")
    assert world.said == []


def test_a_claim_while_no_session_may_start_is_refused(world: World) -> None:
    agent = world.agent()
    task = add(world)
    world.do(m.SlotsAre(0, "paused"))
    world.claim(agent, task)
    assert "no session may start" in said(world, Rejected)[0].reason
    assert state(world, task) is TaskState.QUEUED
    world.slots()
    world.claim(agent, task)
    assert state(world, task) is TaskState.RUNNING
    world.prepare()


def test_an_agent_does_not_get_a_task_of_a_role_it_does_not_take(world: World) -> None:
    agent = world.agent("qa")
    task = add(world, role="builder")
    world.claim(agent, task)
    assert said(world, Rejected)[0].reason == "it is for role builder"


def test_strangers_are_turned_away_a_few_at_a_time_and_leave_no_trace(world: World) -> None:
    world.agent()
    task = add(world)
    before = world.state
    for n in range(200):
        heard(world, f"{n:016x}".replace("0", "9"), Claim(task=TaskRef(id=task)))
        heard(world, STRANGER, Claim(task=TaskRef(id=f"t-{n}")))
        heard(world, STRANGER, Unclaim(task=TaskRef(id=task), fence=1))
        heard(world, STRANGER, TaskDone(task=TaskRef(id=task), fence=1))
        heard(world, STRANGER, Heartbeat(task=TaskRef(id=task), fence=1))
        heard(world, STRANGER, Status(task=TaskRef(id=task), fence=1, phase="started"))
        heard(world, STRANGER, TaskAvailable(task=TaskRef(id=f"t-{n}", prompt="x")))
        world.do(m.Garbled(STRANGER, "nonsense"))
    assert len(said(world, Rejected)) == 5
    assert (world.state.offers, world.state.leases) == (before.offers, before.leases)
    assert state(world, task) is TaskState.QUEUED
    assert world.ledger.counts()["queued"] == 1
    world.tick(0.5)


# -- assigning


def test_an_assign_is_said_again_until_it_is_heard(world: World) -> None:
    agent = world.agent()
    task = add(world)
    world.claim(agent, task)
    world.prepare()
    world.tick(7.0)
    assert len(said(world, Assign)) == 3
    world.promote(agent)
    world.begin(agent)
    world.tick(20.0)
    assert len(said(world, Assign)) == 3
    assert f"assign:{task}" in world.unsaid


def test_a_claim_repeated_after_the_lease_gets_the_assign_again(world: World) -> None:
    agent = world.agent()
    task = add(world)
    world.claim(agent, task)
    world.prepare()
    world.claim(agent, task)
    assert len(said(world, Assign)) == 2
    assert said(world, Rejected) == []


def test_what_does_not_start_is_taken_back_uncounted(world: World) -> None:
    agent = world.agent()
    task = add(world)
    world.claim(agent, task)
    world.prepare()
    world.tick(31.0)
    assert [(line.task, line.outcome) for line in revoked(world)] == [(task, Outcome.LOST)]
    assert world.ledger.attempts(task) == []
    assert len(said(world, TaskAvailable)) >= 2
    again = world.ledger.task(task)
    assert again is not None
    assert again.lost == 0


def test_a_slow_first_clone_is_not_taken_back_while_the_agent_beats(world: World) -> None:
    agent = world.agent()
    task = add(world)
    world.claim(agent, task)
    world.prepare()
    world.promote(agent)
    for _ in range(10):
        world.tick(30.0)
        world.do(m.Renewed(task, 1))
    assert revoked(world) == []
    world.begin(agent)
    world.finish(agent, Outcome.SUCCEEDED)
    assert state(world, task) is TaskState.DONE


def test_given_back_it_waits_longer_each_time(world: World) -> None:
    """The gate may close between announcement and promotion; nothing may spin for it."""
    agent = world.agent()
    task = add(world)
    waits = []
    for _ in range(7):
        world.claim(agent, task)
        world.prepare()
        world.refuse(agent)
        found = world.ledger.task(task)
        assert found is not None
        assert found.not_before is not None
        waits.append(round(found.not_before - world.wall()))
        before = len(said(world, TaskAvailable))
        world.tick(waits[-1] - 0.5)
        assert len(said(world, TaskAvailable)) == before
        world.tick(1.0)
        assert len(said(world, TaskAvailable)) == before + 1
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert len(said(world, Settled)) == 7
    assert world.ledger.attempts(task) == []


def test_given_back_with_a_wait_of_its_own(world: World) -> None:
    agent = world.agent()
    task = add(world)
    world.claim(agent, task)
    world.prepare()
    world.refuse(agent, retry_after=120.0)
    found = world.ledger.task(task)
    assert found is not None
    assert found.not_before == pytest.approx(world.wall() + 120.0)


def test_a_repository_that_cannot_be_used_is_the_tasks_reason(world: World) -> None:
    agent = world.agent()
    task = add(world)
    world.claim(agent, task)
    world.prepare("there is no folder /nowhere; check the path")
    assert state(world, task) is TaskState.QUEUED
    assert "/nowhere" in (world.ledger.reason(task) or "")
    assert said(world, Rejected)[0].agentId == agent.agent_id
    assert said(world, Assign) == []
    world.tick(1.5)
    assert len(said(world, TaskAvailable)) == 2


# -- reports


def test_a_report_by_chat_alone_is_enough_and_answered_each_time(world: World) -> None:
    task, agent = running(world)
    report = TaskDone(task=TaskRef(id=task), fence=1, outcome="succeeded", result="fine")
    world.hear(agent, report)
    world.hear(agent, report)
    world.becomes(agent, AgentState.IDLE)
    assert [settled.stale for settled in said(world, Settled)] == [False, False]
    assert len(world.ledger.attempts(task)) == 1


def test_a_replayed_report_is_taken_in_but_old_news_is_not_answered(world: World) -> None:
    """Said while the coordinator was away; the channel replays it when it is back."""
    task, agent = running(world)
    world.boot()
    report = TaskDone(task=TaskRef(id=task), fence=1, outcome="succeeded")
    world.hear(agent, report, replay=True)
    assert len(said(world, Settled)) == 1
    world.hear(agent, report, replay=True)
    assert len(said(world, Settled)) == 1
    assert state(world, task) is TaskState.DONE
    world.becomes(agent, AgentState.IDLE)


def test_a_stale_report_is_answered_as_stale(world: World) -> None:
    task, agent = running(world)
    world.do(m.HolderLost(agent.name, task, 1, "its daemon died", True))
    world.becomes(agent, AgentState.BACKOFF)
    other = world.agent()
    world.tick(1.0)
    world.start_all()
    assert other.task == task
    world.hear(agent, TaskFail(task=TaskRef(id=task), fence=1))
    (settled,) = said(world, Settled)
    assert settled.stale
    assert state(world, task) is TaskState.RUNNING


def test_the_short_forms_are_the_holders(world: World) -> None:
    task, agent = running(world)
    other = world.agent()
    world.hear(other, TaskDone(task=TaskRef(id=task), outcome="succeeded", result="hah"))
    assert state(world, task) is TaskState.RUNNING
    world.hear(agent, TaskDone(task=TaskRef(id=task), outcome="succeeded", result="done"))
    assert state(world, task) is TaskState.DONE
    world.becomes(agent, AgentState.IDLE)


def test_nobody_reports_or_gives_back_for_another(world: World) -> None:
    task, _agent = running(world)
    thief = world.agent()
    world.hear(thief, TaskDone(task=TaskRef(id=task), fence=1, outcome="succeeded"))
    world.hear(thief, Unclaim(task=TaskRef(id=task), fence=1))
    assert state(world, task) is TaskState.RUNNING


# -- losing, cancelling, restarting


def lost_at_once(world: World) -> None:
    task, agent = running(world)
    world.die(agent)
    assert state(world, task) is TaskState.QUEUED
    world.check()


def test_a_dead_holders_task_waits_again_at_once(world: World) -> None:
    lost_at_once(world)


def test_a_lost_lease_that_is_kept_would_be_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keeps(state: Any, event: m.HolderLost) -> leases.Step:
        return state, (m.Requeue(event.task, event.fence, event.reason, event.counts),)

    with monkeypatch.context() as planted:
        planted.setattr(leases, "holder_lost", keeps)
        with pytest.raises(AssertionError):
            lost_at_once(world)
    world.boot()


def test_three_deaths_are_poison(world: World) -> None:
    task, agent = running(world)
    for _ in range(3):
        world.die(agent)
        world.becomes(agent, AgentState.IDLE)
        world.tick(4.0)  # each loss waits twice as long as the one before
        world.start_all()
    assert state(world, task) is TaskState.FAILED
    assert not agent.task


def test_a_cancelled_session_is_ended_once_and_its_report_kept(world: World) -> None:
    task, agent = running(world)
    world.ledger.cancel(task)
    world.do(m.Poked(), m.Poked())
    assert [(line.task, line.outcome) for line in revoked(world)] == [(task, Outcome.CANCELLED)]
    world.finish(agent, Outcome.FAILED)
    assert world.ledger.attempts(task)[0].outcome is Outcome.CANCELLED
    assert said(world, Settled)[0].stale is False


@pytest.mark.parametrize("restarted", [False, True])
def test_a_task_retried_under_its_ending_session_waits_for_its_end(
    world: World, restarted: bool
) -> None:
    """Else it runs twice, in two workspaces, for as long as the session takes to end."""
    task, agent = running(world)
    other = world.agent()
    world.ledger.cancel(task)
    world.do(m.Poked())
    world.ledger.retry(task)
    world.do(m.Poked())
    if restarted:
        world.boot()
    world.start_all()
    assert (agent.task, other.task) == (task, "")
    assert state(world, task) is TaskState.QUEUED
    world.finish(agent, Outcome.SUCCEEDED)
    world.start_all()
    assert task in (agent.task, other.task)
    assert [one.outcome for one in world.ledger.attempts(task)] == [Outcome.CANCELLED, None]


def test_a_cancelled_assignment_is_over_at_once(world: World) -> None:
    agent = world.agent()
    task = add(world)
    world.claim(agent, task)
    world.prepare()
    world.ledger.cancel(task)
    world.do(m.Poked())
    assert len(revoked(world)) == 1
    assert world.ledger.holders() == []
    add(world)
    assert said(world, TaskAvailable)[-1].offer == (agent.name,)


def test_a_restart_goes_on_where_it_was(world: World) -> None:
    task, agent = running(world)
    world.boot()
    assert revoked(world) == []
    world.tick(60.0)
    world.do(m.Renewed(task, 1))
    world.tick(60.0)
    assert state(world, task) is TaskState.RUNNING
    world.finish(agent, Outcome.SUCCEEDED)
    assert state(world, task) is TaskState.DONE
    assert len(world.ledger.attempts(task)) == 1


def test_what_nobody_holds_at_the_start_waits_again_uncounted(world: World) -> None:
    task, agent = running(world)
    agent.task, agent.fence, agent.state = "", 0, AgentState.STARTING
    world.boot()
    found = world.ledger.task(task)
    assert found is not None
    assert (found.state, found.lost) == (TaskState.QUEUED, 0)


def test_reports_found_at_the_start_are_taken_in_first(world: World) -> None:
    task, agent = running(world)
    agent.task, agent.fence, agent.state = "", 0, AgentState.STARTING
    world.boot([Finished(task=task, fence=1, outcome=Outcome.SUCCEEDED, result="it is done")])
    assert state(world, task) is TaskState.DONE
    assert world.ledger.attempts(task)[0].outcome is Outcome.SUCCEEDED


def test_nothing_is_given_out_before_the_snapshot(world: World) -> None:
    agent = world.agent()
    early = State(Settings(ME, 90.0, {}))
    for event in (m.Online(True), m.AgentChanged(agent.fact), m.SlotsAre(5), m.Poked()):
        early, effects = step(early, event, world.now)
        assert not any(isinstance(effect, m.Say | m.Tell) for effect in effects)
    assert offers.wants(early) is None
    ready, _ = step(early, m.SnapshotTaken((agent.fact,), (), ()), world.now)
    assert offers.wants(ready) == ((role_takes(["builder"]),), 5)


def test_a_session_without_a_lease_is_ended(world: World) -> None:
    task, agent = running(world)
    world.die(agent)
    world.do(m.Started(agent.name, task, 1, world.wall()))
    assert [(line.agent, line.fence) for line in revoked(world)] == [(agent.name, 1)]
    world.do(m.Started(agent.name, "t-theirs00", 1, world.wall()))
    assert len(revoked(world)) == 1


def test_an_expired_lease_ends_the_session_before_the_task_waits_again(world: World) -> None:
    task, agent = running(world)
    world.tick(91.0)
    assert len(revoked(world)) == 1
    assert state(world, task) is TaskState.RUNNING
    world.finish(agent, Outcome.LOST)
    assert state(world, task) is TaskState.QUEUED


def test_a_chat_outage_expires_nothing_of_ours(world: World) -> None:
    task, agent = running(world)
    world.do(m.Online(False))
    for _ in range(10):
        world.tick(60.0)
        world.do(m.Renewed(task, 1))
    assert revoked(world) == []
    world.finish(agent, Outcome.SUCCEEDED, by_chat=False)
    assert state(world, task) is TaskState.DONE

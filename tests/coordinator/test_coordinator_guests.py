"""Who is not of the fleet: announcers whose tasks are taken in, and guests who may work."""

from __future__ import annotations

import pytest
from coordinator_world import ME, World, add, heard, said, state

from swarm.coordinator import messages as m
from swarm.core.model import TaskState
from swarm.ledger import NewTask
from swarm.wire.work import (
    Announced,
    Assign,
    Claim,
    Heartbeat,
    Rejected,
    Status,
    TaskAvailable,
    TaskDone,
    TaskRef,
    encode,
)

STRANGER, ANNOUNCER, OPERATOR = "d" * 16, "e" * 16, "f" * 16


# -- announcements of others


def accept(world: World, *announcers: str, coordinators: tuple[str, ...] = ()) -> None:
    world.do(m.RulesAre((ME, *coordinators), announcers))


def test_an_accepted_announcement_becomes_a_task_once(world: World) -> None:
    accept(world, ANNOUNCER)
    message = TaskAvailable(task=TaskRef(id="job-7", role="qa", component="api", prompt="test it"))
    for replay in (False, False, True):
        heard(world, ANNOUNCER, message, replay=replay)
    (task,) = world.waiting()
    assert world.ledger.prompt(task) == "test it"
    (answer,) = said(world, Status)
    assert (answer.agentId, answer.task.id) == (ANNOUNCER, task)
    heard(world, ANNOUNCER, Announced(task=TaskRef(role="builder", prompt="y")), msg_id="m-1")
    heard(world, ANNOUNCER, Announced(task=TaskRef(role="builder", prompt="y")), msg_id="m-2")
    assert len(world.waiting()) == 3


def test_without_a_role_it_is_a_builders_and_without_a_prompt_its_title(world: World) -> None:
    accept(world, ANNOUNCER)
    heard(world, ANNOUNCER, TaskAvailable(task=TaskRef(id="j", title="Fix it")))
    (task,) = world.waiting()
    found = world.ledger.task(task)
    assert found is not None
    assert (found.role, found.title, world.ledger.prompt(task)) == ("builder", "Fix it", "Fix it")


@pytest.mark.parametrize(
    "task",
    [
        TaskRef(id="j", role="nosuch", prompt="x"),
        TaskRef(id="j", role="../../etc", prompt="x"),
        TaskRef(id="j", role="qa", prompt=""),
        TaskRef(id="j", role="qa", prompt="x", component="a b; rm -rf /"),
        TaskRef(id="j", role="qa", prompt="x", priority=10**9),
    ],
)
def test_an_announcement_that_cannot_be_is_answered_with_one_line(
    world: World, task: TaskRef
) -> None:
    accept(world, ANNOUNCER)
    heard(world, ANNOUNCER, TaskAvailable(task=task))
    (rejected,) = said(world, Rejected)
    assert rejected.agentId == ANNOUNCER
    assert rejected.reason
    assert "\n" not in rejected.reason
    heard(world, ANNOUNCER, TaskAvailable(task=task), replay=True)
    assert len(said(world, Rejected)) == 1
    assert world.waiting() == []


def test_anyone_may_announce_under_a_star_but_coordinators_and_oneself(world: World) -> None:
    accept(world, "*", coordinators=(OPERATOR,))
    for sender in (STRANGER, OPERATOR, ME):
        heard(world, sender, TaskAvailable(task=TaskRef(id="j", role="qa", prompt="x")))
    assert len(world.waiting()) == 1
    heard(world, STRANGER, Claim(task=TaskRef(id=world.waiting()[0])))
    assert said(world, Assign) == []


# -- agents that are not of our fleet


@pytest.mark.parametrize("claimant", ["guest", "fleet"])
def test_nothing_of_a_prompt_of_ours_is_said_on_the_channel(world: World, claimant: str) -> None:
    """Neither to who claims from outside, nor as the title that is only its first line."""
    accept(world, ANNOUNCER)
    agent = world.agent()
    secret = world.ledger.submit(NewTask("the secret plan\nis long"))
    world.do(m.Poked())
    who = ANNOUNCER if claimant == "guest" else agent.agent_id
    heard(world, who, Claim(task=TaskRef(id=secret)))
    world.prepare()
    world.tick(2.0)
    assert [message.task.id for message in said(world, TaskAvailable)] == [secret]
    assert [message.task.id for message in said(world, Assign)] == [secret, secret]
    everything = " ".join(encode(message) for message in world.said)
    assert "secret" not in everything
    assert "long" not in everything


def test_a_title_that_was_given_is_said(world: World) -> None:
    accept(world, ANNOUNCER)
    world.agent()
    task = add(world, title="Harmless")
    heard(world, ANNOUNCER, Claim(task=TaskRef(id=task)))
    world.prepare()
    refs = [message.task for message in (*said(world, TaskAvailable), *said(world, Assign))]
    assert [(ref.title, ref.prompt) for ref in refs] == [("Harmless", "")] * 2


def test_a_prompt_that_came_over_the_channel_goes_to_who_claims_it(world: World) -> None:
    accept(world, ANNOUNCER, OPERATOR)
    heard(world, ANNOUNCER, TaskAvailable(task=TaskRef(id="job", role="qa", prompt="test it")))
    (task,) = world.waiting()
    heard(world, OPERATOR, Claim(task=TaskRef(id=task)))
    world.prepare()
    (assign,) = said(world, Assign)
    assert (assign.agentId, assign.task.prompt) == (OPERATOR, "test it")


def test_a_named_announcer_may_work(world: World) -> None:
    accept(world, ANNOUNCER)
    task = add(world)
    heard(world, ANNOUNCER, Claim(task=TaskRef(id=task)))
    world.prepare()
    (assign,) = said(world, Assign)
    assert assign.agentId == ANNOUNCER
    assert world.told == []
    heard(world, ANNOUNCER, Status(task=TaskRef(id=task), fence=1, phase="started"), at=5.0)
    for _ in range(4):
        world.tick(60.0)
        heard(world, ANNOUNCER, Heartbeat(task=TaskRef(id=task), fence=1))
        heard(world, STRANGER, Heartbeat(task=TaskRef(id=task), fence=1))
    world.boot()
    accept(world, ANNOUNCER)
    world.tick(60.0)
    heard(world, ANNOUNCER, TaskDone(task=TaskRef(id=task), result="done"))
    assert state(world, task) is TaskState.DONE
    assert world.ledger.attempts(task)[0].agent == f"@{ANNOUNCER}"


def test_a_foreign_holder_that_falls_silent_loses_the_task(world: World) -> None:
    accept(world, ANNOUNCER)
    task = add(world)
    heard(world, ANNOUNCER, Claim(task=TaskRef(id=task)))
    world.prepare()
    heard(world, ANNOUNCER, Status(task=TaskRef(id=task), fence=1, phase="started"))
    world.tick(91.0)
    assert state(world, task) is TaskState.QUEUED
    assert said(world, Rejected)[-1].reason == "the lease expired"

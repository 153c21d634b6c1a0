"""What strangers, announcers and members of the fleet can say, and how little comes of it."""

from __future__ import annotations

import json

import pytest
from coordinator_world import ME, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarm.coordinator import bookkeeping, reports
from swarm.coordinator import messages as m
from swarm.coordinator.service import from_channel
from swarm.core.model import TaskState
from swarm.ledger import NewTask
from swarm.wire.agentchat.session import Said
from swarm.wire.work import Announced, Rejected, TaskAvailable, TaskRef, Unclaim

STRANGER, ANNOUNCER, OTHER = "d" * 16, "e" * 16, "f" * 16


def hear(world: World, sender: str, content: object, msg_id: str = "m-1") -> None:
    """As it comes from the channel, whatever it is."""
    text = content if isinstance(content, str) else json.dumps(content)
    event = from_channel(Said(sender, "x", text, msg_id, 2**53, False))
    if event is not None:
        world.do(event)


def test_numbers_no_ledger_holds_are_told_to_their_sender_and_change_nothing(world: World) -> None:
    """They are refused at the door: SQLite would raise, and the coordinator end."""
    agent = world.agent()
    task = world.ledger.submit(NewTask("do it"))
    world.do(m.Poked())
    world.start_all()
    for field in ('"fence":%s', '"fence":1,"commits":%s', '"fence":1,"exit_status":%s',
                  '"fence":1,"usage":{"input_tokens":%s}'):  # fmt: skip
        hear(world, agent.agent_id,
             f'{{"type":"TASK_DONE","task":{{"id":"{task}"}},{field % 10**30}}}')  # fmt: skip
    found = world.ledger.task(task)
    assert found is not None
    assert found.state is TaskState.RUNNING
    assert [type(one) for one in world.said[-4:]] == [Rejected] * 4


def test_nobody_parks_a_task_for_ever_by_giving_it_back(world: World) -> None:
    agent = world.agent()
    task = world.ledger.submit(NewTask("do it"))
    world.do(m.Poked())
    world.claim(agent, task)
    world.prepare()
    world.hear(agent, Unclaim(task=TaskRef(id=task), fence=1, retry_after=1e12))
    found = world.ledger.task(task)
    assert found is not None
    assert found.not_before is not None
    assert found.not_before <= world.wall() + reports.MAX_RETRY_SECONDS


def test_announcers_fill_the_ledger_only_so_far(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookkeeping, "MAX_WAITING_OF_ONE", 5)
    monkeypatch.setattr(bookkeeping, "MAX_OF_STRANGERS", 3)
    world.do(m.RulesAre((ME,), (ANNOUNCER, "*")))
    ours = world.ledger.submit(NewTask("ours"))
    for n in range(8):
        for sender in (ANNOUNCER, STRANGER, OTHER):
            message = Announced(task=TaskRef(role="builder", prompt=f"task {n}"))
            world.do(m.Heard(sender, message, f"{sender}-{n}"))
    by_sender = [world.ledger.announced((one,)) for one in (ANNOUNCER, STRANGER, OTHER)]
    assert by_sender[0] == 5
    assert sum(by_sender[1:]) == 3, "who is let in by * shares"
    assert world.ledger.announced((ANNOUNCER,), others=True) == 3
    assert ours in world.waiting()
    refusals = [one for one in world.said if isinstance(one, Rejected)]
    assert len(refusals) == 24 - 8
    assert all("later" in one.reason for one in refusals)
    # The same announcement again is none of the limit's business.
    world.do(m.Heard(ANNOUNCER, Announced(task=TaskRef(role="builder", prompt="task 0")),
                     f"{ANNOUNCER}-0"))  # fmt: skip
    assert world.ledger.announced((ANNOUNCER,)) == 5


HOSTILE_NAMES = ["../../x", "/etc/passwd", "-rf", "--upload-pack=x", "a/../b", ".", "x" * 300,
                 "a b", "ü", "a\x00b", "\x1b[2J", "\u202ex"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_is_none_makes_no_task(world: World, name: str) -> None:
    world.do(m.RulesAre((ME,), (ANNOUNCER,)))
    for field in ("role", "component"):
        ref = {"id": "e-1", "role": "builder", "prompt": "x", field: name}
        hear(world, ANNOUNCER, {"type": "TASK_AVAILABLE", "task": ref})
    assert world.waiting() == []
    hear(world, ANNOUNCER, {"type": "TASK_AVAILABLE", "task": {"id": name, "prompt": "x"}})
    (task,) = world.waiting()
    assert task.startswith("t-")
    assert len(task) == 10, "our own id, whatever theirs is"


def test_an_announcement_names_no_repository_and_no_branch(world: World) -> None:
    """Only the command line may (rules, "Git")."""
    world.do(m.RulesAre((ME,), (ANNOUNCER,)))
    for repo in ("ext::sh -c x", "file:///etc", "--upload-pack=x"):
        task = {"id": repo, "prompt": "x", "repo": repo, "branch": "../x", "after": ["t-1"]}
        hear(world, ANNOUNCER, {"type": "TASK_AVAILABLE", "task": task})
    for task_id in world.waiting():
        found = world.ledger.task(task_id)
        assert found is not None
        assert found.repo is None
        assert found.branch is None


def test_titles_and_prompts_carry_nothing_to_a_terminal(world: World) -> None:
    world.do(m.RulesAre((ME,), (ANNOUNCER,)))
    evil = "\x1b]0;owned\x07\x1b[2J\u202egnp\u0000"
    hear(world, ANNOUNCER, {"type": "TASK_AVAILABLE",
                            "task": {"id": "e", "title": evil, "prompt": "p"}})  # fmt: skip
    hear(world, ANNOUNCER, {"type": "TASK_AVAILABLE", "task": {"id": "f", "prompt": evil[:-1]}})
    tasks = [world.ledger.task(one) for one in world.waiting()]
    assert len(tasks) == 2
    for task in tasks:
        assert task is not None
        assert task.title.isprintable(), repr(task.title)


ids = st.sampled_from([STRANGER, ANNOUNCER, ME, "a" * 16, "", "@" + ME])
texts = st.sampled_from(["", "t-1", "../x", "builder", "x" * 300, "\x1b[2J", "1"]) | st.text(
    max_size=6
)
numbers = st.sampled_from([0, 1, -1, 2**53, 10**30, 0.5, 1e300])
refs = st.fixed_dictionaries(
    {}, optional={"id": texts, "component": texts, "role": texts, "title": texts,
                  "prompt": texts, "priority": numbers},
)  # fmt: skip
hostile = st.fixed_dictionaries(
    {"type": st.sampled_from(["TASK_AVAILABLE", "CLAIM", "ASSIGN", "REJECTED", "UNCLAIM", "TASK",
                              "TASK_DONE", "TASK_FAIL", "BLOCKED", "SETTLED", "HEARTBEAT",
                              "STATUS", "DANCE"])},
    optional={"agentId": ids, "task": refs | texts, "fence": numbers, "offer": st.lists(texts),
              "outcome": texts, "retry_after": numbers, "retry_at": numbers, "phase": texts,
              "commits": numbers, "cost_usd": numbers, "usage": st.just({"input_tokens": 5})},
)  # fmt: skip


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(hostile, min_size=1, max_size=10))
def test_whatever_strangers_say_leaves_the_ledger_as_it_was(said: list[object]) -> None:
    """A task that waits and one that runs: nobody outside can claim, end, or give them back."""
    world = World()
    try:
        world.do(m.RulesAre((ME,), (ANNOUNCER,)))
        world.agent()
        running = world.ledger.submit(NewTask("runs"))
        world.do(m.Poked())
        world.start_all()
        waiting = world.ledger.submit(NewTask("waits", role="qa"))
        world.do(m.Poked())
        before = [world.ledger.task(one) for one in (running, waiting)]
        for number, one in enumerate(said):
            assert isinstance(one, dict)
            for task in (running, waiting, None):
                more = {"task": {"id": task}, "fence": 1} if task else {}
                hear(world, STRANGER, {**one, **more}, f"m-{number}")
        assert [world.ledger.task(one) for one in (running, waiting)] == before
        assert len(world.ledger.tasks()) == 2
        told = [one for one in world.said if isinstance(one, Rejected)]
        assert len(told) <= 5, "a few are told, a flood is not answered by another"
        world.check()
    finally:
        world.close()


def test_an_announcement_again_is_the_same_task(world: World) -> None:
    world.do(m.RulesAre((ME,), (ANNOUNCER,)))
    message = TaskAvailable(agentId="x", task=TaskRef(id="j-1", role="builder", prompt="x"))
    for n in range(50):
        world.do(m.Heard(ANNOUNCER, message, f"m-{n}", replay=n % 2 == 1))
    assert len(world.waiting()) == 1

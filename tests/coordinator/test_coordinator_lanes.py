"""Lanes and labels: who is offered what, what is said when nobody is, and leases of outsiders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from coordinator_world import ME, Agent, World, add, state
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from swarm.coordinator import bookkeeping, leases
from swarm.coordinator import messages as m
from swarm.coordinator.machine import deadline
from swarm.core.model import Outcome, TaskState
from swarm.ledger import NewTask
from swarm.ledger.plan_records import Changes
from swarm.wire.lifeline import RoleRules
from swarm.wire.work import Claim, Rejected, Status, TaskAvailable, TaskRef

FRIEND = "f" * 16
OPENAI = {"vendor": ("openai",)}


@pytest.fixture
def world() -> Iterator[World]:
    made = World(3)
    yield made
    made.check()
    made.close()


def rules(world: World, **roles: RoleRules) -> None:
    world.do(m.RulesAre((ME,), (FRIEND,), roles))


def offered(world: World) -> dict[str, tuple[str, ...]]:
    return {task: offer.to for task, offer in world.state.offers.items()}


def rejected(world: World) -> list[str]:
    return [said.reason for said in world.said if isinstance(said, Rejected)]


# -- the reproduced fault: a task nobody can take starves all behind it


def many_that_nobody_takes(world: World) -> str:
    for number in range(1000):
        labels = {"vendor": "google", "area": f"a{number % 100}"}
        world.ledger.submit(NewTask("x", priority=9, lane="far", labels=labels))
    return world.ledger.submit(NewTask("x", priority=-9))


def test_a_thousand_tasks_nobody_takes_delay_no_other(world: World) -> None:
    task = many_that_nobody_takes(world)
    agent = world.agent()
    world.do(m.Poked())
    assert offered(world) == {task: (agent.name,)}


def test_a_queue_that_hides_another_would_be_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault itself: tasks are looked at in their order, whoever could take them."""
    many_that_nobody_takes(world)
    monkeypatch.setattr(bookkeeping, "fits", lambda takes, needs: "")
    world.agent()
    world.do(m.Poked())
    assert offered(world) == {}
    monkeypatch.undo()
    world.do(m.Poked())


def test_what_only_one_of_two_takes_hides_nothing_of_the_others(world: World) -> None:
    rules(world, builder=RoleRules(lanes=("fast",)), qa=RoleRules())
    fast = [add(world, lane="fast", priority=9) for _ in range(20)]
    checks = add(world, role="qa", priority=-9)
    builder, qa = world.agent("builder"), world.agent("qa")
    assert offered(world) == {fast[0]: (builder.name,), checks: (qa.name,)}


# -- who is offered what


@pytest.mark.parametrize(
    ("role", "taken"),
    [
        (RoleRules(), {"default", "free label"}),
        (RoleRules(lanes=("far",)), {"default", "free label", "lane"}),
        (RoleRules(lanes=("*",), labels=OPENAI), {"default", "free label", "lane", "openai"}),
        (RoleRules(labels={"area": ("lexer",)}), {"default"}),
        (RoleRules(labels={"area": ("*",)}), {"default", "free label"}),
    ],
)
def test_agents_are_offered_what_their_role_takes(
    world: World, role: RoleRules, taken: set[str]
) -> None:
    world.max_active = 9
    world.slots()
    rules(world, builder=role)
    tasks = {
        "default": add(world),
        "free label": add(world, labels={"area": "parser"}),
        "lane": add(world, lane="far"),
        "openai": add(world, labels={"vendor": "openai"}),
    }
    for _ in range(4):
        world.agent()
    assert {name for name, task in tasks.items() if task in offered(world)} == taken


def test_a_reload_is_minded_at_once(world: World) -> None:
    rules(world, builder=RoleRules())
    agent = world.agent()
    task = add(world, lane="far")
    assert "lane far is taken by no agent" in str(world.ledger.reason(task))
    rules(world, builder=RoleRules(lanes=("far",)))
    assert offered(world) == {task: (agent.name,)}
    assert world.ledger.reason(task) is None
    rules(world, builder=RoleRules())
    assert "lane far" in str(world.ledger.reason(task))
    world.claim(agent, task)
    assert rejected(world) == ["it is in lane far"]
    assert offered(world) == {}


def test_a_changed_task_is_offered_to_who_takes_it_now(world: World) -> None:
    rules(world, builder=RoleRules(), qa=RoleRules(labels=OPENAI))
    builder, qa = world.agent("builder"), world.agent("qa")
    task = add(world)
    assert offered(world) == {task: (builder.name,)}
    world.ledger.edit(task, Changes(role="qa", labels={"vendor": "openai"}))
    world.do(m.Poked())
    world.claim(builder, task)
    assert rejected(world) == ["it is for role qa"]
    assert offered(world) == {task: (qa.name,)}


def test_each_queue_says_why_nobody_takes_it(world: World) -> None:
    rules(world, builder=RoleRules())
    lane = add(world, lane="far")
    label = add(world, labels={"effort": "high"})
    role = add(world, role="auditor")
    fine = add(world)
    assert "role builder" in str(world.ledger.reason(fine)), "there is no agent at all yet"
    agent = world.agent()
    assert "lane far is taken by no agent of this fleet" in str(world.ledger.reason(lane))
    assert "offers effort=high" in str(world.ledger.reason(label))
    assert "takes role auditor" in str(world.ledger.reason(role))
    assert world.ledger.reason(fine) is None
    world.do(m.SlotsAre(0, "5 of 5 sessions run"))
    assert "5 of 5" in str(world.ledger.reason(fine))
    assert "lane far" in str(world.ledger.reason(lane)), "that no slot would mend"
    world.ledger.cancel(lane)
    world.do(m.Poked())
    assert len([key for key in world.ledger.notes() if key.startswith("queue:")]) == 2
    world.max_active = 3
    world.slots()
    world.claim(agent, fine)
    world.prepare()
    world.books.clear_notes()
    assert world.ledger.notes() == {}


# -- claims


def test_a_claim_by_component_passes_over_what_does_not_fit(world: World) -> None:
    rules(world, builder=RoleRules())
    add(world, component="parser", lane="far", priority=9)
    add(world, component="parser", labels={"model": "x"}, priority=9)
    mine = add(world, component="parser")
    agent = world.agent()
    world.claim(agent, "", "parser")
    assert list(world.state.leases) == [mine]


def test_a_claim_by_id_is_refused_for_what_does_not_fit(world: World) -> None:
    rules(world, builder=RoleRules(labels={"area": ("lexer",)}))
    agent = world.agent()
    for more in ({"lane": "far"}, {"labels": {"model": "x"}}, {"labels": {"area": "parser"}}):
        world.claim(agent, add(world, **more))
    assert rejected(world) == ["it is in lane far", "it wants model=x", "it wants area=parser"]


def test_a_friend_on_the_channel_takes_the_default_lane_unless_it_names_a_task(
    world: World,
) -> None:
    rules(world)
    lane = add(world, component="parser", lane="far", labels={"vendor": "openai"})
    friend = Agent("@" + FRIEND, FRIEND, "builder")
    world.claim(friend, "", "parser")
    assert world.state.leases == {}
    world.claim(friend, lane)
    assert list(world.state.leases) == [lane]


def test_a_request_that_changed_is_not_started(world: World, tmp_path: Any) -> None:
    path = tmp_path / "ask.md"
    path.write_text("other words")
    task = add(world, request_path=str(path), request_sha256="0" * 64)
    agent = world.agent()
    other = add(world, priority=-1)
    world.claim(agent, task)
    assert state(world, task) is TaskState.NEEDS_HUMAN
    assert "has changed" in rejected(world)[0]
    assert offered(world) == {other: (agent.name,)}


# -- announcements of others


def hear(world: World, ref: TaskRef) -> None:
    world.do(m.Heard(FRIEND, TaskAvailable(task=ref), "m-1"))


def test_an_announcement_may_name_lane_and_labels(world: World) -> None:
    rules(world)
    hear(world, TaskRef("j-1", role="qa", prompt="x", lane="far", labels={"area": "parser"}))
    (task,) = world.ledger.tasks()
    assert (task.lane, task.labels) == ("far", {"area": "parser"})
    assert any(isinstance(said, Status) for said in world.said)


@pytest.mark.parametrize(
    ("lane", "labels"),
    [
        ("*", {}),
        ("x" * 23, {}),
        ("", {"a b": "x"}),
        ("", {"key": "x" * 65}),
        ("", {f"k{n}": "x" for n in range(17)}),
        ("\x1b[2J", {}),
    ],
)
def test_a_hostile_place_is_refused(world: World, lane: str, labels: Mapping[str, str]) -> None:
    rules(world)
    hear(world, TaskRef("j-1", role="qa", prompt="x", lane=lane, labels=dict(labels)))
    assert world.ledger.tasks() == []
    assert len(rejected(world)) == 1
    assert "\x1b" not in rejected(world)[0]


# -- outsiders' leases


def take(world: World, who: str = "chat-1", seconds: float = 60.0, **more: Any) -> tuple[str, int]:
    claimed = world.ledger.lane_claim(who, lease_seconds=seconds, **more)
    assert claimed is not None
    world.do(m.Poked())
    return claimed.task.id, claimed.fence


def test_the_fleet_never_gets_what_an_outsider_holds(world: World) -> None:
    agent = world.agent()
    task = add(world)
    assert task in offered(world)
    take(world)
    assert offered(world) == {}
    world.claim(agent, task)
    assert rejected(world) == ["it is given to @chat-1"]
    world.tick(30.0)
    assert list(world.state.leases) == [task]


def test_a_lease_that_runs_out_is_over_by_the_coordinators_own_clock(world: World) -> None:
    task, _ = take(world, task=add(world))
    agent = world.agent()
    world.tick(59.0)
    assert state(world, task) is TaskState.RUNNING
    world.tick(2.0)
    assert state(world, task) is TaskState.QUEUED
    assert offered(world) == {task: (agent.name,)}
    assert [one.outcome for one in world.ledger.attempts(task)] == [Outcome.LOST]
    assert not [to for to in world.to if any("lane" in one for one in to)], "nobody to tell"


def test_a_renewed_lease_lives_although_no_word_of_it_came(world: World) -> None:
    task, fence = take(world, task=add(world))
    world.tick(50.0)
    world.ledger.lane_renew(task, fence, "chat-1")
    world.tick(55.0)
    assert state(world, task) is TaskState.RUNNING
    world.do(m.Poked())
    world.tick(70.0)
    assert state(world, task) is TaskState.QUEUED
    assert deadline(world.state) is None or deadline(world.state) > world.now  # type: ignore[operator]


def test_a_wall_clock_that_jumps_ends_no_lease(world: World, monkeypatch: Any) -> None:
    task, _ = take(world, task=add(world))
    monkeypatch.setattr(world, "wall", lambda: 1_800_000_000.0 + world.now + 86_400)
    world.do(m.Poked())
    world.tick(30.0)
    assert state(world, task) is TaskState.RUNNING
    world.tick(31.0)
    assert state(world, task) is TaskState.QUEUED


def test_what_an_outsider_gives_back_or_answers_is_seen(world: World) -> None:
    agent = world.agent()
    task, fence = take(world, task=add(world))
    world.ledger.lane_release(task, fence, "chat-1")
    world.do(m.Poked())
    assert offered(world) == {task: (agent.name,)}
    task, fence = take(world, task=task)
    child = add(world, after=(task,))
    world.ledger.lane_respond(task, fence, "chat-1", "done")
    world.do(m.Poked())
    assert world.state.leases == {}
    assert offered(world) == {child: (agent.name,)}


def test_a_cancelled_lease_of_an_outsider_is_over_at_once(world: World) -> None:
    task, _ = take(world, task=add(world))
    world.ledger.cancel(task)
    world.do(m.Poked())
    assert world.state.leases == {}
    assert world.ledger.holders() == []


def test_a_new_coordinator_gives_outsiders_a_full_term(world: World) -> None:
    task, _ = take(world, task=add(world))
    world.tick(50.0)
    world.boot()
    world.tick(50.0)
    assert state(world, task) is TaskState.RUNNING
    world.tick(15.0)
    assert state(world, task) is TaskState.QUEUED


def test_nobody_on_the_channel_speaks_for_an_outsider(world: World) -> None:
    rules(world)
    task, fence = take(world, task=add(world))
    world.do(m.Heard("lane:chat-1", Claim(task=TaskRef(id=task))))
    world.do(m.Heard(FRIEND, Claim(task=TaskRef(id=task))))
    assert rejected(world)[-1] == "it is given to @chat-1"
    assert world.state.leases[task].fence == fence


# -- whatever happens in whatever order


class Outsiders(RuleBasedStateMachine):
    """The world's own promises (:meth:`World.check`) with outsiders in it."""

    world: World
    held: dict[str, tuple[int, str]]

    @initialize()
    def start(self) -> None:
        self.world, self.held = World(2), {}
        rules(self.world, builder=RoleRules(lanes=("a",)), qa=RoleRules(labels=OPENAI))
        self.world.agent("builder")
        self.world.agent("qa")

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.close()

    @rule(
        role=st.sampled_from(["builder", "qa"]),
        lane=st.sampled_from(["", "a", "b"]),
        vendor=st.sampled_from(["", "openai", "google"]),
    )
    def submit(self, role: str, lane: str, vendor: str) -> None:
        add(self.world, role=role, lane=lane, labels={"vendor": vendor} if vendor else {})

    @rule(who=st.sampled_from(["x", "y"]), lane=st.sampled_from(["", "b", "*"]), poke=st.booleans())
    def outsider_claims(self, who: str, lane: str, poke: bool) -> None:
        claimed = self.world.ledger.lane_claim(who, lane=lane, lease_seconds=10.0)
        if claimed is not None:
            self.held[claimed.task.id] = (claimed.fence, who)
        self.world.do(m.Poked() if poke or claimed is not None else m.Tick())

    @rule(answer=st.booleans(), n=st.integers(0, 9))
    def outsider_ends(self, answer: bool, n: int) -> None:
        holders = self.world.ledger.outsiders()
        if holders:
            one = holders[n % len(holders)]
            ended = self.world.ledger.lane_respond if answer else self.world.ledger.lane_release
            if one.state is TaskState.RUNNING and one.lease_until > self.world.wall():
                ended(one.task, one.fence, one.agent[1:], "said")
        self.world.do(m.Poked())

    @rule()
    def renew_all(self) -> None:
        for one in self.world.ledger.outsiders():
            self.world.ledger.renew(one.task, one.fence)

    @rule(n=st.integers(0, 9))
    def cancel(self, n: int) -> None:
        tasks = self.world.ledger.tasks([TaskState.QUEUED, TaskState.RUNNING])
        if tasks:
            self.world.ledger.cancel(tasks[n % len(tasks)].id)
            self.world.do(m.Poked())

    @rule()
    def fleet_works(self) -> None:
        self.world.start_all()

    @rule(n=st.integers(0, 9))
    def ends(self, n: int) -> None:
        busy = [agent for agent in self.world.agents.values() if agent.task]
        if busy:
            self.world.finish(busy[n % len(busy)], Outcome.SUCCEEDED)

    @rule(seconds=st.sampled_from([1.0, 6.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        for agent in self.world.agents.values():
            if agent.task:
                self.world.do(m.Renewed(agent.task, agent.fence))
        self.world.tick(seconds)

    @rule()
    def restarts(self) -> None:
        self.world.boot()
        rules(self.world, builder=RoleRules(lanes=("a",)), qa=RoleRules(labels=OPENAI))

    @invariant()
    def promises(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.check()
        for task in self.world.ledger.outsiders():
            assert task.task not in self.world.state.offers, "offered although it is held"


TestOutsiders = Outsiders.TestCase
TestOutsiders.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def never_expires(state: Any, event: m.OutsiderExpired, now: float) -> Any:
    return state, ()


def sees_nobody(state: Any, event: m.OutsidersFound, now: float) -> Any:
    return state, ()


@pytest.mark.parametrize(
    ("name", "planted"), [("outsider_expired", never_expires), ("outsiders", sees_nobody)]
)
def test_a_planted_bug_is_caught(monkeypatch: Any, name: str, planted: Any) -> None:
    monkeypatch.setattr(leases, name, planted)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Outsiders,
            settings=settings(
                max_examples=300,
                stateful_step_count=30,
                deadline=None,
                database=None,
                phases=(Phase.generate,),
                derandomize=True,
            ),
        )

"""Whatever happens in whatever order, the coordinator keeps its promises.

The agents, the supervisor and time are the adversary.  Each property is also shown to catch a
bug planted on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from coordinator_world import ROLES, Agent, World
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from swarm.coordinator import claims, leases, offers
from swarm.coordinator import messages as m
from swarm.coordinator.state import State
from swarm.core.model import AgentState, Outcome, TaskState
from swarm.ledger import NewTask

roles = st.sampled_from(sorted(ROLES))
some = st.integers(0, 1000)


class Fleet(RuleBasedStateMachine):
    world: World

    @initialize(max_active=st.integers(1, 4), first=st.lists(roles, min_size=1, max_size=4))
    def start(self, max_active: int, first: list[str]) -> None:
        self.world = World(max_active)
        for role in first:
            self.world.agent(role)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.close()

    def pick(self, n: int, able: Callable[[Agent], bool]) -> Agent | None:
        found = [agent for agent in self.world.agents.values() if able(agent)]
        return found[n % len(found)] if found else None

    # -- work

    @rule(role=roles, priority=st.integers(-1, 1))
    def submit(self, role: str, priority: int) -> None:
        self.world.ledger.submit(NewTask("x", role=role, priority=priority, component="c"))
        self.world.do(m.Poked())

    @rule(n=some)
    def cancel(self, n: int) -> None:
        tasks = self.world.ledger.tasks([TaskState.QUEUED, TaskState.RUNNING])
        if tasks:
            self.world.ledger.cancel(tasks[n % len(tasks)].id)
            self.world.do(m.Poked())

    @rule(n=some)
    def retry(self, n: int) -> None:
        tasks = [task for task in self.world.ledger.tasks() if task.state.ended]
        if tasks:
            self.world.ledger.retry(tasks[n % len(tasks)].id)
            self.world.do(m.Poked())

    # -- agents

    @precondition(lambda self: len(self.world.agents) < 6)
    @rule(role=roles)
    def comes(self, role: str) -> None:
        self.world.agent(role)

    @rule(n=some)
    def claims_its_offer(self, n: int) -> None:
        offered = [(o.task.id, name) for o in self.world.state.offers.values() for name in o.to]
        if offered:
            task, name = offered[n % len(offered)]
            self.world.claim(self.world.agents[name], task)

    @rule(n=some, by_component=st.booleans())
    def claims_all_there_is(self, n: int, by_component: bool) -> None:
        agent = self.pick(n, lambda a: a.state is AgentState.IDLE)
        if agent is not None and by_component:
            self.world.claim(agent, "", "c")
        elif agent is not None:
            ledger = self.world.ledger
            for task in (*ledger.tasks([TaskState.QUEUED], limit=3), *ledger.tasks(limit=3)):
                self.world.claim(agent, task.id)

    @precondition(lambda self: self.world.preparing)
    @rule(fails=st.sampled_from(["", "", "", "no such repository"]))
    def repository_answers(self, fails: str) -> None:
        self.world.prepare(fails)

    def can_start(self, agent: Agent) -> bool:
        return agent.agent_id in self.world.pending and agent.state is AgentState.IDLE

    @rule(n=some)
    def promoted(self, n: int) -> None:
        if agent := self.pick(n, self.can_start):
            self.world.promote(agent)

    @rule(n=some, wait=st.sampled_from([0.0, 5.0]))
    def gives_back(self, n: int, wait: float) -> None:
        if agent := self.pick(n, self.can_start):
            self.world.refuse(agent, wait)

    @rule()
    def all_goes_well(self) -> None:
        """The usual course, so that what may go wrong later is reached often."""
        self.world.start_all()

    @rule(n=some)
    def starts(self, n: int) -> None:
        if agent := self.pick(n, lambda a: a.state is AgentState.PROMOTING):
            self.world.begin(agent)

    @rule(n=some, outcome=st.sampled_from(list(Outcome)), by_chat=st.booleans())
    def ends(self, n: int, outcome: Outcome, by_chat: bool) -> None:
        if agent := self.pick(n, lambda a: bool(a.task)):
            self.world.finish(agent, outcome, by_chat)

    @rule(n=some)
    def dies(self, n: int) -> None:
        if agent := self.pick(n, lambda a: a.state is not AgentState.BACKOFF):
            self.world.die(agent)

    @rule(n=some)
    def is_back(self, n: int) -> None:
        if agent := self.pick(n, lambda a: a.state is AgentState.BACKOFF):
            self.world.becomes(agent, AgentState.IDLE)

    @rule(n=some)
    def beats(self, n: int) -> None:
        if agent := self.pick(n, lambda a: bool(a.task)):
            self.world.do(m.Renewed(agent.task, agent.fence))

    # -- the world

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 20.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule(max_active=st.integers(0, 4))
    def limit(self, max_active: int) -> None:
        self.world.max_active = max_active
        self.world.slots()

    @rule()
    def chat_goes(self) -> None:
        self.world.do(m.Online(False))

    @rule()
    def chat_comes(self) -> None:
        self.world.do(m.Online(True))

    @rule()
    def coordinator_restarts(self) -> None:
        self.world.boot()

    @invariant()
    def promises(self) -> None:
        if hasattr(self, "world"):
            self.world.check()


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)


def found_within(examples: int) -> None:
    """Run the property as above, without shrinking: only whether it fails matters."""
    run_state_machine_as_test(
        Fleet,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            derandomize=True,
        ),
    )


def offers_to_leased_agents(state: State, besides: str = "") -> list[Any]:
    return [fact for fact in state.agents.values() if fact.state is AgentState.IDLE]


def forgets_the_lease(state: State, event: m.ClaimWon, now: float) -> claims.Step:
    after, effects = claims_won(state, event, now)
    return replace(after, leases=state.leases), effects


def never_asks_again(state: State, offer: Any, now: float) -> Any:
    return offers.withdraw(state, offer.task.id), ()


def leaves_what_nobody_holds(state: State, event: m.SnapshotTaken, now: float) -> leases.Step:
    return leases_snapshot(state, replace(event, holders=()), now)


def one_agent_may_hold_two(state: State, agent_id: str) -> None:
    return None


claims_won, leases_snapshot = claims.won, leases.snapshot


@pytest.mark.parametrize(
    ("module", "name", "planted"),
    [
        (offers, "idle_agents", offers_to_leased_agents),
        (claims, "won", forgets_the_lease),
        (claims, "lease_of", one_agent_may_hold_two),
        (offers, "again", never_asks_again),
        (leases, "snapshot", leaves_what_nobody_holds),
    ],
)
def test_a_planted_bug_is_caught(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, planted: Any
) -> None:
    """A property that cannot fail shows nothing."""
    monkeypatch.setattr(module, name, planted)
    with pytest.raises(AssertionError):
        found_within(1000)

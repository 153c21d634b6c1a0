"""Budgets and estimates in the coordinator: what an attempt may spend, and what waits for one."""

from __future__ import annotations

from typing import Any

from coordinator_world import ME, Agent, World, add

from swarm.coordinator import messages as m
from swarm.coordinator.service import from_supervisor
from swarm.core.budget import Amount
from swarm.core.model import AgentState, Outcome, TaskState, Usage
from swarm.ledger import Task
from swarm.wire.lifeline import Finished, LandingRules, RoleRules, Rules

LIMITED = {
    "": RoleRules(task_usd_budget=9.0),
    "builder": RoleRules(task_token_budget=100, estimate_tokens=40, estimate_usd=0.5),
}


def rules(world: World, roles: dict[str, RoleRules]) -> None:
    world.do(m.RulesAre((ME,), (), roles))


def found(world: World, task: str) -> Task:
    one = world.ledger.task(task)
    assert one is not None
    return one


def claimed(world: World) -> m.Prepare:
    """The one idle agent claims what it was offered; its work is being prepared."""
    for offer in list(world.state.offers.values()):
        world.claim(world.agents[offer.to[0]], offer.task.id)
    (prepare,) = world.preparing
    return prepare


def ends(world: World, agent: Agent, outcome: Outcome, **more: Any) -> None:
    world.do(m.HandedOver(agent.name, Finished(agent.task, agent.fence, outcome, **more)))
    world.becomes(agent, AgentState.IDLE)


def test_the_task_of_an_agent_that_has_spent_its_own_goes_on_with_another(world: World) -> None:
    """Nobody knows when that one may go on with its session."""
    first, second = world.agent(), world.agent()
    task = add(world)
    world.start_all()
    agent, other = (first, second) if first.task else (second, first)
    said = f"the token budget of {agent.name} is spent: 9 of 9"
    closed(world, agent, said)
    ends(world, agent, Outcome.OVER_BUDGET, swarm_budget=True, session_id="s-1", reason=said)
    closed(world, agent, said)
    world.start_all()
    assert other.task == task


def closed(world: World, agent: Agent, why: str) -> None:
    """The supervisor says that this agent may start nothing now, or may again."""
    world.do(m.AgentChanged(replace_fact(agent, why)))


def replace_fact(agent: Agent, why: str) -> Any:
    import msgspec

    return msgspec.structs.replace(agent.fact, closed=why, spent_up=bool(why))


# -- what an attempt may spend


def test_an_attempt_is_told_what_is_left_of_its_tasks_budget(world: World) -> None:
    rules(world, LIMITED)
    agent = world.agent()
    add(world)
    assert world.books.left(claimed(world).claimed) == Amount(100, None)
    world.start_all()
    ends(world, agent, Outcome.LOST, usage=Usage(50, 20), cost_usd=1.0)
    assert world.books.left(claimed(world).claimed) == Amount(30, None)
    world.start_all()


def test_its_own_budget_goes_before_its_roles_part_by_part(world: World) -> None:
    rules(world, LIMITED)
    world.agent()
    add(world, budget=Amount(None, 2.0))
    assert world.books.left(claimed(world).claimed) == Amount(100, 2.0)
    world.start_all()


def test_a_role_nobody_named_has_the_swarms(world: World) -> None:
    rules(world, LIMITED)
    world.agent("qa")
    add(world, role="qa")
    assert world.books.left(claimed(world).claimed) == Amount(None, 9.0)
    world.start_all()


def test_a_task_that_has_spent_all_of_it_fails_instead_of_starting_again(world: World) -> None:
    """Two attempts that were nobody's fault used it up."""
    rules(world, LIMITED)
    agent = world.agent()
    task = add(world)
    for _ in range(2):
        world.start_all()
        assert agent.task == task
        ends(world, agent, Outcome.LOST, usage=Usage(50, None))
    world.start_all()
    assert agent.task == ""
    one = found(world, task)
    assert one.state is TaskState.FAILED
    assert one.reason.startswith(f"the token budget of {task} is spent: 100 of 100; `agentctl ")
    assert len(world.ledger.attempts(task)) == 2
    rules(world, {"builder": RoleRules(task_token_budget=150)})
    world.ledger.retry(task)
    world.do(m.Poked())
    world.start_all()
    assert agent.task == task


def test_a_budget_raised_by_reload_counts_for_the_next_attempt(world: World) -> None:
    rules(world, LIMITED)
    world.agent()
    add(world)
    rules(world, {"builder": RoleRules(task_token_budget=500)})
    assert world.books.left(claimed(world).claimed) == Amount(500, None)
    world.start_all()


# -- estimates


def test_a_session_counts_as_its_roles_estimate_until_it_says_more(world: World) -> None:
    rules(world, LIMITED)
    agent = world.agent()
    task = add(world)
    world.start_all()
    assert world.ledger.spent_on(task) == Amount(40, 0.5)
    ends(world, agent, Outcome.SUCCEEDED, usage=Usage(7, None))
    (attempt,) = world.ledger.attempts(task)
    assert attempt.counted == Amount(7, 0.5)
    assert attempt.estimated


def test_the_estimate_is_that_of_the_agent_that_runs_it(world: World) -> None:
    """Its runtime is the one that does not say."""
    rules(world, {**LIMITED, "general": RoleRules(estimate_tokens=3)})
    agent = world.agent("general")
    task = add(world)
    world.start_all()
    assert agent.task == task
    assert world.ledger.spent_on(task) == Amount(3)


def test_what_our_agent_spends_on_a_foreign_task_counts_once(world: World) -> None:
    rules(world, LIMITED)
    agent = world.agent()
    theirs = Finished("theirs", 3, Outcome.SUCCEEDED, exit_status=0, usage=Usage(20, None))
    for _ in range(2):
        world.do(m.HandedOver(agent.name, theirs))
    assert world.ledger.spending().agents == {agent.name: Amount(20, 0.5)}
    never_ran = Finished("other", 3, Outcome.FAILED)
    world.do(m.HandedOver(agent.name, never_ran))
    assert world.ledger.spending().agents == {agent.name: Amount(20, 0.5)}


# -- why a task waits


def test_a_task_shows_that_the_swarms_budget_is_spent_and_starts_when_it_is_raised(
    world: World,
) -> None:
    agent = world.agent()
    task = add(world)
    world.start_all()
    world.max_active = 0
    said = "the token budget is spent: 100 of 100"
    world.do(m.SlotsAre(0, said))
    other = add(world)
    ends(world, agent, Outcome.OVER_BUDGET, swarm_budget=True, reason=said)
    world.do(m.SlotsAre(0, said))
    assert [world.ledger.reason(one) for one in (task, other)] == [said, said]
    world.max_active = 3
    world.do(m.SlotsAre(3, ""))
    assert [world.ledger.reason(one) for one in (task, other)] == [None, None]
    world.start_all()
    assert agent.task == task


def test_a_task_whose_agents_have_all_spent_theirs_shows_that_and_no_other_does(
    world: World,
) -> None:
    first, second, qa = world.agent(), world.agent(), world.agent("qa")
    world.do(m.SlotsAre(3, ""))
    closed(world, first, "the budget of swarm-builder-001 is spent: $2.00 of $2.00")
    task = add(world)
    assert world.ledger.reason(task) is None, "the second could take it"
    world.start_all()
    assert second.task == task
    closed(world, second, "the budget of swarm-builder-002 is spent: $2.00 of $2.00")
    waits, theirs = add(world), add(world, role="qa")
    said = "the budget of swarm-builder-001 is spent: $2.00 of $2.00"
    assert world.ledger.reason(waits) == said
    assert world.ledger.reason(theirs) is None
    closed(world, first, "")
    assert world.ledger.reason(waits) is None
    world.start_all()
    assert (first.task, qa.task) == (waits, theirs)


def test_a_denial_for_a_budget_delays_nothing_once_it_is_raised(world: World) -> None:
    """The gate had just closed when the daemon asked."""
    agent = world.agent()
    task = add(world)
    world.claim(agent, task)
    world.prepare()
    world.refuse(agent, retry_after=1.0)
    one = found(world, task)
    assert one.not_before is not None
    assert one.not_before <= world.wall() + 1.0
    world.tick(2.0)
    world.start_all()
    assert agent.task == task


def test_the_supervisors_rules_bring_the_roles() -> None:
    event = from_supervisor(Rules(coordinators=("@" + ME,), announcers=(), roles=LIMITED))
    assert event == m.RulesAre((ME,), (), LIMITED, landing=LandingRules())

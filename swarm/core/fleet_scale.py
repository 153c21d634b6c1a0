"""How many agents there are: names, growing, shrinking.

A busy agent is never stopped to make the fleet smaller: it leaves after its task, if the fleet is
still too large then (product, "Scale").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from swarm.core import journal, life
from swarm.core.fleet_agents import Agent, Waiting
from swarm.core.fleet_effects import (
    Refuse,
    Reply,
    TellLeave,
    Tidy,
    Tune,
)
from swarm.core.fleet_events import ScaleAsked, Tidied
from swarm.core.fleet_state import COORDINATOR, FleetState
from swarm.core.life import Life
from swarm.core.model import AgentState, agent_name
from swarm.core.plan import apportion

_DOWN = (AgentState.DEGRADED, AgentState.STOPPED, AgentState.BACKOFF)


def scale_asked(fleet: FleetState, event: ScaleAsked) -> None:
    """Change the wanted counts.  Zero agents in all is a stop, which the caller asks for."""
    if event.settings is not None:
        fleet.settings = event.settings
        fleet.tell(Tune(COORDINATOR))  # it minds the roles' budgets
    wanted = dict(fleet.wanted)
    if event.total is not None:
        weights = {r: n for r, n in wanted.items() if n} or wanted
        try:
            wanted = dict.fromkeys(wanted, 0) | apportion(event.total, weights)
        except ValueError as error:
            fleet.emit(Refuse(event.reply, str(error), "name a role: scale ROLE=N"))
            return
    else:
        wanted |= event.roles
    lines, data = set_counts(fleet, wanted, event.taken)
    fleet.emit(Reply(event.reply, lines, data))


def set_counts(
    fleet: FleetState, wanted: Mapping[str, int], taken: frozenset[str]
) -> tuple[tuple[str, ...], dict[str, object]]:
    """Want these counts; returns what that led to, for people and as data."""
    before = {role: n for role, n in fleet.wanted.items() if n or wanted.get(role)}
    fleet.wanted = dict(wanted)
    fleet.taken = taken
    started = fill(fleet, taken) if fleet.started_daemons else []
    stopped = shrink(fleet)
    preserved = sum(max(0, fleet.surplus(role)) for role in wanted)
    after = {role: n for role, n in wanted.items() if n or before.get(role)}
    fleet.note(journal.Scaled(dict(before), dict(after), preserved))
    did = [f"{len(started)} starting"] * bool(started) + [f"{len(stopped)} stopping"] * bool(
        stopped
    )
    if preserved:
        did.append(f"{preserved} busy preserved until their task is over")
    line = f"scaled {sum(before.values())} → {sum(after.values())}: " + (
        ", ".join(did) or "nothing to do"
    )
    roles = tuple(
        f"  {role} {before.get(role, 0)} → {n}"
        for role, n in after.items()
        if n != before.get(role)
    )
    data: dict[str, object] = {
        "before": before,
        "after": after,
        "started": started,
        "stopped": stopped,
        "preserved": preserved,
    }
    return (line, *(roles if len(after) > 1 else ())), data


def fill(fleet: FleetState, taken: frozenset[str]) -> list[str]:
    """Add the agents that are missing; returns their names."""
    added: list[str] = []
    for role, wanted in fleet.wanted.items():
        missing = wanted - fleet.counts.get(role, 0)
        if missing > 0:
            names = _free_names(fleet, role, taken)
            for _ in range(missing):
                name = next(names)
                _add(fleet, name, role)
                added.append(name)
    return added


def _add(fleet: FleetState, name: str, role: str) -> None:
    settings = fleet.settings
    fleet.put(Agent(name, role, Life(name, settings.policy, settings.daemon_terms)))
    fleet.live(name, life.StartRequested())


def _free_names(fleet: FleetState, role: str, taken: frozenset[str]) -> Iterator[str]:
    """Names by the lowest index that nobody uses and no workspace has."""
    gone = {*fleet.to_tidy, *fleet.tidying}
    index = 0
    while True:
        index += 1
        name = agent_name(role, index)
        if name not in fleet.agents and name not in taken and name not in gone:
            yield name


def shrink(fleet: FleetState) -> list[str]:
    """Stop what is too many: who is down, then the longest idle; returns their names."""
    promised = {assignment.agent for assignment in fleet.assigned.values()}
    stopped: list[str] = []
    for role in list(fleet.counts):
        surplus = fleet.surplus(role)
        if surplus <= 0:
            continue
        free = [
            agent
            for agent in fleet.agents.values()
            if agent.role == role and not (agent.busy or agent.leaving or agent.name in promised)
        ]
        free.sort(key=_order)
        for agent in free[:surplus]:
            retire(fleet, agent)
            stopped.append(agent.name)
    return stopped


def _order(agent: Agent) -> tuple[int, float, str]:
    """Who goes first: no daemon at all, then idle, longest idle first, then the rest."""
    if agent.state in _DOWN:
        return 0, agent.since, agent.name
    if isinstance(agent.work, Waiting):
        return 1, agent.work.since, agent.name
    return 2, -agent.since, agent.name


def retire(fleet: FleetState, agent: Agent) -> None:
    """Let an agent go for good."""
    agent = fleet.put(replace(agent, leaving=True))
    grace = fleet.settings.grace_seconds
    stop = life.StopRequested(fleet.settings.leave_seconds, "scaled down")
    fleet.live(agent.name, stop, TellLeave(agent.name, grace))


def settle_idle(fleet: FleetState) -> None:
    """Who has just become idle goes, if the fleet is still too large."""
    if fleet.stop is not None or not any(fleet.surplus(role) > 0 for role in fleet.counts):
        return
    promised = {assignment.agent for assignment in fleet.assigned.values()}
    for name in list(fleet.touched):
        agent = fleet.agents.get(name)
        if agent is None or not agent.idle or name in promised:
            continue
        if fleet.surplus(agent.role) > 0:
            retire(fleet, agent)


def leavers(fleet: FleetState) -> None:
    """Take those that have left out of the fleet, and tidy up after them."""
    for name in list(fleet.touched):
        agent = fleet.agents.get(name)
        if agent is None or not agent.leaving or name in fleet.up:
            continue
        fleet.drop(name)
        for reply in fleet.waiting_gone.pop(name, []):
            fleet.emit(Reply(reply, (f"{name} stopped",)))
        if not fleet.settings.persist:
            fleet.to_tidy.append(name)
    tidy_next(fleet)


def tidy_next(fleet: FleetState) -> None:
    """Give the janitor what waits for it, one batch at a time; a stop does it all at once."""
    if fleet.to_tidy and not fleet.tidying and fleet.stop is None:
        fleet.tidying, fleet.to_tidy = tuple(fleet.to_tidy), []
        fleet.emit(Tidy(fleet.tidying))


def tidied(fleet: FleetState, event: Tidied) -> None:
    """The janitor is done."""
    fleet.tidying = ()
    if fleet.stop is not None:
        fleet.stop.lines += event.lines
        if fleet.stop.last_tidy:
            fleet.stop.stage = "over"
    tidy_next(fleet)

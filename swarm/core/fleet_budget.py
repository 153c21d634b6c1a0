"""Budgets in the fleet: who has spent what, who is warned, whose session ends, whose gate closes.

The swarm's budget closes the gate and, at the moment that a session's word takes it over, ends
every session; an agent's own closes and ends that agent only.  The tasks wait then for the next
window or for a budget that was raised (rules, "Outcomes").  A task's own budget is its daemon's to
mind; here it is only warned of.  Everything is looked at as soon as it is heard, in the same event:
no session is granted between a report and the budget it has spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from swarm.core import journal
from swarm.core.budget import Amount, RoleBudget, over, shares
from swarm.core.fleet_agents import Active, Promoting
from swarm.core.fleet_events import SpendingIs
from swarm.core.fleet_settings import FleetSettings
from swarm.core.fleet_state import FleetState
from swarm.core.fleet_work import end_session
from swarm.core.model import Outcome, split_agent_name

NEAR, SPENT = 1, 2
"""How near its end a budget was said to be; 0 is not at all."""
WORDS = {"tokens": "token budget", "usd": "budget"}


# -- what is heard --------------------------------------------------------------------------------


def spending_is(fleet: FleetState, event: SpendingIs) -> None:
    """The ledger was read.  A reading of another window than the configured one says nothing."""
    reading = event.reading
    if (reading.day > 0) != fleet.settings.budget_daily:
        return
    resets = None if reading.resets_in is None else fleet.now + reading.resets_in
    _reset_at(fleet, resets)
    fleet.count(fleet.tally.read(reading))


def window_over(fleet: FleetState) -> None:
    """Midnight: nothing is spent of the new day's budget; the next reading says when it ends."""
    _reset_at(fleet, None)
    fleet.count(fleet.tally.begun_anew(fleet.tally.day + 1))


def limits_changed(fleet: FleetState, before: FleetSettings) -> None:
    """After a reload; what was read of another window counts no more."""
    tally = fleet.tally
    if before.budget_daily != fleet.settings.budget_daily:
        _reset_at(fleet, None)
        tally = tally.begun_anew(0)
    fleet.count(tally)


def _reset_at(fleet: FleetState, at: float | None) -> None:
    fleet.spending_resets_at = at
    fleet.timers.set(("budget", ""), at)


# -- what people ask ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """How a budget stands; unknown and unlimited parts are ``None``."""

    limit: Amount
    spent: Amount
    shares: Mapping[str, float]
    warning: str = ""


def standing(fleet: FleetState, agent: str = "") -> Standing:
    """The swarm's budget, or one agent's own."""
    limit = limit_of(fleet, agent) if agent else fleet.settings.budget
    spent = fleet.tally.spent(agent) if agent else fleet.spent
    found = shares(spent, limit)
    warning = over(spent, limit, agent)
    near = {part: share for part, share in found.items() if _near(fleet, share)}
    if not warning and near:
        part = max(near, key=lambda one: near[one])
        warning = _text(agent, "", part, near[part], spent, limit)
    return Standing(limit, spent, found, warning)


# -- what follows ---------------------------------------------------------------------------------


def limit_of(fleet: FleetState, name: str) -> Amount:
    """What an agent may spend in the window."""
    split = split_agent_name(name)
    role = split[0] if split is not None else ""
    return fleet.settings.budgets.get(role, RoleBudget()).limit


def enforce(fleet: FleetState) -> None:
    """Whatever follows from spending that was heard of since the last time."""
    spenders = fleet.spenders
    if spenders is not None and not spenders:
        return
    fleet.spenders = set()
    names = fleet.agents.keys() if spenders is None else spenders
    limited = [name for name in names if not limit_of(fleet, name).nothing]
    if spenders is None:
        _forget_marks(fleet)
    _close(fleet, limited, everyone=spenders is None)
    _mark(fleet, "", fleet.spent, fleet.settings.budget)
    for name in limited:
        _mark(fleet, name, fleet.tally.spent(name), limit_of(fleet, name))
    _warn_of_tasks(fleet)
    if limited or not fleet.settings.budget.nothing:
        _end_sessions(fleet)


def _forget_marks(fleet: FleetState) -> None:
    """Who has no limit any more, or left the fleet, is warned afresh if it gets one again."""
    for who, part in list(fleet.warned):
        agent = split_agent_name(who) is not None
        if agent and (who not in fleet.agents or limit_of(fleet, who).nothing):
            del fleet.warned[who, part]


def _close(fleet: FleetState, limited: Iterable[str], *, everyone: bool) -> None:
    """Note who has spent its own budget, and tell the coordinator who has not any more."""
    now_spent = {} if everyone else dict(fleet.spent_up)
    for name in limited:
        why = over(fleet.tally.spent(name), limit_of(fleet, name), name)
        if why:
            now_spent[name] = why
        else:
            now_spent.pop(name, None)
    for name in fleet.spent_up.keys() | now_spent.keys():
        if fleet.spent_up.get(name) != now_spent.get(name):
            fleet.touched[name] = None
    fleet.spent_up = now_spent


def _end_sessions(fleet: FleetState) -> None:
    """End what may go on no longer; an estimate alone ends nobody."""
    swarms = over(fleet.tally.certain(), fleet.settings.budget)
    for key, session in fleet.tally.running().items():
        agent = fleet.agents.get(session.agent)
        if agent is None or agent.held != key:
            continue
        if not isinstance(agent.work, Promoting | Active) or agent.work.ending:
            continue
        limit = limit_of(fleet, agent.name)
        own = "" if limit.nothing else over(fleet.tally.certain(agent.name), limit, agent.name)
        if why := swarms or own:
            end_session(fleet, agent, Outcome.OVER_BUDGET, why)


def _warn_of_tasks(fleet: FleetState) -> None:
    """Near the end of what a task may spend; that it is spent, its own daemon says."""
    limited = {key[0]: one for key, one in fleet.tally.running().items() if not one.own.nothing}
    for task, session in limited.items():
        _mark(fleet, task, session.heard, session.own, agent=session.agent)
    for who, part in list(fleet.warned):
        if who.startswith("t-") and who not in limited:
            del fleet.warned[who, part]


def _mark(fleet: FleetState, who: str, spent: Amount, limit: Amount, agent: str = "") -> None:
    """Say each crossing once, upwards; ``agent``: it is about the task ``who`` of that agent."""
    found = shares(spent, limit)
    for part in WORDS:
        share = found.get(part, 0.0)
        level = SPENT if share >= 1 and not agent else NEAR if _near(fleet, share) else 0
        before = fleet.warned.get((who, part), 0)
        if level:
            fleet.warned[who, part] = level
        else:
            fleet.warned.pop((who, part), None)
        child = agent or who
        text = _text(who, agent, part, share, spent, limit)
        if level == SPENT > before:
            fleet.note(journal.BudgetSpent(text, child))
        elif level == NEAR and before == 0:
            fleet.note(journal.BudgetNear(text, child))
        elif before == SPENT > level:
            fleet.note(journal.BudgetOpen(f"{_which(who, agent, part)} allows more again", child))


def _near(fleet: FleetState, share: float) -> bool:
    return share > 0 and share >= fleet.settings.warn_at


def _text(who: str, agent: str, part: str, share: float, spent: Amount, limit: Amount) -> str:
    return f"{share:.0%} of {_which(who, agent, part)} is spent: {_of(part, spent, limit)}"


def _which(who: str, agent: str, part: str) -> str:
    word = WORDS[part]
    if not who:
        return f"the swarm's {word}"
    return f"the {word} left to {who}" if agent else f"its own {word}"


def _of(part: str, spent: Amount, limit: Amount) -> str:
    if part == "tokens":
        return f"{spent.tokens or 0:,} of {limit.tokens or 0:,}"
    return f"${spent.usd or 0.0:.2f} of ${limit.usd or 0.0:.2f}"

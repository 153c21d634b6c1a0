"""The status page: what the status object says, laid out for people."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from swarm.cli.screen import age, one_line, rich_table, seconds_of, span, table_lines

if TYPE_CHECKING:
    from rich.console import RenderableType

LISTED = 60
"""Agents listed of a fleet that is larger; the others are counted."""
ASKED, LANDINGS, QUESTION = 5, 3, 160
"""Questions and landings listed above the table, and characters of each."""
REASON = 60
"""Characters of a reason in a plain table."""

COLUMNS = ("AGENT", "STATE", "SINCE", "TASK", "PID", "MEMORY", "CPU", "RESTARTS", "REASON")


def page(facts: Mapping[str, Any], every_agent: bool, *, terminal: bool) -> RenderableType:
    """The whole page: plain text, or for a terminal a ``rich`` group."""
    agents = _mappings(facts.get("agents"))
    shown, left_out = (agents, 0) if every_agent else select(agents)
    told = _told_above(_mapping(facts.get("swarm")))
    rows = [agent_row(agent, 0 if terminal else REASON, told) for agent in shown]
    rows += [_service_row(service) for service in _mappings(facts.get("services"))]
    notes = [f"… {left_out} more agents are not listed: --all"] if left_out else []
    if any(agent.get("state") == "degraded" for agent in agents):
        notes.append("'agentctl agent restart NAME' brings a degraded agent back")
    if not terminal:
        return "\n".join([*heading(facts), "", *table_lines(COLUMNS, rows), *notes])
    from rich.console import Group
    from rich.text import Text

    return Group(
        *(Text(line) for line in (*heading(facts), "")),
        rich_table(COLUMNS, rows, state=1),
        *(Text(line, style="dim") for line in notes),
    )


def heading(facts: Mapping[str, Any]) -> list[str]:
    """The lines above the table: swarm, pause, config, counts, usage."""
    swarm = _mapping(facts.get("swarm"))
    limits = _mapping(facts.get("limits"))
    states = Counter(str(agent.get("state")) for agent in _mappings(facts.get("agents")))
    chat = one_line(str(swarm.get("chat_url") or "not up"))
    home = one_line(str(swarm.get("home")))
    up = age(swarm.get("started_at"))
    lines = [
        f"swarm   pid {swarm.get('pid')}, up {up}, chat {chat}, home {home}",
        f"agents  {_counted(states)}; at most {limits.get('max_active', '-')} active",
        f"tasks   {_counted(_mapping(facts.get('tasks')))}",
        f"usage   {usage_text(_mapping(facts.get('usage')))}",
    ]
    if held := swarm.get("containment"):
        by, abi = swarm.get("limits_by") or "?", swarm.get("landlock") or "none"
        loose = limits.get("cpu_percent") and "cpu" not in (swarm.get("limits_enforced") or ())
        more = ", processor time not capped" if loose else ""
        lines.append(f"holds   {one_line(f'{held}, Landlock ABI {abi}, limits by {by}{more}')}")
    quotas = _mappings(swarm.get("quotas"))
    paused = _mapping(swarm.get("paused"))
    if paused and not any(_is_of(quota, paused.get("reason")) for quota in quotas):
        until = f", until {clock(paused['until'])}" if paused.get("until") else ""
        reason = one_line(f"{paused.get('reason') or 'no reason given'}{until}")
        lines.insert(1, f"paused  {reason}")
    for quota in reversed(quotas):
        lines.insert(1, _quota_line(quota))
    budget = dict(_mapping(facts.get("budget")))
    if not (gate := _mapping(swarm.get("gate"))).get("open", True) and not swarm.get("paused"):
        lines.append(f"gate    no session starts: {one_line(str(gate.get('reason')))}")
        if budget.get("warning") == gate.get("reason"):
            budget["warning"] = None
    disk = _mapping(swarm.get("disk"))
    if disk.get("cleaning"):
        lines.append(f"disk    {disk.get('free_mb')} MB are free; what may go is being removed")
    if text := budget_text(budget):
        lines.append(f"budget  {one_line(text)}")
    config = _mapping(swarm.get("config"))
    if config and not config.get("ok", True):
        lines.append(f"config  {one_line(str(config.get('path')))} is bad, the old one is in force")
        lines += [f"        {one_line(str(problem))}" for problem in config.get("problems") or ()]
    lines += [f"warning {one_line(str(problem))}" for problem in swarm.get("problems") or ()]
    lines += _cut_in_table(facts)
    if error := facts.get("ledger_error"):
        lines.append(f"ledger  {one_line(str(error))}")
    return lines + _landing(facts) + _asked(facts)


def _cut_in_table(facts: Mapping[str, Any]) -> list[str]:
    """What is wrong with a service, where the table has no room for it."""
    return [
        one_line(f"warning {service.get('name')}: {service['reason']}")
        for service in _mappings(facts.get("services"))
        if len(str(service.get("reason") or "")) > REASON
    ]


def _landing(facts: Mapping[str, Any]) -> list[str]:
    """What is to land next, and what has kept it from it; one repository lands one at a time."""
    found = _mappings(facts.get("landing"))
    lines = [
        f"lands   {one.get('task')} ({age(one.get('since'))})"
        + (f": {one_line(str(one['reason']), QUESTION)}" if one.get("reason") else "")
        for one in found[:LANDINGS]
    ]
    total = facts.get("landing_total") or len(found)
    if total > LANDINGS:
        lines.append(f"        … {total - LANDINGS} more: agentctl task list --state landing")
    return lines


def _asked(facts: Mapping[str, Any]) -> list[str]:
    """What waits for a person, each with the command that goes on with it."""
    found = _mappings(facts.get("attention"))
    lines = [
        f"asks    {one.get('task')} ({age(one.get('since'))}): "
        f"{one_line(str(one.get('text')), QUESTION)}; {one_line(str(one.get('command')))}"
        for one in found[:ASKED]
    ]
    total = facts.get("attention_total") or len(found)
    if total > ASKED:
        more = "agentctl task list --state needs_human --state review"
        lines.append(f"        … {total - ASKED} more wait for a person: {more}")
    return lines


def _quota_line(quota: Mapping[str, Any]) -> str:
    who = quota.get("runtime") or "every runtime"
    until = f" until {clock(quota['until'])}" if quota.get("until") else ""
    probing = ", being probed" if quota.get("probing") else ""
    reason = f" ({quota['reason']})" if quota.get("reason") else ""
    return "quota   " + one_line(f"{who} parked{until}{probing}{reason}")


def _is_of(quota: Mapping[str, Any], reason: object) -> bool:
    """Whether a reason is but this quota, which has a line of its own."""
    runtime, why = quota.get("runtime"), quota.get("reason")
    return reason == (f"quota: {runtime} is parked: {why}" if why else f"{runtime} is parked")


def _told_above(swarm: Mapping[str, Any]) -> dict[str, str]:
    """Reasons that stand above the table in full, and what is enough to say in it."""
    return {
        f"quota: {quota.get('runtime')} is parked: {quota.get('reason')}": (
            f"quota: {quota.get('runtime')} is parked"
        )
        for quota in _mappings(swarm.get("quotas"))
    }


def clock(stamp: object) -> str:
    """A time as people read it, without fractions of a second: ``2026-11-20 17:57:06 UTC``."""
    at = seconds_of(stamp)
    return str(stamp) if at is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def select(agents: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], int]:
    """Of a large fleet those that are not merely idle, at most :data:`LISTED`; how many not."""
    if len(agents) <= LISTED:
        return list(agents), 0
    busy = [agent for agent in agents if agent.get("state") != "idle"]
    shown = busy[:LISTED]
    return shown, len(agents) - len(shown)


def agent_row(
    agent: Mapping[str, Any], reason: int, told: Mapping[str, str] | None = None
) -> list[str]:
    """One line of the table; its reason is cut to so many characters, 0 is not at all.

    ``told``: reasons that were told already, and how to name them.
    """
    task = _mapping(agent.get("task"))
    return [
        str(agent.get("name")),
        str(agent.get("state")),
        age(agent.get("since")),
        ".".join(str(part) for part in (task.get("id"), task.get("attempt")) if part) or "-",
        _number(agent.get("pid")),
        _number(agent.get("memory_mb"), " MB"),
        _number(agent.get("cpu_percent"), "%"),
        _number(agent.get("restarts")),
        one_line((told or {}).get(why := _why(agent), why), reason),
    ]


def _why(child: Mapping[str, Any]) -> str:
    """Why it is as it is; of one that waits to run again, first of all when it will."""
    reason = str(child.get("reason") or "")
    if reason == child.get("state"):
        reason = ""
    at = seconds_of(child.get("next_restart_at"))
    if at is None:
        return reason
    again = f"again in {span(max(0.0, at - time.time()))}"
    return f"{again}: {reason}" if reason else again


def usage_text(usage: Mapping[str, Any]) -> str:
    """Tokens and cost; what is unknown is said to be, never zero."""
    cost = usage.get("cost_usd")
    money = "cost unknown" if cost is None else f"${cost:.4f}"
    return (
        f"{_tokens(usage.get('input_tokens'))} tokens in, "
        f"{_tokens(usage.get('output_tokens'))} out, {money}"
    )


def budget_text(budget: Mapping[str, Any]) -> str:
    """What is limited and how much of it is spent; empty where nothing is."""
    parts = []
    for name, written in (("tokens", _count), ("usd", _dollars)):
        part = _mapping(budget.get(name))
        if (limit := part.get("limit")) is not None:
            share = part.get("share")
            known = f" ({share:.0%})" if isinstance(share, int | float) else ""
            parts.append(f"{written(part.get('spent'))} of {written(limit)}{known}")
    if not parts:
        return ""
    until = f", anew at {clock(budget['resets_at'])}" if budget.get("resets_at") else ""
    window = " today" if budget.get("window") == "day" else ""
    warning = f"; {budget['warning']}" if budget.get("warning") else ""
    return f"{', '.join(parts)} spent{window}{until}{warning}"


def _count(value: object) -> str:
    return f"{value:,} tokens" if isinstance(value, int) else "unknown"


def _dollars(value: object) -> str:
    return f"${value:,.2f}" if isinstance(value, int | float) else "unknown"


def _service_row(service: Mapping[str, Any]) -> list[str]:
    return [
        str(service.get("name")),
        str(service.get("state")),
        age(service.get("since")),
        "-",
        _number(service.get("pid")),
        _number(service.get("memory_mb"), " MB"),
        _number(service.get("cpu_percent"), "%"),
        _number(service.get("restarts")),
        one_line(_why(service) or str(service.get("address") or ""), REASON),
    ]


def _counted(counts: Mapping[str, Any]) -> str:
    known = [f"{count} {one_line(str(name))}" for name, count in counts.items() if count]
    return ", ".join(known) or "none"


def _tokens(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "unknown"


def _number(value: object, unit: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:.0f}{unit}" if isinstance(value, float) else f"{value}{unit}"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []

"""``agentctl agent``: one agent of the running swarm."""

from __future__ import annotations

from typing import Any

import click

from swarm.cli.arguments import AgentName, show_done
from swarm.cli.control import ask, here
from swarm.cli.fleet_view import budget_text
from swarm.cli.screen import age, one_line, print_json, say
from swarm.wire import control

HELP = """\
Look at one agent, stop or restart it.

\b
Examples:
  agentctl agent show swarm-builder-003
  agentctl agent restart builder-003      also one that is degraded: its count starts again
  agentctl agent kill-session builder-003
"""

ROUNDED = frozenset({"memory_mb", "cpu_percent"})
"""Measured, not set: a tenth is enough."""

_name = click.argument("name", metavar="AGENT", type=AgentName())


@click.group("agent", help=HELP)
def agent() -> None:
    """The group; its text for people is :data:`HELP`."""


@agent.command("show", short_help="All that is known about an agent now.")
@_name
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")
def show(name: str, as_json: bool) -> None:
    """All that is known about an agent now; 'swarm story' tells what happened to it."""
    done = ask(here(), control.AgentShow(agent=name))
    if as_json:
        print_json({"version": 1, **done.data})
        return
    for line in done.lines or describe(done.data):
        say(line)


@agent.command("stop", short_help="Stop an agent; its task is queued again.")
@_name
def stop(name: str) -> None:
    """Stop an agent; its task, if it has one, is queued again."""
    done = ask(here(), control.AgentStop(agent=name), patience=60.0, progress=say)
    show_done(done, f"{name} is stopped; 'agentctl agent restart {name}' starts it again")


@agent.command("restart", short_help="Restart an agent, also a degraded one.")
@_name
def restart(name: str) -> None:
    """Restart an agent, also one that is degraded or stopped; its restart count starts again."""
    done = ask(here(), control.AgentRestart(agent=name), patience=60.0, progress=say)
    show_done(done, f"{name} is restarted")


@agent.command("kill-session", short_help="End the session an agent runs.")
@_name
@click.option("--reason", default="", metavar="TEXT", help="Kept with the attempt.")
def kill_session(name: str, reason: str) -> None:
    """End the session an agent runs; its task's attempt is 'cancelled'."""
    command = control.AgentKillSession(agent=name, reason=reason[:500])
    done = ask(here(), command, patience=60.0, progress=say)
    show_done(done, f"the session of {name} is ended")


def describe(facts: dict[str, Any]) -> list[str]:
    """One line for each fact; times also as ages, what is unknown as ``-``."""
    inner = facts.get("agent")
    shown: dict[str, Any] = inner if isinstance(inner, dict) else facts
    width = max((len(key) for key in shown), default=0)
    return [f"{key:<{width}}  {_value(key, value)}" for key, value in shown.items()]


def _value(key: str, value: object) -> str:
    if value is None or value == "":
        return "-"
    if key == "budget" and isinstance(value, dict):
        return budget_text(value) or "none of its own"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_value(k, v)}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(_value(key, v) for v in value) or "-"
    if isinstance(value, float):
        return f"{value:.1f}" if key in ROUNDED else f"{value:g}"
    text = one_line(str(value), 200)
    if key in ("since", "started_at", "last_heartbeat", "next_restart_at") and age(value) != "-":
        return f"{text} ({age(value)} ago)" if key != "next_restart_at" else text
    return text

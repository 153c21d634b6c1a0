"""``agentctl swarm status``: the supervisor's facts and the ledger's, as one object or a page."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from swarm.cli.arguments import Number
from swarm.cli.control import here
from swarm.cli.fleet_view import page
from swarm.cli.screen import on_terminal, print_json
from swarm.config.places import Places
from swarm.desk.fleet import gather


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")
@click.option("--watch", is_flag=True, help="Again and again until Ctrl-C.")
@click.option("--every", default=1.0, type=Number(0.1, 3600), help="Seconds for --watch.")
@click.option("--all", "every_agent", is_flag=True, help="Every agent of a large fleet.")
def status(as_json: bool, watch: bool, every: float, every_agent: bool) -> None:
    """Agents, services, tasks and usage of the running swarm.

    A large fleet is summed up: agents that only wait are counted, not listed, unless --all.

    \b
    Examples:
      agentctl swarm status
      agentctl swarm status --watch
      agentctl swarm status --json | jq '.agents[] | select(.state == "degraded")'
    """
    places = here()
    if not watch:
        facts = gather(places)
        print_json(facts) if as_json else _print(facts, every_agent)
    elif as_json:
        _watch_json(places, every)
    elif on_terminal():
        _watch_live(places, every, every_agent)
    else:
        _watch_plain(places, every, every_agent)


def _print(facts: dict[str, Any], every_agent: bool) -> None:
    if on_terminal():
        from rich.console import Console

        Console(highlight=False).print(page(facts, every_agent, terminal=True))
    else:
        click.echo(page(facts, every_agent, terminal=False))


def _watch_live(places: Places, every: float, every_agent: bool) -> None:
    from rich.live import Live

    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(page(gather(places), every_agent, terminal=True), refresh=True)
            time.sleep(every)


def _watch_plain(places: Places, every: float, every_agent: bool) -> None:
    while True:
        click.echo(time.strftime("-- %H:%M:%S"))
        _print(gather(places), every_agent)
        sys.stdout.flush()
        time.sleep(every)


def _watch_json(places: Places, every: float) -> None:
    import msgspec

    while True:
        click.echo(msgspec.json.encode(gather(places)).decode())
        sys.stdout.flush()
        time.sleep(every)

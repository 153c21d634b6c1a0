"""``agentctl lane wait``."""

from __future__ import annotations

import click

from swarm.cli.arguments import Number, TaskName
from swarm.cli.control import here
from swarm.cli.lane import as_json, desk_of, takes
from swarm.cli.lane_options import labels_of
from swarm.cli.screen import one_line, print_json, say
from swarm.cli.task_wait import wait_for
from swarm.cli.tasks import opened
from swarm.cli.waiting import waiting
from swarm.desk import requests
from swarm.errors import UsageError, WaitedTooLong

AT_A_TIME = 3600.0
"""Seconds of one wait; without --timeout the next one follows."""


@click.command("wait")
@takes
@click.option("--task", "ids", multiple=True, type=TaskName(), help="Wait for its end instead.")
@click.option("--timeout", type=Number(min=0), metavar="S", help="Seconds at most.")
@as_json
def wait(
    roles: tuple[str, ...],
    lane_: str,
    labels: tuple[tuple[str, str], ...],
    ids: tuple[str, ...],
    timeout: float | None,
    as_json: bool,
) -> None:
    """Wait until there is a task to take, and print its id; nothing is claimed.

    With --task until that one has ended, as 'agentctl task wait' does.  Exits 124 when --timeout
    has passed.

    \b
    Examples:
      agentctl lane wait --lane reviews && agentctl lane claim --lane reviews
      agentctl lane wait --task k3f9 --timeout 600
    """
    if ids:
        if as_json or roles or lane_ or labels:
            raise UsageError("--task stands alone", "or with --timeout")
        wait_for(ids, timeout, first=False, quiet=False)
        return
    from swarm.desk import waits

    places = here()
    with opened(places) as ledger:
        desk = desk_of(places, ledger)
        seconds = AT_A_TIME if timeout is None else timeout
        asked = requests.Await(roles=roles, lane=lane_, labels=labels_of(labels), seconds=seconds)
        while True:
            found = waiting(places, lambda changes: waits.await_task(desk, changes, asked))
            if found.id is not None or timeout is not None:
                break
    if found.id is None:
        raise WaitedTooLong(f"no task to take after {timeout:g} s", "wait again")
    if as_json:
        print_json(found)
    else:
        say(f"{found.id}  {one_line(found.title or '')}")

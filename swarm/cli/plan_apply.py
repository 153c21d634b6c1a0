"""``agentctl plan apply`` and ``plan preview``."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import click

from swarm.cli.control import here, poke
from swarm.cli.plan_names import PlanName
from swarm.cli.plan_view import at_once, remaining, show_order, warnings
from swarm.cli.screen import note, print_json, say
from swarm.cli.tasks import opened
from swarm.cli.texts import usable_repository
from swarm.config.document import join
from swarm.config.places import Places
from swarm.config.roles import available_roles
from swarm.errors import ConfigError, UsageError
from swarm.ledger import AppliedPlan, Ledger
from swarm.plans.made import Unknown, new_plan, outside
from swarm.plans.model import MAX_BYTES, PlanFile, Read
from swarm.plans.reading import read_plan, read_plan_file

REMEDY = "mend the plan and try again; 'agentctl plan --help' tells its form"


@click.command("apply")
@click.argument("file", metavar="FILE|-")
@click.option("--dry-run", is_flag=True, help="Only show what would run, as preview does.")
@click.option("--follows", type=PlanName(), help="Begin when that plan's tasks have ended.")
@click.option("--paused", is_flag=True, help="Take it in, and start nothing until 'plan resume'.")
@click.option("--once", is_flag=True, help="The same file again is the same plan, not a second.")
@click.option("--repo", metavar="R", help="Another repository than repo.source: path or address.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1, with the ids.")
def apply_(
    file: str,
    dry_run: bool,
    follows: str | None,
    paused: bool,
    once: bool,
    repo: str | None,
    as_json: bool,
) -> None:
    """Take in a plan, all of it or nothing, and print its id.

    Each call makes a new plan, unless --once says that the same text is the same plan: then a
    call that was cut short may simply be made again.  - reads YAML from standard input.

    \b
    Examples:
      agentctl plan apply tasks.yaml --dry-run
      plan=$(agentctl plan apply tasks.md --once) && agentctl plan wait $plan
      agentctl plan apply next.yaml --follows p-k3f9 --paused
    """
    places = here()
    plan = checked(read(places, file))
    source = usable_repository(repo) if repo is not None else None
    reference = ""
    if once:
        text = "\0".join([plan.source, follows or "", source or ""])
        reference = f"sha256:{hashlib.sha256(text.encode(errors='replace')).hexdigest()}"
    with opened(places) as ledger:
        earlier = ledger.find_plan(follows).id if follows else ""
        known = references(ledger, plan, earlier)
        if dry_run:
            show_plan(places, plan)
            return
        new = new_plan(
            plan, known, reference=reference, follows=earlier, repo=source, paused=paused
        )
        applied = ledger.apply_plan(new)
    told(places, plan, applied, as_json=as_json)


@click.command("preview")
@click.argument("file", metavar="FILE|PLAN")
def preview(file: str) -> None:
    """What would run, and in which order; nothing is changed.

    Of a file: all its tasks by waves, or its problems with their lines.  Of a plan that was
    applied: what of it has not ended.  A wave is no barrier: each task starts as its own last
    dependency is done.
    """
    places = here()
    if file == "-" or Path(file).exists() or not file.startswith("p-"):
        plan = checked(read(places, file))
        if any(task.outside for task in plan.tasks):  # a mere look makes no home
            with opened(places) as ledger:
                references(ledger, plan, None)
        show_plan(places, plan)
        return
    with opened(places) as ledger:
        found = ledger.find_plan(file)
        tasks, states = remaining(ledger, found)
    if not tasks:
        say(f"{found.id} is {found.state}: nothing of it is left to run")
        return
    show_order(tasks, states)
    for line in warnings(places, tasks):
        note(f"warning: {line}")


def read(places: Places, file: str) -> Read:
    """Read a plan file, or standard input for ``-``."""
    roles = available_roles(places.roles)
    if file == "-":
        return read_plan(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input", roles)
    return read_plan_file(Path(file), roles)


def checked(found: Read) -> PlanFile:
    """The plan; raises :class:`ConfigError` with every problem."""
    if found.plan is None:
        raise ConfigError(join(found.problems), REMEDY)
    return found.plan


def references(ledger: Ledger, plan: PlanFile, follows: str | None) -> dict[str, str]:
    """Ids of other plans' tasks it is after; raises :class:`ConfigError` for what is not there.

    Where ``follows`` is not known (``None``), ``earlier/…`` is believed.
    """

    def find(where: str, key: str) -> str | None:
        if not where:
            task = ledger.task(key)
            return None if task is None else task.id
        try:
            return ledger.plan_task(ledger.find_plan(where).id, key)
        except UsageError:
            return None

    try:
        return dict(outside(plan, find, follows))
    except Unknown as unknown:
        raise ConfigError(join(unknown.problems), "see 'agentctl plan list'") from None


def show_plan(places: Places, plan: PlanFile) -> None:
    """The order of a plan file, and its warnings."""
    count = show_order(plan.tasks)
    tasks = "1 task" if len(plan.tasks) == 1 else f"{len(plan.tasks)} tasks"
    order = "all at once" if count == 1 else f"{count} waves"
    say(f"\n{tasks}, {order}; at most {at_once(places)} sessions run at the same time")
    for line in warnings(places, plan.tasks):
        note(f"warning: {line}")


def told(places: Places, plan: PlanFile, applied: AppliedPlan, *, as_json: bool = False) -> None:
    """Say that a plan was taken in, and let a running swarm know."""
    heard = poke(places) if applied.fresh else True
    if as_json:
        tasks = [{"key": key, "id": task} for key, task in applied.tasks.items()]
        facts = {"id": applied.id, "fresh": applied.fresh, "tasks": tasks, "swarm_running": heard}
        print_json({"version": 1, **facts})
    else:
        say(applied.id)
    for line in warnings(places, plan.tasks):
        note(f"warning: {line}")
    if not applied.fresh:
        note("this very plan was applied before; nothing was added")
    elif not heard:
        note("no swarm is running: the plan waits for 'agentctl swarm up'")

"""``agentctl plan add``."""

from __future__ import annotations

import click

from swarm.cli.arguments import RoleName, token_budget, usd_budget
from swarm.cli.control import here, poke
from swarm.cli.plan_names import PlanName, task_named
from swarm.cli.role_names import require_role
from swarm.cli.screen import note, print_json, say
from swarm.cli.tasks import opened
from swarm.cli.texts import read_text
from swarm.core.budget import Amount
from swarm.core.model import OnFailed, Review
from swarm.ledger import Ledger, PlannedTask
from swarm.plans.made import planned
from swarm.plans.model import PlanTask


@click.command("add")
@click.argument("name", type=PlanName(), metavar="PLAN")
@click.argument("words", nargs=-1, metavar="TEXT|-")
@click.option("--key", default="", help="What the plan calls it; else task-N.")
@click.option("--role", default="builder", type=RoleName(), help="Who should do it (builder).")
@click.option("--component", default="", metavar="NAME", help="What part it is about.")
@click.option("--priority", default=0, type=int, help="-100 to 100, the higher goes first (0).")
@click.option("--title", default="", help="A short name; else the text's first line.")
@click.option(
    "--after", multiple=True, metavar="KEY|ID", help="Only when that is done; repeatable."
)
@click.option("--file", "files", multiple=True, help="A file it is about; repeatable.")
@click.option(
    "--on-failed",
    type=click.Choice([str(one) for one in OnFailed]),
    default=str(OnFailed.HOLD),
    help="When what it is after fails (hold).",
)
@click.option("--review", type=click.Choice([str(one) for one in Review]), help="Who approves it.")
@token_budget
@usd_budget
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1, with the id.")
def add(
    name: str,
    words: tuple[str, ...],
    key: str,
    role: str,
    component: str,
    priority: int,
    title: str,
    after: tuple[str, ...],
    files: tuple[str, ...],
    on_failed: str,
    review: str | None,
    token_budget: int | None,
    usd_budget: float | None,
    as_json: bool,
) -> None:
    """Add a task to a plan, also to one that runs, and print its id.

    \b
    Examples:
      agentctl plan add p-k3f9 "Write the release notes" --after parser --after tests
    """
    places = here()
    text = read_text(words, example=f'agentctl plan add {name} "Write the release notes"')
    require_role(places, role)
    with opened(places) as ledger:
        plan = ledger.find_plan(name).id
        known = [task_named(ledger, one, plan) for one in after]
        key = key or _free_key(ledger, plan)
        asked = PlanTask(
            key=key,
            text=text,
            line=0,
            title=title,
            role=role,
            component=component,
            priority=priority,
            outside=tuple((task, 0) for task in known),
            files=files,
            on_failed=OnFailed(on_failed),
            review=None if review is None else Review(review),
            budget=Amount(token_budget, usd_budget),
        )
        new: PlannedTask = planned(asked, {task: task for task in known})
        task = ledger.extend_plan(plan, [new])[key]
    heard = poke(places)
    if as_json:
        print_json({"version": 1, "id": task, "key": key, "plan": plan, "swarm_running": heard})
    else:
        say(task)
    if not heard:
        note("no swarm is running: the task waits for 'agentctl swarm up'")


def _free_key(ledger: Ledger, plan: str) -> str:
    taken = {task.plan_key for task in ledger.plan_tasks(plan)}
    number = len(taken) + 1
    while f"task-{number}" in taken:
        number += 1
    return f"task-{number}"

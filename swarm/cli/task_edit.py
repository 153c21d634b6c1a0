"""``agentctl task edit`` and ``task skip``: change a task before it runs, or leave it out."""

from __future__ import annotations

from pathlib import Path

import click

from swarm.cli.arguments import RoleName, TaskName, token_budget, usd_budget
from swarm.cli.control import here, poke
from swarm.cli.plan_names import task_named
from swarm.cli.role_names import require_role
from swarm.cli.screen import say
from swarm.cli.tasks import opened
from swarm.cli.texts import text_of
from swarm.core.budget import Amount
from swarm.core.model import Merge, OnFailed, Review
from swarm.errors import UsageError
from swarm.ledger import Changes, Ledger, Task


@click.command("edit")
@click.argument("task_id", type=TaskName(), metavar="ID")
@click.option("--text", help="What is to be done.")
@click.option(
    "--text-file", type=click.Path(path_type=Path, dir_okay=False), help="A file that holds it."
)
@click.option("--title", help="A short name; '' is the text's first line.")
@click.option("--role", type=RoleName(), help="Who should do it.")
@click.option("--component", metavar="NAME", help="What part it is about.")
@click.option("--priority", type=int, help="-100 to 100, the higher goes first.")
@click.option("--lane", metavar="NAME", help="The lane it waits in; '' is the default one.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="All its labels anew.")
@click.option("--after", multiple=True, metavar="KEY|ID", help="All it waits for, anew.")
@click.option("--no-after", is_flag=True, help="It waits for nothing any more.")
@click.option("--on-failed", type=click.Choice([str(one) for one in OnFailed]))
@click.option("--review", type=click.Choice([str(one) for one in Review]))
@click.option("--merge", type=click.Choice([str(one) for one in Merge]))
@token_budget
@usd_budget
def edit(
    task_id: str,
    text: str | None,
    text_file: Path | None,
    title: str | None,
    role: str | None,
    component: str | None,
    priority: int | None,
    lane: str | None,
    labels: tuple[str, ...],
    after: tuple[str, ...],
    no_after: bool,
    on_failed: str | None,
    review: str | None,
    merge: str | None,
    token_budget: int | None,
    usd_budget: float | None,
) -> None:
    """Change a task that does not run; of one that runs only --priority, for what comes next.

    In a plan --after may name its keys.  A task that has ended can be changed, then retried.

    \b
    Examples:
      agentctl task edit k3f9 --priority 50
      agentctl task edit k3f9 --text-file better.md --role auditor
      agentctl task edit k3f9 --after parser --after tests --on-failed run
    """
    places = here()
    if role is not None:
        require_role(places, role)
    if after and no_after:
        raise UsageError("--after and --no-after were both given", "give one of them")
    with opened(places) as ledger:
        found = ledger.find(task_id)
        changes = Changes(
            prompt=_text(text, text_file),
            title=title,
            role=role,
            component=component,
            priority=priority,
            lane=lane,
            labels=_labels(labels) if labels else None,
            after=() if no_after else _after(ledger, found, after) if after else None,
            on_failed=None if on_failed is None else OnFailed(on_failed),
            review=None if review is None else Review(review),
            merge=None if merge is None else Merge(merge),
            budget=Amount(token_budget, usd_budget),
        )
        changed = ledger.edit(found.id, changes)
    poke(places)
    say(f"{changed.id} is {changed.state}; changed: {', '.join(changes.names)}")


@click.command("skip")
@click.argument("ids", nargs=-1, required=True, type=TaskName(), metavar="ID…")
@click.option("--release", is_flag=True, help="What waits for it goes on as if it were done.")
def skip(ids: tuple[str, ...], release: bool) -> None:
    """Leave tasks out.  What waits for them holds, runs or is skipped, as its --on-failed says.

    'agentctl task retry' brings a skipped task back.
    """
    places = here()
    with opened(places) as ledger:
        for found in [ledger.find(prefix) for prefix in ids]:
            ledger.skip(found.id, release=release)
            say(f"{found.id} is skipped")
    poke(places)


def _text(text: str | None, file: Path | None) -> str | None:
    if text is not None and file is not None:
        raise UsageError("--text and --text-file were both given", "give one of them")
    return text if file is None else text_of(file)


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals:
            raise UsageError(f"label {one[:60]!r} is not KEY=VALUE", "write it as in effort=high")
        labels[key] = value
    return labels


def _after(ledger: Ledger, task: Task, names: tuple[str, ...]) -> tuple[str, ...]:
    plan = ""
    if task.plan is not None:
        plan = next((one.id for one in ledger.plans(100_000) if one.seq == task.plan), "")
    return tuple(task_named(ledger, name, plan) for name in names)

"""``agentctl task retry``."""

from __future__ import annotations

import click

from swarm.cli.arguments import TaskName, token_budget, usd_budget
from swarm.cli.control import here, poke
from swarm.cli.hubs import hub_of, work_ref
from swarm.cli.screen import note as remark
from swarm.cli.screen import one_line, say
from swarm.cli.task_decide import BY
from swarm.cli.tasks import opened
from swarm.config.places import Places
from swarm.core.budget import Amount
from swarm.core.keep import SALVAGE
from swarm.errors import GitError, UsageError
from swarm.ledger import Task


@click.command("retry")
@click.argument("words", nargs=-1, required=True, type=TaskName(), metavar="ID… [TEXT]")
@click.option("--fresh", is_flag=True, help="On a new branch; the old one is kept in the hub.")
@token_budget
@usd_budget
def retry(
    words: tuple[str, ...], fresh: bool, token_budget: int | None, usd_budget: float | None
) -> None:
    """Queue ended tasks again, with their branches and what earlier attempts left.

    A last word with a space in it is a TEXT that the next attempt is told.  What earlier attempts
    spent still counts: a task that has used up its budget needs a new one.

    \b
    Examples:
      agentctl task retry k3f9
      agentctl task retry k3f9 "leave the public names as they are"
      agentctl task retry k3f9 --fresh
    """
    ids, note = split(words)
    places = here()
    with opened(places) as ledger:
        for before in [ledger.find(prefix) for prefix in ids]:
            budget = Amount(token_budget, usd_budget)
            aside = None if fresh else _cleaned_up(places, before)
            task = ledger.retry(before.id, budget, fresh=fresh, note=note, by=BY)
            kept = before.branch if fresh and before.branch and before.commits != () else None
            old = f" on a new branch; the old one is kept as {one_line(kept)}" if kept else ""
            say(f"{task.id} is {task.state} again{old}")
            if aside is not None:
                remark(
                    f"its branch was cleaned up: it begins anew; earlier work is kept as {aside}"
                )
    poke(places)


def _cleaned_up(places: Places, task: Task) -> str | None:
    """What a clean-up saved the task's branch as, when it did."""
    try:
        hub = hub_of(places, task)
        ref = None if hub is None else work_ref(hub, task)
    except GitError:  # a remark is not worth a retry
        return None
    return ref if ref is not None and ref.startswith(SALVAGE) else None


def split(words: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Ids, and the text after them: no id has a space in it.

    Raises :class:`~swarm.errors.UsageError` for a text without an id, or two texts.
    """
    text = words[-1] if any(map(str.isspace, words[-1])) else ""
    ids = words[:-1] if text else words
    if not ids or any(any(map(str.isspace, word)) for word in ids):
        raise UsageError("which task is to be retried?", 'say: agentctl task retry ID "TEXT"')
    return ids, text.strip()

"""``agentctl task approve``, ``reject`` and ``answer``: what only a person decides."""

from __future__ import annotations

import click

from swarm.cli.arguments import TaskName
from swarm.cli.control import here, poke
from swarm.cli.screen import say
from swarm.cli.tasks import opened
from swarm.cli.texts import read_text

BY = "person"
"""Who decided, in the remarks on a task."""


@click.command("approve")
@click.argument("task_id", type=TaskName(), metavar="ID")
@click.argument("words", nargs=-1, metavar="[TEXT]")
@click.option("--commit", metavar="SHA", help="Only if this is still its newest commit.")
def approve(task_id: str, words: tuple[str, ...], commit: str | None) -> None:
    """Let a task's commit land.

    The approval is for that one commit: with another one the task waits again.

    \b
    Examples:
      agentctl task diff k3f9
      agentctl task approve k3f9
      agentctl task approve k3f9 --commit 1f2e3d4 "and thank you"
    """
    places = here()
    with opened(places) as ledger:
        found = ledger.find(task_id)
        task = ledger.approve(found.id, commit, BY, " ".join(words))
    running = poke(places)
    say(f"{task.id} is approved at {(task.approved or '')[:12]}" + _when(running, "lands"))


@click.command("reject")
@click.argument("task_id", type=TaskName(), metavar="ID")
@click.argument("words", nargs=-1, required=True, metavar="TEXT|-")
@click.option("--commit", metavar="SHA", help="Only if this is still its newest commit.")
@click.option("--final", is_flag=True, help="It fails, and is not revised; its branch is kept.")
def reject(task_id: str, words: tuple[str, ...], commit: str | None, final: bool) -> None:
    """Send a task back to be revised, with what is wrong; its agent is told.

    \b
    Examples:
      agentctl task reject k3f9 "The second test is gone"
      agentctl task reject k3f9 --final "Not wanted any more"
    """
    places = here()
    text = read_text(words, "the reason", f'agentctl task reject {task_id} "The test is gone"')
    with opened(places) as ledger:
        found = ledger.find(task_id)
        task = ledger.reject(found.id, BY, text, commit=commit, final=final)
    running = poke(places)
    if final:
        say(f"{task.id} has failed; its branch {task.branch} is kept")
    else:
        say(f"{task.id} goes back" + _when(running, "is revised"))


@click.command("answer")
@click.argument("task_id", type=TaskName(), metavar="ID")
@click.argument("words", nargs=-1, required=True, metavar="TEXT|-")
def answer(task_id: str, words: tuple[str, ...]) -> None:
    """Answer a task that asks a person; it goes on with question and answer.

    \b
    Examples:
      agentctl task list --state needs_human
      agentctl task answer k3f9 "Blue, as on the start page"
      agentctl task answer k3f9 - < decision.md
    """
    places = here()
    text = read_text(words, "the answer", f'agentctl task answer {task_id} "Blue"')
    with opened(places) as ledger:
        task = ledger.answer(ledger.find(task_id).id, text, BY)
    say(f"{task.id} is answered" + _when(poke(places), "goes on"))


def _when(running: bool, does: str) -> str:
    return "" if running else f"; it {does} when a swarm runs"

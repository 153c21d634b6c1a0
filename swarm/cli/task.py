"""``agentctl task``: the group, and its verbs that change one task."""

from __future__ import annotations

import click

from swarm.cli.arguments import TaskName, token_budget, usd_budget
from swarm.cli.control import here, poke
from swarm.cli.lazy import Entry, LazyGroup
from swarm.cli.lock import is_locked
from swarm.cli.screen import say
from swarm.cli.tasks import opened
from swarm.core.budget import Amount

HELP = """\
Give the fleet work and see how it goes.

Tasks wait in the ledger: all of this but their execution works without a running swarm.  An ID
may be shortened to its beginning.

\b
Examples:
  agentctl task add "Make the tests of the parser pass" --role builder
  agentctl task wait k3f9                 exit 0 when it is done, 3 when it ended otherwise
  agentctl task show k3f9                 its attempts, and how to get its commits
  agentctl task diff k3f9
"""

task = LazyGroup(
    "task",
    {
        "add": Entry("swarm.cli.task_add:add", "Add a task; prints its id."),
        "list": Entry("swarm.cli.task_show:list_", "Tasks and their states."),
        "show": Entry("swarm.cli.task_show:show", "One task: attempts, result, how to get it."),
        "logs": Entry("swarm.cli.task_logs:logs", "What its session says and does."),
        "wait": Entry("swarm.cli.task_wait:wait", "Wait until tasks have ended."),
        "retry": Entry("swarm.cli.task:retry", "Queue an ended task again."),
        "cancel": Entry("swarm.cli.task:cancel", "End a task, also one that runs."),
        "diff": Entry("swarm.cli.task_diff:diff", "What its branch changes."),
    },
    help=HELP,
)


@click.command("retry")
@click.argument("ids", nargs=-1, required=True, type=TaskName(), metavar="ID…")
@token_budget
@usd_budget
def retry(ids: tuple[str, ...], token_budget: int | None, usd_budget: float | None) -> None:
    """Queue ended tasks again, with their branches and what earlier attempts left.

    What earlier attempts spent still counts: a task that has used up its budget needs a new one.
    """
    places = here()
    with opened(places) as ledger:
        for found in [ledger.find(prefix) for prefix in ids]:
            state = ledger.retry(found.id, Amount(token_budget, usd_budget)).state
            say(f"{found.id} is {state} again")
    poke(places)


@click.command("cancel")
@click.argument("ids", nargs=-1, required=True, type=TaskName(), metavar="ID…")
def cancel(ids: tuple[str, ...]) -> None:
    """End tasks.  A running one's session gets TERM and time to save its work."""
    places = here()
    with opened(places) as ledger:
        for found in [ledger.find(prefix) for prefix in ids]:
            held = ledger.cancel(found.id).held
            ending = held and is_locked(places)  # a killed swarm's sessions are dead already
            say(f"{found.id} is cancelled" + ("; its session is being ended" if ending else ""))
    poke(places)

"""``agentctl task``: the group, and its verbs that change one task."""

from __future__ import annotations

import click

from swarm.cli.arguments import TaskName
from swarm.cli.control import here, poke
from swarm.cli.lazy import Entry, LazyGroup
from swarm.cli.lock import is_locked
from swarm.cli.screen import say
from swarm.cli.tasks import opened
from swarm.core.model import is_outsider_id

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
        "retry": Entry("swarm.cli.task_retry:retry", "Queue an ended task again."),
        "cancel": Entry("swarm.cli.task:cancel", "End a task, also one that runs."),
        "edit": Entry("swarm.cli.task_edit:edit", "Change a task before it runs."),
        "skip": Entry("swarm.cli.task_edit:skip", "Leave a task out."),
        "approve": Entry("swarm.cli.task_decide:approve", "Let its commit land."),
        "reject": Entry("swarm.cli.task_decide:reject", "Send it back, or end it, with a reason."),
        "answer": Entry("swarm.cli.task_decide:answer", "Answer what it asks a person."),
        "export": Entry("swarm.cli.task_export:export", "Its whole story as a folder."),
        "diff": Entry("swarm.cli.task_diff:diff", "What its branch changes."),
    },
    help=HELP,
)


@click.command("cancel")
@click.argument("ids", nargs=-1, required=True, type=TaskName(), metavar="ID…")
def cancel(ids: tuple[str, ...]) -> None:
    """End tasks.  A running one's session gets TERM and time to save its work."""
    places = here()
    with opened(places) as ledger:
        for found in [ledger.find(prefix) for prefix in ids]:
            task = ledger.cancel(found.id)
            after = ""
            if is_outsider_id(found.agent_id) and found.held:
                after = f"; an answer of {found.agent} is refused"
            elif task.held and is_locked(places):  # a killed swarm's sessions are dead already
                after = "; its session is being ended"
            elif task.in_doubt:
                after = f"; if {task.in_doubt[:12]} had landed by now, it is merged all the same"
            say(f"{found.id} is cancelled{after}")
    poke(places)

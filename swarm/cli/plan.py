"""``agentctl plan``: the group, and its verbs that give one order to a whole plan."""

from __future__ import annotations

import click

from swarm.cli.control import here, poke
from swarm.cli.lazy import Entry, LazyGroup
from swarm.cli.lock import is_locked
from swarm.cli.plan_names import PlanName
from swarm.cli.screen import say
from swarm.cli.tasks import opened
from swarm.ledger.plan_records import PlanState

HELP = """\
Many tasks at once, each starting as soon as what it waits for is done.

A plan is a file, YAML or Markdown.  All of its tasks are taken in together, or none: whatever is
wrong with it is told with its lines.

\b
tasks.yaml                                  tasks.md
  title: The parser                           # The parser
  defaults: {role: builder}                   role: builder
  tasks:
    - key: lexer                              - [ ] lexer: Split the lexer off
      text: Split the lexer off
    - key: tests                              - [ ] tests: Test the lexer alone
      text: Test the lexer alone                role: qa
      role: qa                                  after: lexer
      after: [lexer]                            files: tests/test_lexer.py
      files: [tests/test_lexer.py]
                                                More of its text, indented.

\b
Of a task may be said (only its text must be):
  key            what the others call it; without one task-N, by its place
  text, title    what is to be done, and a short name for people
  role           who does it (builder)
  after          keys of this file, ids of other tasks, p-ID/key, or earlier/key with --follows
  files          files of the repository it is about: its session is told of them
  priority       -100 to 100, the higher goes first (0)
  on_failed      when one it is after fails: hold (wait for a person), skip, or run all the same
  component, review, merge, lane, labels, thread, token_budget, usd_budget    as for 'task add'
Under 'defaults' (in Markdown: directly below the title) they hold for every task.
In Markdown 'name: value' lines stand directly below the task's line, lists with commas; a ticked
item ([x]) is left out; instead of items, headings '## key: title' may be the tasks.

\b
Examples:
  agentctl plan preview tasks.yaml
  agentctl plan apply tasks.md && agentctl plan status
  agentctl plan make "Add a dark mode" --apply
  agentctl plan apply next.yaml --follows p-k3f9
"""

plan = LazyGroup(
    "plan",
    {
        "apply": Entry("swarm.cli.plan_apply:apply_", "Take in a plan; prints its id."),
        "preview": Entry("swarm.cli.plan_apply:preview", "What would run, and in which order."),
        "make": Entry("swarm.cli.plan_make:make", "Have a session write a plan from a goal."),
        "status": Entry("swarm.cli.plan_status:status", "How a plan goes, and what is next."),
        "wait": Entry("swarm.cli.plan_status:wait", "Wait until a plan is over."),
        "list": Entry("swarm.cli.plan_status:list_", "Plans and their states."),
        "add": Entry("swarm.cli.plan_add:add", "Add a task to a plan."),
        "pause": Entry("swarm.cli.plan:pause", "Start none of its tasks for now."),
        "resume": Entry("swarm.cli.plan:resume", "Start its tasks again."),
        "cancel": Entry("swarm.cli.plan:cancel", "Cancel all of it that has not ended."),
    },
    help=HELP,
)


@click.command("pause")
@click.argument("name", type=PlanName(), metavar="PLAN")
def pause(name: str) -> None:
    """Start none of its tasks for now.  Sessions that run go on to their end."""
    places = here()
    with opened(places) as ledger:
        found = ledger.pause_plan(ledger.find_plan(name).id)
    poke(places)
    how = (
        "is paused"
        if found.state is PlanState.PAUSED
        else f"is {found.state}, and starts nothing more"
    )
    say(f"{found.id} {how}; 'agentctl plan resume {found.id}' goes on")


@click.command("resume")
@click.argument("name", type=PlanName(), metavar="PLAN")
def resume(name: str) -> None:
    """Start its tasks again."""
    places = here()
    with opened(places) as ledger:
        found = ledger.resume_plan(ledger.find_plan(name).id)
    poke(places)
    say(f"{found.id} is {found.state}")


@click.command("cancel")
@click.argument("name", type=PlanName(), metavar="PLAN")
def cancel(name: str) -> None:
    """Cancel all of it that has not ended.  Running sessions get TERM and time to save."""
    places = here()
    with opened(places) as ledger:
        found = ledger.find_plan(name)
        cancelled = ledger.cancel_plan(found.id)
    poke(places)
    running = sum(task.held for task in cancelled) if is_locked(places) else 0
    ending = f"; {running} of them run, and are being ended" if running else ""
    many = "1 task" if len(cancelled) == 1 else f"{len(cancelled)} tasks"
    say(f"{found.id} is cancelled: {many}{ending}")

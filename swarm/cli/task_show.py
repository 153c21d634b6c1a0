"""``agentctl task list`` and ``task show``."""

from __future__ import annotations

import shlex

import click

from swarm.cli.arguments import RoleName, TaskName
from swarm.cli.control import here
from swarm.cli.hubs import hub_of
from swarm.cli.lock import is_locked
from swarm.cli.screen import age, many_lines, one_line, print_json, say, show_table, span
from swarm.cli.tasks import money, opened, role_budget, tokens
from swarm.config.places import Places
from swarm.core.budget import NOTHING, Amount, left
from swarm.core.model import TaskState
from swarm.ledger import Attempt, Ledger, Task, list_json, show_json

REASON = 60
"""Characters of a reason in a table."""


@click.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(state) for state in TaskState]),
    help="Only such; repeatable.",
)
@click.option("--role", type=RoleName(), help="Only of this role.")
@click.option("-n", "limit", default=50, type=click.IntRange(1, 100_000), help="The newest (50).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")
def list_(states: tuple[str, ...], role: str | None, limit: int, as_json: bool) -> None:
    """Tasks and their states, oldest first.

    \b
    Examples:
      agentctl task list
      agentctl task list --state queued --state running
      agentctl task list --json | jq -r '.tasks[] | select(.state == "failed") | .id'
    """
    wanted = [TaskState(state) for state in states] or None
    places = here()
    live = is_locked(places)
    with opened(places) as ledger:
        tasks = ledger.tasks(wanted, limit=limit, role=role)
        if as_json:
            print_json(list_json(ledger, tasks, live=live))
            return
        rows = [_row(ledger, task, live=live) for task in tasks]
        total = sum(ledger.counts().values())
    if rows:
        show_table(("ID", "STATE", "ROLE", "AGE", "AGENT", "TITLE", "REASON"), rows, state=1)
        if len(rows) == limit < total and wanted is None:
            say(f"… the newest {limit} of {total}: -n shows more")
    else:
        say("no tasks; 'agentctl task add' adds one" if not total else "no such tasks")


@click.command("show")
@click.argument("task_id", type=TaskName(), metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")
def show(task_id: str, as_json: bool) -> None:
    """One task: its state and why, its attempts, its result, and how to get its commits."""
    places = here()
    with opened(places) as ledger:
        task = ledger.find(task_id)
        if as_json:
            limit = role_budget(places, task.role)
            live = is_locked(places)
            print_json(show_json(ledger, task.id, places.session_log, live=live, limit=limit))
            return
        limit = task.budget.or_else(role_budget(places, task.role))
        for line in facts(ledger, task, live=is_locked(places), limit=limit):
            say(line)
        attempts = ledger.attempts(task.id)
        prompt = ledger.prompt(task.id)
    if attempts:
        say()
        show_table(
            ("ATTEMPT", "OUTCOME", "AGENT", "TOOK", "TOKENS", "COST", "REASON"),
            [attempt_row(attempt) for attempt in attempts],
            state=1,
        )
        say(f"\nsaid: {places.session_log(task.id, attempts[-1].n)}")
    say(f"\n{_indented(prompt)}")
    for line in way_out(places, task):
        say(line)


def facts(ledger: Ledger, task: Task, *, live: bool = True, limit: Amount = NOTHING) -> list[str]:
    """The lines about a task itself; hostile parts are made harmless when they are printed.

    ``live``: a swarm runs; ``limit``: what all its attempts together may spend.
    """
    result = f" ({task.result})" if task.result else ""
    lines = [
        f"{task.id}  {one_line(task.title)}",
        f"state     {task.state}{result}",
        f"role      {task.role}" + (f", component {task.component}" if task.component else ""),
        f"added     {age(task.created_at)} ago, priority {task.priority}",
    ]
    reason = ledger.reason(task.id, live=live) or ""
    if reason:
        lines.insert(2, f"reason    {one_line(reason)}")
    if text := _budget_line(ledger.spent_on(task.id), limit):
        lines.append(f"budget    {text}")
    if task.agent:
        lines.append(f"agent     {task.agent}")
    if task.branch:
        number = None if task.commits is None else len(task.commits)
        count = "" if number is None else f", {number} commit{'s' * (number != 1)}"
        lines.append(f"branch    {task.branch}{count}")
    if task.repo:
        lines.append(f"repo      {one_line(task.repo)}")
    if task.answer and task.answer.strip() not in reason:
        lines.append(f"answer    {one_line(task.answer, 400)}")
    return lines


def attempt_row(attempt: Attempt) -> list[str]:
    """One line of the table of attempts."""
    began, ended = attempt.started_at, attempt.ended_at
    took = "-" if began is None or ended is None else span(ended - began)
    return [
        str(attempt.n),
        str(attempt.outcome or "running"),
        attempt.agent,
        took,
        _or_estimate(tokens(attempt.usage), attempt.usage.tokens, attempt.estimate.tokens, ""),
        _or_estimate(money(attempt.cost_usd), attempt.cost_usd, attempt.estimate.usd, "$"),
        one_line(attempt.reason, REASON),
    ]


def way_out(places: Places, task: Task) -> list[str]:
    """How to get a task's commits into a repository of one's own (rules, "Fleet commands")."""
    hub = hub_of(places, task)
    if hub is None or task.branch is None or task.commits == ():
        return []
    return [
        "\nto get it, in your repository:",
        f"  git fetch {shlex.quote(str(hub))} {shlex.quote(task.branch)}",
        f"  git merge FETCH_HEAD      # or look first: agentctl task diff {task.id}",
    ]


def _budget_line(spent: Amount, limit: Amount) -> str:
    """What is left of a task's budget; empty where it has none."""
    rest, parts = left(limit, spent), []
    if limit.tokens is not None:
        used = "unknown" if spent.tokens is None else f"{spent.tokens:,}"
        over = "" if spent.tokens is None else f", {rest.tokens:,} left"
        parts.append(f"{used} of {limit.tokens:,} tokens spent{over}")
    if limit.usd is not None:
        used = "unknown" if spent.usd is None else f"${spent.usd:.4f}"
        over = "" if spent.usd is None else f", ${rest.usd:.4f} left"
        parts.append(f"{used} of ${limit.usd:.2f} spent{over}")
    return "; ".join(parts)


def _or_estimate(shown: str, known: float | None, estimate: float | None, unit: str) -> str:
    """What is unknown stays so, with what budgets count instead beside it."""
    if known is not None or estimate is None:
        return shown
    return f"{shown} (counts as {unit}{estimate:,})"


def _row(ledger: Ledger, task: Task, *, live: bool) -> list[str]:
    reason = task.reason
    if not task.state.ended:
        reason = ledger.reason(task.id, live=live) or ""
    return [
        task.id,
        str(task.state),
        task.role,
        age(task.created_at),
        task.agent or "-",
        one_line(task.title, 50),
        one_line(reason, REASON),
    ]


def _indented(prompt: str) -> str:
    lines = many_lines(prompt).splitlines()
    shown = [f"  {line}" for line in lines[:20]]
    return "\n".join([*shown, f"  … {len(lines) - 20} more lines"] if len(lines) > 20 else shown)

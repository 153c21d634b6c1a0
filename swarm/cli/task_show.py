"""``agentctl task list`` and ``task show``."""

from __future__ import annotations

import click

from swarm.cli.arguments import RoleName, TaskName
from swarm.cli.control import here
from swarm.cli.lane_options import Label, LaneName, labels_of
from swarm.cli.lock import is_locked
from swarm.cli.screen import age, many_lines, one_line, print_json, say, show_table, span
from swarm.cli.tasks import money, opened, role_budget, tokens
from swarm.cli.way_out import way_out
from swarm.config.places import Places
from swarm.core.budget import NOTHING, Amount, left
from swarm.core.model import TaskState
from swarm.desk.standing import next_step
from swarm.ledger import Attempt, Ledger, Task, list_json, show_json
from swarm.ledger.shown_files import request_line, response_line
from swarm.ledger.shown_landing import landing_lines

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
@click.option("--lane", type=LaneName(), help="Only of this lane; '' is the default one.")
@click.option("--label", "labels", multiple=True, type=Label(), help="Only with it; repeatable.")
@click.option("--thread", metavar="T", help="Only of this thread.")
@click.option("--plan", metavar="ID", help="Only of this plan.")
@click.option("-n", "limit", default=50, type=click.IntRange(1, 100_000), help="The newest (50).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")
def list_(
    states: tuple[str, ...],
    role: str | None,
    lane: str | None,
    labels: tuple[tuple[str, str], ...],
    thread: str | None,
    plan: str | None,
    limit: int,
    as_json: bool,
) -> None:
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
        tasks = ledger.tasks(
            wanted,
            limit=limit,
            role=role,
            lane=lane,
            labels=labels_of(labels),
            thread=thread,
            plan=plan,
        )
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
            ("ATTEMPT", "OUTCOME", "AGENT", "TOOK", "TOKENS", "COST", "COMMITS", "REASON"),
            [attempt_row(attempt) for attempt in attempts],
            state=1,
        )
        for line in _logs(places, task.id, attempts[-1].n):
            say(line)
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
        *_lane_lines(ledger, task),
        f"added     {age(task.created_at)} ago, priority {task.priority}",
    ]
    reason = ledger.reason(task.id, live=live) or ""
    if step := _next_step(ledger, task):
        lines.insert(2, f"next      {one_line(step)}")
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
    lines += landing_lines(task, ledger.remarks(task.id))
    if task.folder:
        lines.append(f"folder    {one_line(task.folder)}")
    if task.repo:
        lines.append(f"repo      {one_line(task.repo)}")
    if task.answer and task.answer.strip() not in reason:
        lines.append(f"answer    {one_line(task.answer, 400)}")
    return lines


def _next_step(ledger: Ledger, task: Task) -> str:
    """What has to happen, where the reason does not say it."""
    if task.state is not TaskState.NEEDS_HUMAN:
        return ""
    standing = ledger.standing(task.id)
    return "" if standing is None else next_step(standing, "")


def _lane_lines(ledger: Ledger, task: Task) -> list[str]:
    """Where it waits and for whom, what it follows, and the files it is tied to."""
    lines = []
    if task.lane or task.labels:
        wants = "".join(f" {key}={value}" for key, value in sorted(task.labels.items()))
        lines.append(f"lane      {task.lane or '(default)'}{one_line(wants and f', wants{wants}')}")
    if task.thread:
        lines.append(f"thread    {task.thread}")
    if parent := ledger.parent_of(task.id):
        lines.append(f"parent    {parent}")
    if task.request_path:
        lines.append(f"request   {one_line(request_line(task), 400)}")
    if task.response_path:
        lines.append(f"response  {one_line(response_line(task), 400)}")
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
        commit_range(attempt),
        one_line(attempt.reason, REASON),
    ]


def commit_range(attempt: Attempt) -> str:
    """Where its branch was and where it left it, in short; ``-`` when nothing was added."""
    base, tip = attempt.base, attempt.tip
    if not tip or base == tip:
        return "-"
    return one_line(f"{base[:9]}..{tip[:9]}" if base else tip[:9])


def _logs(places: Places, task: str, attempt: int) -> list[str]:
    """Where an attempt's files are; an outsider leaves none, and a clean-up takes them."""
    logs = {
        "said": places.session_log(task, attempt),
        "told": places.session_prompt(task, attempt),
        "checked": places.checks / f"{task}.{attempt}.log",
    }
    found = [f"{name}: {path}" for name, path in logs.items() if path.exists()]
    return ["", *found] if found else []


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
    reason = task.reason or str(task.result or "")
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

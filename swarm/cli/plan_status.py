"""``agentctl plan status``, ``plan wait`` and ``plan list``."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping

import click

from swarm.cli.arguments import Number
from swarm.cli.control import here
from swarm.cli.lock import is_locked
from swarm.cli.plan_names import PlanName
from swarm.cli.screen import age, note, one_line, print_json, say, show_table
from swarm.cli.tasks import opened
from swarm.cli.waiting import waiting
from swarm.config.places import Places
from swarm.core.model import TaskState
from swarm.errors import TaskEndedBadly, UsageError, WaitedTooLong
from swarm.ledger import Ledger, Plan, PlanState
from swarm.plans.shown import OVER, as_object, next_steps, reason_of, summary

SHOWN = 40
"""Tasks listed, the ones that matter most first; ``--all`` lists every one."""
REASON = 60

_MOVES = (TaskState.RUNNING, TaskState.REVIEW, TaskState.LANDING)
_TASK_ID = re.compile(r"(?<!approve )(?<!reject )(?<!answer )(?<!retry )\bt-[0-9a-z]{8}\b")
"""But not in a command, which knows no keys."""
_FIRST = (
    TaskState.NEEDS_HUMAN,
    TaskState.FAILED,
    TaskState.RUNNING,
    TaskState.REVIEW,
    TaskState.LANDING,
    TaskState.QUEUED,
    TaskState.SKIPPED,
    TaskState.CANCELLED,
    TaskState.DONE,
)


@click.command("status")
@click.argument("name", type=PlanName(), metavar="[PLAN]", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")
@click.option("--watch", is_flag=True, help="At every change, until the plan is over.")
@click.option("--all", "every", is_flag=True, help="Every task of a large plan.")
def status(name: str | None, as_json: bool, watch: bool, every: bool) -> None:
    """How a plan goes: counts, what runs, what waits and why, and what is next.

    Without PLAN the newest one that is not over, else the newest.
    """
    places = here()
    with opened(places) as ledger:
        plan = _meant(ledger, name)

        def tell(found: Plan) -> bool:
            live = is_locked(places)
            if as_json:
                print_json(as_object(ledger, found, live=live))
            else:
                for line in head(found, live=live):
                    say(line)
                _tables(ledger, found, live=live, every=every)
            sys.stdout.flush()
            return False

        if watch:
            _follow(places, ledger, plan.id, tell)
        else:
            tell(plan)


@click.command("wait")
@click.argument("name", type=PlanName(), metavar="PLAN")
@click.option("--timeout", type=Number(min=0), metavar="S", help="Seconds at most.")
@click.option("-q", "--quiet", is_flag=True, help="Print no changes on the way.")
def wait(name: str, timeout: float | None, quiet: bool) -> None:
    """Wait until a plan is over, printing how far it is.

    Exits 0 when every task is done, 3 when it ended otherwise or cannot go on without a person,
    124 when --timeout has passed.
    """
    places = here()
    with opened(places) as ledger:
        plan = ledger.find_plan(name)
        if plan.state not in OVER and not is_locked(places):
            note("no swarm is running: waiting for one to take it on")
        told = ""

        def tell(found: Plan) -> bool:
            nonlocal told
            line = f"{found.id} {found.state}: {counted(found)}"
            if not quiet and line != told:
                say(f"{time.strftime('%H:%M:%S')} {line}")
                told = line
            return _asks_only(ledger, found)

        found = _follow(places, ledger, plan.id, tell, timeout)
        if found.state is not PlanState.DONE:
            steps = next_steps(ledger, found)
            raise TaskEndedBadly(
                f"{found.id} {found.state}: {counted(found)}",
                steps[0] if steps else f"'agentctl plan status {found.id}' says more",
            )


@click.command("list")
@click.option("-n", "limit", default=20, type=click.IntRange(1, 100_000), help="The newest (20).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")
def list_(limit: int, as_json: bool) -> None:
    """Plans and their states, oldest first."""
    with opened(here()) as ledger:
        plans = ledger.plans(limit)
    if as_json:
        print_json({"version": 1, "plans": [summary(plan) for plan in plans]})
    elif plans:
        rows = [
            [plan.id, str(plan.state), age(plan.created_at), counted(plan), plan.title]
            for plan in plans
        ]
        show_table(("ID", "STATE", "AGE", "TASKS", "TITLE"), rows, state=1)
    else:
        say("no plans; 'agentctl plan apply FILE' adds one")


def _meant(ledger: Ledger, name: str | None) -> Plan:
    if name is not None:
        return ledger.find_plan(name)
    plans = ledger.plans(50)
    if not plans:
        raise UsageError("there is no plan", "'agentctl plan apply FILE' adds one")
    return next((plan for plan in reversed(plans) if plan.state not in OVER), plans[-1])


def _follow(
    places: Places,
    ledger: Ledger,
    plan: str,
    tell: Callable[[Plan], bool],
    timeout: float | None = None,
) -> Plan:
    """The plan when it is over, or when ``tell``, called with it at each change, has enough.

    Raises :class:`WaitedTooLong` after ``timeout`` seconds.
    """
    seen: tuple[int, Plan] | None = None

    def look() -> Plan | None:
        nonlocal seen
        now = (ledger.last_event(), ledger.find_plan(plan))
        if now == seen:
            return None
        seen, found = now, now[1]
        return found if tell(found) or found.state in OVER else None

    found = waiting(places, lambda changes: changes.until(look, timeout))
    if found is None:
        raise WaitedTooLong(
            f"{plan} is not over after {timeout:g} s: {counted(ledger.find_plan(plan))}",
            f"wait again, or see 'agentctl plan status {plan}'",
        )
    return found


def _asks_only(ledger: Ledger, plan: Plan) -> bool:
    """Whether nothing of it moves until a person has answered."""
    if not plan.counts.get(TaskState.NEEDS_HUMAN):
        return False
    return not any(
        task.state in _MOVES or (task.state is TaskState.QUEUED and not task.blocked)
        for task in ledger.plan_tasks(plan.id)
    )


def counted(plan: Plan) -> str:
    """``3 of 12 done, 2 running, 7 queued``."""
    done = f"{plan.counts.get(TaskState.DONE, 0)} of {plan.total} done"
    others = [f"{plan.counts[one]} {one}" for one in _FIRST[:-1] if plan.counts.get(one)]
    return ", ".join([done, *others])


def head(plan: Plan, *, live: bool) -> list[str]:
    """The lines above the table of tasks."""
    lines = [
        f"{plan.id}  {one_line(plan.title)}".rstrip(),
        f"state     {plan.state}: {counted(plan)}",
        f"added     {age(plan.created_at)} ago"
        + (f", follows {plan.follows}" * bool(plan.follows)),
    ]
    if not live and plan.state not in OVER:
        lines.append("reason    no swarm is running")
    return lines


def _tables(ledger: Ledger, plan: Plan, *, live: bool, every: bool) -> None:
    tasks = ledger.plan_tasks(plan.id)
    keys = {task.id: task.plan_key for task in tasks}
    order = {state: place for place, state in enumerate(_FIRST)}
    if not every and len(tasks) > SHOWN:
        tasks = sorted(tasks, key=lambda task: (order[task.state], task.blocked > 0, task.seq))
    shown = tasks if every else tasks[:SHOWN]
    rows = [
        [
            task.plan_key,
            task.id,
            str(task.state),
            task.role,
            task.agent or "-",
            one_line(task.title, 50),
            one_line(_by_key(reason_of(ledger, task, live=live), keys), REASON),
        ]
        for task in shown
    ]
    say()
    show_table(("KEY", "ID", "STATE", "ROLE", "AGENT", "TITLE", "REASON"), rows, state=2)
    if len(shown) < len(tasks):
        say(f"… {len(tasks) - len(shown)} more tasks: --all shows them")
    for place, step in enumerate(next_steps(ledger, plan)):
        say(f"\nnext      {step}" if not place else f"          {step}")


def _by_key(reason: str, keys: Mapping[str, str]) -> str:
    """A reason that calls the plan's own tasks by their keys."""
    return _TASK_ID.sub(lambda found: keys.get(found[0], found[0]), reason)

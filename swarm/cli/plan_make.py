"""``agentctl plan make``: a session writes a plan from a goal; a person says yes to it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from swarm.cli.arguments import Number, RoleName, TaskName, token_budget, usd_budget
from swarm.cli.control import here, poke
from swarm.cli.plan_apply import checked, show_plan, told
from swarm.cli.role_names import require_role
from swarm.cli.screen import note, on_terminal, say
from swarm.cli.tasks import opened
from swarm.cli.texts import read_text
from swarm.config.places import Places
from swarm.config.roles import available_roles
from swarm.core.budget import Amount
from swarm.core.model import TaskKind
from swarm.errors import TaskEndedBadly, UsageError
from swarm.ledger import Ledger, NewTask
from swarm.plans.made import new_plan
from swarm.plans.model import PlanFile
from swarm.plans.reading import read_plan

DEFAULT_OUT = Path("plan.yaml")


@click.command("make")
@click.argument("words", nargs=-1, metavar="GOAL|-")
@click.option("--role", default="planner", type=RoleName(), help="Who plans (planner).")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write (plan.yaml).")
@click.option("--apply", "apply_", is_flag=True, help="Take the plan in, after a person's yes.")
@click.option("--yes", is_flag=True, help="With --apply: do not ask.")
@click.option("--timeout", type=Number(min=0), metavar="S", help="Seconds at most.")
@click.option("--no-wait", is_flag=True, help="Print the planning task's id and return.")
@click.option("--task", "earlier", type=TaskName(), help="Take up what that task has planned.")
@token_budget
@usd_budget
def make(
    words: tuple[str, ...],
    role: str,
    out: Path | None,
    apply_: bool,
    yes: bool,
    timeout: float | None,
    no_wait: bool,
    earlier: str | None,
    token_budget: int | None,
    usd_budget: float | None,
) -> None:
    """Have a session write a plan from a goal and the repository.

    The plan is checked as any file of a stranger is, and shown.  Without --apply it is written to
    a file, to be read, changed and applied; with --apply it is taken in after a person's yes.
    The budget is the planning session's own.

    \b
    Examples:
      agentctl plan make "Replace the home-grown parser by a generated one"
      agentctl plan make - --apply < goal.md
      agentctl plan make "Fix every open issue labelled easy" --apply --yes
    """
    places = here()
    target = _target(out, apply_)
    if apply_ and not (yes or no_wait or _somebody_there()):
        raise UsageError("--apply needs a person's yes, and nobody is there to ask", "add --yes")
    with opened(places) as ledger:
        if earlier is not None:
            task = ledger.find(earlier).id
        else:
            require_role(places, role)
            new = NewTask(
                prompt=read_text(words, "the goal", 'agentctl plan make "Add a dark mode"'),
                role=role,
                kind=TaskKind.PLAN,
                budget=Amount(token_budget, usd_budget),
            )
            task = ledger.submit(new)
            if not poke(places):
                note("no swarm is running: the plan is made when 'agentctl swarm up' has run")
        if no_wait:
            say(task)
            note(f"'agentctl plan make --task {task}' takes up its plan")
            return
        _wait(task, timeout)
        plan = _made(ledger, places, task, target)
        show_plan(places, plan)
        if target is not None:
            note(f"written to {target}; 'agentctl plan apply {target}' takes it in")
        if not apply_:
            return
        if not yes and not _agreed():
            note(f"not applied; 'agentctl plan make --task {task} --apply' asks again")
            return
        applied = ledger.apply_plan(new_plan(plan, {}, reference=f"made:{task}"))
    told(places, plan, applied)


def _target(out: Path | None, apply_: bool) -> Path | None:
    """The file to write; raises :class:`UsageError` before anything is spent on what it refuses."""
    target = out if out is not None or apply_ else DEFAULT_OUT
    if target is None:
        return None
    if target.exists():
        raise UsageError(f"{target} is there already", "name another file with --out")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"{target.absolute().parent} is no directory", "make it, or name another")
    return target


def _somebody_there() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _agreed() -> bool:
    return click.confirm("Apply?", default=False, err=True)


def _wait(task: str, timeout: float | None) -> None:
    """Until the planning task has ended; raises :class:`TaskEndedBadly` where it made no plan."""
    from swarm.cli.task_wait import wait_for

    note(f"{task} is planning; 'agentctl plan make --task {task}' takes it up after a Ctrl-C")
    wait_for((task,), timeout, first=False, quiet=not on_terminal())


def _made(ledger: Ledger, places: Places, task: str, target: Path | None) -> PlanFile:
    """The plan that a session wrote: a stranger's text, kept in ``target`` as it is."""
    text = ledger.made_plan(task)
    if not text.strip():
        raise TaskEndedBadly(
            f"{task} is done and left no plan.yaml",
            f"see 'agentctl task show {task}', or try again with 'agentctl task retry {task}'",
        )
    if target is not None:
        with open(target, "x", encoding="utf-8") as file:
            file.write(text.rstrip() + "\n")
    # Sessions write YAML, whatever the file is called.
    name = "plan.yaml" if target is None or target.suffix == ".md" else str(target)
    return checked(read_plan(text, name, available_roles(places.roles), made=True))

"""``agentctl task wait``: watch the ledger until tasks have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import click

from swarm.cli.arguments import TaskName
from swarm.cli.control import here
from swarm.cli.lock import is_locked
from swarm.cli.screen import note, one_line, say
from swarm.cli.tasks import opened
from swarm.core.model import TaskState
from swarm.errors import TaskEndedBadly, WaitedTooLong
from swarm.ledger import Ledger, Task

LOOK_SECONDS = 0.05
"""How often the newest change and the gate's notes are asked for: some 40 µs, far below 1 %."""


@click.command("wait")
@click.argument("ids", nargs=-1, required=True, type=TaskName(), metavar="ID…")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds at most.")
@click.option("--any", "first", is_flag=True, help="Return when one of them has ended.")
@click.option("-q", "--quiet", is_flag=True, help="Print no changes on the way.")
def wait(ids: tuple[str, ...], timeout: float | None, first: bool, quiet: bool) -> None:
    """Wait until every task has ended, printing each change.

    Exits 0 when all of them are done, 3 when one ended otherwise (needs_human included), 124
    when --timeout has passed.

    \b
    Examples:
      id=$(agentctl task add "Fix the typo in README.md")
      agentctl task wait $id --timeout 1800 && agentctl task diff $id
    """
    places = here()
    with opened(places) as ledger:
        wanted = list(dict.fromkeys(ledger.find(prefix).id for prefix in ids))
        live = is_locked(places)
        if not live and any(not task.state.ended for task in read(ledger, wanted)):
            note("no swarm is running: waiting for one to take these tasks on")
        tell = (lambda _task: None) if quiet else _tell
        ended = watch(ledger, wanted, timeout, first, tell, live=live)
    bad = [task for task in ended if task.state is not TaskState.DONE]
    if bad:
        raise TaskEndedBadly(
            "; ".join(one_line(f"{task.id} {task.state}: {_why(task)}", 300) for task in bad[:5]),
            f"'agentctl task show {bad[0].id}' says more",
        )


def watch(
    ledger: Ledger,
    wanted: Sequence[str],
    timeout: float | None,
    first: bool,
    tell: Callable[[Task], None],
    *,
    live: bool = True,
) -> list[Task]:
    """Follow tasks until all (or the ``first``) have ended; those that have, in their order.

    ``tell`` gets each task when its state or reason has changed, and once at the start, with the
    reason as it is then; ``live``: a swarm runs, so what it noted counts.  Raises
    :class:`WaitedTooLong` after ``timeout`` seconds.
    """
    end = None if timeout is None else time.monotonic() + timeout
    told: dict[str, tuple[str, str]] = {}
    seen: object = None
    while True:
        newest = ledger.last_event(), ledger.notes()
        if newest != seen:
            seen = newest
            tasks = read(ledger, wanted)
            for task in tasks:
                why = why_now(ledger, task, live=live)
                state, before = told.get(task.id, ("", ""))
                if state != task.state or (why and kind_of(why) != before):
                    told[task.id] = (task.state, kind_of(why))
                    tell(replace(task, reason=why))
            ended = [task for task in tasks if task.state.ended]
            if len(ended) == len(tasks) or (first and ended):
                return ended
        if end is not None and time.monotonic() >= end:
            waiting = ", ".join(f"{task.id} {task.state}" for task in tasks if task not in ended)
            raise WaitedTooLong(
                f"not ended after {timeout:g} s: {waiting}", "wait again, or see 'task show'"
            )
        time.sleep(LOOK_SECONDS)


def read(ledger: Ledger, wanted: Sequence[str]) -> list[Task]:
    """The tasks as they are now; none is ever removed from a ledger."""
    return [task for one in wanted if (task := ledger.task(one)) is not None]


def why_now(ledger: Ledger, task: Task, *, live: bool) -> str:
    """Why a task is where it is; of a queued one, why it does not start."""
    if task.state is not TaskState.QUEUED:
        return task.reason
    return ledger.reason(task.id, live=live) or ""


def kind_of(reason: str) -> str:
    """A reason without its numbers: what counts down, or goes up, is told once."""
    return "".join(c for c in reason if not c.isdigit())


def _tell(task: Task) -> None:
    about = f" ({task.result})" if task.result else ""
    agent = f" by {task.agent}" if task.state is TaskState.RUNNING and task.agent else ""
    reason = f": {task.reason}" if task.reason else ""
    say(one_line(f"{time.strftime('%H:%M:%S')} {task.id} {task.state}{about}{agent}{reason}"))


def _why(task: Task) -> str:
    return task.reason or "no reason was given"

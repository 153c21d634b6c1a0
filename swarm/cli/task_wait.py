"""``agentctl task wait``: follow tasks until they have ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from swarm.cli.arguments import Number, TaskName
from swarm.cli.control import here
from swarm.cli.screen import age, note, on_terminal, one_line, say
from swarm.cli.tasks import opened
from swarm.cli.waiting import waiting
from swarm.core.model import TaskState
from swarm.desk import verbs
from swarm.desk.standing import next_step, owner
from swarm.desk.verbs import Desk
from swarm.errors import TaskEndedBadly, WaitedTooLong
from swarm.ledger import Task
from swarm.ledger.waiting_calls import Standing

if TYPE_CHECKING:
    from rich.text import Text

LIVE_SECONDS = 1.0
"""How often the live lines are drawn again: ages grow."""
MOST_LIVE = 20
"""Tasks with a live line."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A task as a waiter sees it; its ``reason`` is why it is where it is, as it is now."""

    standing: Standing

    @property
    def task(self) -> Task:
        """The task itself."""
        return self.standing.task

    @property
    def next_step(self) -> str:
        """What has to happen for it to go on."""
        return next_step(self.standing, self.task.reason)

    def told_by(self, before: Seen | None) -> bool:
        """Whether who was told of ``before`` knows all this but its numbers."""
        if before is None or self.place != before.place:
            return False
        why = kind_of(self.task.reason)
        return not why or why == kind_of(before.task.reason)

    @property
    def place(self) -> tuple[str, str, int]:
        """State, owner and last event: what is told whenever it changes."""
        last = self.standing.last
        return self.task.state, owner(self.standing), 0 if last is None else last.seq


Tell = Callable[[Seen], None]
TellAll = Callable[[Sequence[Seen]], None]


@click.command("wait")
@click.argument("ids", nargs=-1, required=True, type=TaskName(), metavar="ID…")
@click.option("--timeout", type=Number(min=0), metavar="S", help="Seconds at most.")
@click.option("--any", "first", is_flag=True, help="Return when one of them has ended.")
@click.option("-q", "--quiet", is_flag=True, help="Print no changes on the way.")
def wait(ids: tuple[str, ...], timeout: float | None, first: bool, quiet: bool) -> None:
    """Wait until every task has ended; shows who has it, until when, and what comes next.

    Exits 0 when all of them are done, 3 when one ended otherwise (needs_human included), 124
    when --timeout has passed.

    \b
    Examples:
      id=$(agentctl task add "Fix the typo in README.md")
      agentctl task wait $id --timeout 1800 && agentctl task diff $id
    """
    wait_for(ids, timeout, first=first, quiet=quiet)


def wait_for(ids: Sequence[str], timeout: float | None, *, first: bool, quiet: bool) -> None:
    """Wait for the tasks these ids (or their beginnings) name, and show how it goes.

    Raises :class:`TaskEndedBadly`, :class:`WaitedTooLong`.
    """
    places = here()
    with opened(places) as ledger:
        desk = Desk(places, ledger, lambda: None)
        wanted = list(dict.fromkeys(ledger.find(prefix).id for prefix in ids))
        if not desk.live and any(waits(seen.task) for seen in look(desk, wanted)):
            note("no swarm is running: waiting for one to take these tasks on")
        with _telling(quiet) as (tell, tell_all):
            ended = watch(desk, wanted, timeout, first, tell, tell_all)
    bad = [task for task in ended if task.state is not TaskState.DONE]
    if bad:
        raise TaskEndedBadly(
            "; ".join(_bad_end(task, why=quiet) for task in bad[:5]),
            f"'agentctl task show {bad[0].id}' says more",
        )


def waits(task: Task) -> bool:
    """Whether somebody still has to take it."""
    return not task.state.ended and not task.held


def _bad_end(task: Task, *, why: bool) -> str:
    """``why``: nobody was told the reason yet."""
    reason = f": {task.reason or 'no reason was given'}" if why else ""
    return one_line(f"{task.id} {task.state}{reason}", 300)


def watch(
    desk: Desk,
    wanted: Sequence[str],
    timeout: float | None,
    first: bool,
    tell: Tell,
    tell_all: TellAll | None = None,
) -> list[Task]:
    """Follow tasks until all (or the ``first``) have ended; those that have, in their order.

    ``tell`` gets each task when it is somewhere else than it was told, and once at the start;
    ``tell_all`` all of them at each look, and each second.  Raises :class:`WaitedTooLong` after
    ``timeout`` seconds.
    """
    told: dict[str, Seen] = {}

    def ended() -> list[Task] | None:
        seen = look(desk, wanted)
        for one in seen:
            if not one.told_by(told.get(one.task.id)):
                told[one.task.id] = one
                tell(one)
        if tell_all is not None:
            tell_all(seen)
        over = [one.task for one in seen if one.task.state.ended]
        return over if len(over) == len(seen) or (first and over) else None

    every = None if tell_all is None else LIVE_SECONDS
    found = waiting(desk.places, lambda changes: changes.until(ended, timeout, every))
    if found is None:
        going = [one.task for one in look(desk, wanted) if not one.task.state.ended]
        names = ", ".join(f"{task.id} {task.state}" for task in going)
        raise WaitedTooLong(
            f"not ended after {timeout:g} s: {names}", "wait again, or see 'task show'"
        )
    return found


def look(desk: Desk, wanted: Sequence[str]) -> list[Seen]:
    """The tasks as they are now; none is ever removed from a ledger."""
    found = []
    for task in wanted:
        standing = desk.ledger.standing(task)
        if standing is not None:
            why = verbs.why(desk, standing)
            found.append(Seen(replace(standing, task=replace(standing.task, reason=why))))
    return found


def kind_of(reason: str) -> str:
    """A reason without its numbers: what counts down, or goes up, is told once."""
    return "".join(c for c in reason if not c.isdigit())


# -- showing it -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _telling(quiet: bool) -> Iterator[tuple[Tell, TellAll | None]]:
    """What shows it: nothing, lines, or on a terminal lines with live ones below them."""
    if quiet:
        yield lambda _seen: None, None
    elif on_terminal():
        from rich.live import Live

        with Live(auto_refresh=False, transient=True, vertical_overflow="crop") as live:
            yield _tell, lambda seen: live.update(_live_lines(seen), refresh=True)
    else:
        yield _tell, None


def _tell(seen: Seen) -> None:
    say(f"{time.strftime('%H:%M:%S')} {line_of(seen)}")


def line_of(seen: Seen) -> str:
    """One line on where a task is: state, owner, lease, reason, last event, next step."""
    task, standing = seen.task, seen.standing
    result = f" ({task.result})" if task.result else ""
    holder = owner(standing)
    by = f" by {holder}{_until(standing)}" if holder else ""
    reason = f": {task.reason}" if task.reason else ""
    parts = [f"{task.id} {task.state}{result}{by}{reason}"]
    if standing.last is not None and not task.state.ended:
        parts.append(f"last: {standing.last.kind} {age(standing.last.at)} ago")
    step = seen.next_step
    if step and step != task.reason:
        parts.append(f"next: {step}")
    return one_line(" · ".join(parts))


def _until(standing: Standing) -> str:
    if standing.lease_until is None:
        return ""
    return f" until {time.strftime('%H:%M:%S', time.localtime(standing.lease_until))}"


def _live_lines(seen: Sequence[Seen]) -> Text:
    from rich.text import Text

    going = [one for one in seen if not one.task.state.ended]
    lines = [line_of(one) for one in going[:MOST_LIVE]]
    if len(going) > MOST_LIVE:
        lines.append(f"… and {len(going) - MOST_LIVE} more")
    return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

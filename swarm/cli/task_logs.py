"""``agentctl task logs``: a session's stream, in words."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from swarm.cli.arguments import TaskName
from swarm.cli.control import here
from swarm.cli.logs import FOLLOW_SECONDS, follow
from swarm.cli.screen import many_lines, note, one_line, say
from swarm.cli.tasks import money, opened, tokens
from swarm.config.places import Places
from swarm.core.model import split_agent_name
from swarm.errors import SwarmError
from swarm.ledger import Attempt, Ledger, Task
from swarm.sessions.model import (
    Note,
    Parser,
    Problem,
    Result,
    SessionEvent,
    SessionStarted,
    Spend,
    Text,
    ToolCall,
)


@click.command("logs")
@click.argument("task_id", type=TaskName(), metavar="ID")
@click.argument("number", required=False, type=click.IntRange(1), metavar="[ATTEMPT]")
@click.option("-f", "--follow", "following", is_flag=True, help="Until the attempt has ended.")
@click.option("--raw", is_flag=True, help="The agent CLI's own stream, line by line.")
def logs(task_id: str, number: int | None, following: bool, raw: bool) -> None:
    """What the session of a task says and does: its last attempt's, or that of ATTEMPT.

    With -f a task that has not begun is waited for.

    \b
    Examples:
      agentctl task logs -f k3f9
      agentctl task logs k3f9 1
      agentctl task logs k3f9 --raw | jq .type
    """
    places = here()
    with opened(places) as ledger:
        task = ledger.find(task_id)
        attempt = _pick(ledger, task, number, following)
        path = places.session_log(task.id, attempt.n)
        if following:
            lines = follow(path, until=lambda: _over(ledger, attempt))
        else:
            if not path.exists():
                raise SwarmError(f"attempt {attempt.n} of {task.id} has no log ({path})")
            lines = _whole(path)
        shown = lines if raw else told(lines, parser_of(places, attempt))
        for line in shown:
            say(line)


def told(lines: Iterable[str], parser: Parser | None) -> Iterator[str]:
    """The stream in words; as it is when nobody can read it."""
    if parser is None:
        yield from lines
        return
    session, spent = "", None
    for event in _events(lines, parser):
        if isinstance(event, Spend):
            spent = event  # running totals: the last one counts
            continue
        if isinstance(event, SessionStarted):
            if event.session_id == session:
                continue  # some CLIs name it in every record
            session = event.session_id
        yield from in_words(event)
    if spent is not None:
        yield from in_words(spent)


def _events(lines: Iterable[str], parser: Parser) -> Iterator[SessionEvent]:
    for line in lines:
        yield from parser.feed(line.encode(errors="replace") + b"\n")
    yield from parser.finish()


def in_words(event: SessionEvent) -> list[str]:
    """One event as lines for people."""
    match event:
        case Text(text, raw=raw):
            return [f"| {line}" if raw else line for line in many_lines(text).splitlines()]
        case Note(text):
            return [f"| {line}" for line in many_lines(text).splitlines()]
        case ToolCall(name, summary):
            return [one_line(f"> {name}: {summary}" if summary else f"> {name}")]
        case Problem(kind, text):
            return [one_line(f"! {kind}: {text}")]
        case SessionStarted(session_id):
            return [one_line(f"session {session_id}")]
        case Result(text, is_error=True):
            return [one_line(f"ended with an error: {text}")]
        case Result(text):
            return [one_line(f"ended: {text}")]
        case Spend(usage, cost):
            return [f"used {tokens(usage)}, {money(cost)}"]


def parser_of(places: Places, attempt: Attempt) -> Parser | None:
    """A parser for what that agent's CLI prints; ``None`` when its runtime is not known here."""
    from swarm.cli.settings import settings_or_defaults
    from swarm.config.roles import load_role
    from swarm.config.runtimes import resolve_runtime
    from swarm.sessions.registry import adapter

    named = split_agent_name(attempt.agent)
    if named is None:
        return None  # an agent of another host
    try:
        role = load_role(named[0], places.roles)
        return adapter(resolve_runtime(role.runtime, settings_or_defaults(places)).adapter).parser()
    except SwarmError as error:
        note(f"the stream is shown as it is: {error}")
        return None


def _pick(ledger: Ledger, task: Task, number: int | None, following: bool) -> Attempt:
    while True:
        attempts = ledger.attempts(task.id)
        if number is None and attempts:
            return attempts[-1]
        found = [attempt for attempt in attempts if attempt.n == number]
        if found:
            return found[0]
        now = ledger.task(task.id) or task
        if not following or now.state.ended:
            which = "no attempt yet" if number is None else f"no attempt {number}"
            raise SwarmError(
                f"{task.id} has {which}: it is {now.state}", "-f waits for one to begin"
            )
        time.sleep(FOLLOW_SECONDS)


def _over(ledger: Ledger, attempt: Attempt) -> bool:
    return not any(
        one.n == attempt.n and one.outcome is None for one in ledger.attempts(attempt.task)
    )


def _whole(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for line in file:
            yield line.decode(errors="replace").rstrip("\n")

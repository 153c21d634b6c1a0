"""``agentctl lane``: work the fleet's queue from outside, by lease."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from swarm.cli.arguments import Number, RoleName, TaskName
from swarm.cli.control import here, poke
from swarm.cli.lane_options import Label, labels_of
from swarm.cli.lazy import Entry, LazyGroup
from swarm.cli.screen import many_lines, note, one_line, print_json, say
from swarm.cli.tasks import opened
from swarm.cli.waiting import waiting
from swarm.config.places import Places
from swarm.desk import replies, requests, verbs
from swarm.desk.names import VARIABLE, outsider_name
from swarm.desk.verbs import Desk
from swarm.errors import StaleLease, SwarmError, UsageError, WaitedTooLong
from swarm.ledger import Ledger
from swarm.ledger.lanes_calls import LANE_SECONDS

HELP = f"""\
Work the fleet's queue from outside: a chat session, a script, another host.

A task is claimed by lease: it is yours until the lease ends, and its answer is taken only while
it is.  The same is served over HTTP (api.listen) and MCP ('agentctl mcp').

\b
A script's round:
  lease=$(agentctl lane claim --lane reviews --wait 3600 --json)
  …                                       do what it asks
  agentctl lane respond ID --fence N --from answer.md
{VARIABLE} names you where --as does not; else it is USER-HOST.
"""

lane = LazyGroup(
    "lane",
    {
        "claim": Entry("swarm.cli.lane:claim", "Take a task; prints it with its fence."),
        "renew": Entry("swarm.cli.lane:renew", "Keep it for another full term."),
        "respond": Entry("swarm.cli.lane:respond", "Answer it, or say how it failed."),
        "release": Entry("swarm.cli.lane:release", "Give it back; it is queued again."),
        "wait": Entry("swarm.cli.lane_wait:wait", "Wait until there is a task to take."),
    },
    help=HELP,
)

_Command = TypeVar("_Command", bound=Callable[..., None])

MAX_ANSWER = 512 * 1024
"""Bytes of an answer that are read; how many characters are taken is the ledger's to say."""


def takes(command: _Command) -> _Command:
    """The options that say what somebody takes."""
    for option in (
        click.option("--label", "labels", multiple=True, type=Label(), help="What you offer."),
        click.option("--lane", "lane_", default="", metavar="L", help="The lane; * is any."),
        click.option("--role", "roles", multiple=True, type=RoleName(), help="Whose tasks (any)."),
    ):
        command = option(command)
    return command


def held(command: _Command) -> _Command:
    """The arguments that name a lease."""
    for option in (
        click.option(
            "--as", "name", default="", metavar="NAME", help="The name you claimed under."
        ),
        click.option(
            "--fence", type=click.IntRange(min=0), required=True, help="As the claim gave it."
        ),
        click.argument("task_id", type=TaskName(), metavar="ID"),
    ):
        command = option(command)
    return command


as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")


def desk_of(places: Places, ledger: Ledger) -> Desk:
    """The desk of this command line."""
    return Desk(places, ledger, lambda: poke(places))


@click.command("claim")
@takes
@click.option("--as", "name", default="", metavar="NAME", help="The name you work under.")
@click.option("--task", "task_id", default="", metavar="ID", help="This very task.")
@click.option(
    "--lease", "seconds", default=LANE_SECONDS, metavar="S", help=f"Its term ({LANE_SECONDS:g})."
)
@click.option(
    "--wait", "patience", default=0.0, type=Number(min=0), metavar="S",
    help="Wait for one so long.",
)  # fmt: skip
@as_json
def claim(
    roles: tuple[str, ...],
    lane_: str,
    labels: tuple[tuple[str, str], ...],
    name: str,
    task_id: str,
    seconds: float,
    patience: float,
    as_json: bool,
) -> None:
    """Take a task by lease and print it.

    Exits 1 when there is none, 124 when --wait is over.

    \b
    Examples:
      agentctl lane claim --lane reviews --label vendor=openai
      agentctl lane claim --role auditor --wait 600 --json
      agentctl lane claim --task k3f9 --lease 3600
    """
    from swarm.desk import waits

    places = here()
    asked = requests.Claim(
        name=outsider_name(name, os.environ),
        roles=roles,
        lane=lane_,
        labels=labels_of(labels),
        id=task_id,
        lease_seconds=seconds,
        wait_seconds=patience,
    )
    with opened(places) as ledger:
        desk = desk_of(places, ledger)
        if patience:
            taken = waiting(places, lambda changes: waits.claim(desk, changes, asked))
        else:
            taken = verbs.claim(desk, asked)
        if taken.lease is None:
            raise _nothing(desk, asked)
    if as_json:
        print_json(taken)
    else:
        for line in lease_lines(taken.lease):
            say(line)


def _nothing(desk: Desk, asked: requests.Claim) -> SwarmError:
    if asked.id:
        task = desk.ledger.find(asked.id)
        who = f" by {task.agent}" if task.held else ""
        what = f"{task.id} is not to be had: it is {task.state}{who}"
    else:
        what = "there is no task to be had" + (f" in lane {asked.lane}" if asked.lane else "")
    if asked.wait_seconds:
        return WaitedTooLong(f"{what} after {asked.wait_seconds:g} s", "wait again")
    return SwarmError(what, "wait for one with --wait SECONDS, or see 'agentctl task list'")


def lease_lines(lease: replies.Lease) -> list[str]:
    """A claimed task for people; what others wrote is made harmless when it is printed."""
    labels = "".join(f", {key}={value}" for key, value in sorted(lease.labels.items()))
    lines = [
        f"{lease.id}  fence {lease.fence}  {one_line(lease.title)}",
        f"until     {lease.until} ({lease.seconds:g} s), attempt {lease.attempt}",
        f"for       role {lease.role}" + (f", lane {lease.lane}" if lease.lane else "") + labels,
    ]
    if lease.request is not None:
        path, sha256 = lease.request.path, lease.request.sha256
        lines.append(f"request   {one_line(path)}  sha256 {sha256}")
    if lease.response_path:
        lines.append(f"response  {one_line(lease.response_path)}")
    if lease.folder:
        lines.append(f"folder    {one_line(lease.folder)}")
    lines += [f"earlier   {one_line(one)}" for one in lease.earlier]
    if lease.feedback:
        lines += ["", "what was said of it:", _indented(lease.feedback)]
    for said in lease.thread:
        lines += ["", "earlier in its thread:", _indented(said)]
    answer = f"agentctl lane respond {lease.id} --fence {lease.fence} --as {lease.name} TEXT"
    return [*lines, "", _indented(lease.prompt), "", f"to answer: {answer}"]


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in many_lines(text).splitlines())


@click.command("renew")
@held
@click.option("--every", type=Number(min=1), metavar="S", help="Again and again.")
@as_json
def renew(task_id: str, fence: int, name: str, every: float | None, as_json: bool) -> None:
    """Keep a task for another full term.

    With --every until it is answered, given back or lost; exits 1 when it is lost.

    \b
    Example:
      agentctl lane renew k3f9 --fence 3 --every 60 &
    """
    places = here()
    who = outsider_name(name, os.environ)
    with opened(places) as ledger:
        desk = desk_of(places, ledger)
        task = ledger.find(task_id).id
        asked = requests.Renew(id=task, fence=fence, name=who)
        while True:
            try:
                kept = verbs.renew(desk, asked)
            except StaleLease:
                if every is None or not _over(ledger, task, fence):
                    raise
                return  # answered meanwhile: nothing is left to keep
            print_json(kept) if as_json else say(f"{kept.id} is yours until {kept.until}")
            if every is None:
                return
            time.sleep(every)


def _over(ledger: Ledger, task: str, fence: int) -> bool:
    """Whether that lease ended as its holder wanted it."""
    found = ledger.task(task)
    return found is not None and found.fence == fence and found.state.ended


@click.command("release")
@held
@click.option("--reason", default="", metavar="TEXT", help="Why, for whoever takes it next.")
@as_json
def release(task_id: str, fence: int, name: str, reason: str, as_json: bool) -> None:
    """Give a task back: it is queued again, and nothing is counted."""
    places = here()
    asked = requests.Release(
        id=task_id, fence=fence, name=outsider_name(name, os.environ), reason=reason
    )
    with opened(places) as ledger:
        _show(verbs.release(desk_of(places, ledger), asked), as_json)


@click.command("respond")
@held
@click.argument("words", nargs=-1, metavar="[TEXT|-]")
@click.option("--from", "source", type=click.Path(path_type=Path), help="The answer's file.")
@click.option("--failed", default="", metavar="REASON", help="It cannot be done this way.")
@click.option("--question", default="", metavar="TEXT", help="A person has to decide.")
@click.option(
    "--commit", default="", metavar="SHA", help="A commit with the work; noted, not landed."
)
@click.option("--input-tokens", type=click.IntRange(min=0), metavar="N", help="What it took.")
@click.option("--output-tokens", type=click.IntRange(min=0), metavar="N", help="What it took.")
@click.option("--cost-usd", type=Number(min=0), metavar="X", help="What it cost.")
@as_json
def respond(
    task_id: str,
    fence: int,
    name: str,
    words: tuple[str, ...],
    source: Path | None,
    failed: str,
    question: str,
    commit: str,
    input_tokens: int | None,
    output_tokens: int | None,
    cost_usd: float | None,
    as_json: bool,
) -> None:
    """Answer a task that you hold; that ends the lease.

    With - the answer is read from standard input.  A stale lease's answer is refused, exit 1.

    \b
    Examples:
      agentctl lane respond k3f9 --fence 3 "It is the cache: see src/cache.py:40"
      agentctl lane respond k3f9 --fence 3 --from answer.md --input-tokens 1200
      agentctl lane respond k3f9 --fence 3 --failed "the file it names is not there"
    """
    places = here()
    if failed and question:
        raise UsageError("--failed and --question together", "a task ends in one way")
    asked = requests.Respond(
        id=task_id,
        fence=fence,
        name=outsider_name(name, os.environ),
        text=_answer(words, source, needed=not (failed or question)),
        outcome="failed" if failed else "needs_human" if question else "succeeded",
        reason=failed or question,
        commit=commit,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost_usd=cost_usd,
    )
    with opened(places) as ledger:
        _show(verbs.respond(desk_of(places, ledger), asked), as_json)


def _answer(words: Sequence[str], source: Path | None, *, needed: bool) -> str:
    """The answer's text.  Raises :class:`UsageError` when there is none and one is ``needed``."""
    if source is not None and words:
        raise UsageError("an answer both as text and with --from", "give one of them")
    from_file = source is not None or tuple(words) == ("-",)
    text = _read(source) if from_file else " ".join(words)
    if needed and not text.strip():
        raise UsageError("the answer is empty", "give TEXT, - for standard input, or --from FILE")
    return text


def _read(source: Path | None) -> str:
    where = "standard input" if source is None else str(source)
    if source is None:
        data = sys.stdin.buffer.read(MAX_ANSWER + 1)
    else:
        with source.open("rb") as file:
            data = file.read(MAX_ANSWER + 1)
    if len(data) > MAX_ANSWER:
        raise UsageError(f"{where} has more than {MAX_ANSWER} bytes", "name a file in the answer")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where} is not UTF-8 (byte {error.start})", "give the answer in UTF-8"
        ) from None


def _show(moved: replies.Moved, as_json: bool) -> None:
    if as_json:
        print_json(moved)
        return
    result = f" ({moved.result})" if moved.result else ""
    reason = f": {one_line(moved.reason)}" if moved.reason else ""
    say(f"{moved.id} is {moved.state}{result}{reason}")
    if moved.note:
        note(moved.note)

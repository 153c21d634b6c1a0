"""``agentctl task add``."""

from __future__ import annotations

import sys

import click

from swarm.cli.arguments import RoleName, TaskName, token_budget, usd_budget
from swarm.cli.control import here, poke
from swarm.cli.lane_options import Label, LaneName, labels_of, nobody_takes
from swarm.cli.role_names import require_role
from swarm.cli.screen import note, print_json
from swarm.cli.tasks import opened
from swarm.core.budget import Amount
from swarm.core.model import Merge, Review
from swarm.errors import ConfigError, UsageError
from swarm.ledger import NewTask
from swarm.ledger.pinned import read_request, usable_response

MAX_INPUT = 512 * 1024
"""Bytes read from standard input: above what a task may have, so that it is told, not cut."""


@click.command("add")
@click.argument("words", nargs=-1, metavar="[TEXT|-]")
@click.option("--role", default="builder", type=RoleName(), help="Who should do it (builder).")
@click.option("--component", default="", metavar="NAME", help="What part it is about.")
@click.option("--priority", default=0, type=int, help="-100 to 100, the higher goes first (0).")
@click.option("--title", default="", help="A short name; else the text's first line.")
@click.option("--repo", metavar="R", help="Another repository than repo.source: path or address.")
@click.option(
    "--after", multiple=True, type=TaskName(), help="Only when that task is done; repeatable."
)
@click.option("--lane", default="", type=LaneName(), help="Only for those that take this lane.")
@click.option("--label", "labels", multiple=True, type=Label(), help="What it wants; repeatable.")
@click.option("--thread", default="", metavar="T", help="It is told the answers of thread T.")
@click.option("--parent", type=TaskName(), help="It follows that task, and is told its answer.")
@click.option("--request-from", metavar="FILE", help="Read the text from FILE, and remember it.")
@click.option("--response-to", metavar="FILE", help="Write the answer to FILE, a new one.")
@click.option(
    "--review",
    type=click.Choice([r.value for r in Review]),
    help="Who must approve before it lands.",
)
@click.option(
    "--merge",
    type=click.Choice([m.value for m in Merge]),
    help="How it lands; none: it stays a branch.",
)
@token_budget
@usd_budget
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1, with the id.")
def add(
    words: tuple[str, ...],
    role: str,
    component: str,
    priority: int,
    title: str,
    repo: str | None,
    after: tuple[str, ...],
    lane: str,
    labels: tuple[tuple[str, str], ...],
    thread: str,
    parent: str | None,
    request_from: str | None,
    response_to: str | None,
    review: str | None,
    merge: str | None,
    token_budget: int | None,
    usd_budget: float | None,
    as_json: bool,
) -> None:
    """Add a task and print its id.

    With - the text is read from standard input.  Without a running swarm the task waits.
    A budget of its own counts instead of limits.task_token_budget and limits.task_usd_budget.

    The labels vendor, model, runtime and effort must be offered by who takes it; others are
    minded by roles that name them.  A request file that changes before the task starts makes it
    wait for a person.

    \b
    Examples:
      agentctl task add "Make 'make test' pass on Python 3.13"
      agentctl task add --role auditor --component parser - < review.md
      agentctl task add "Find the memory leak" --token-budget 200k --usd-budget 2
      agentctl task add "Write the release notes" --after k3f9 --after x7a2 --priority 10
      agentctl task add --lane reviews --label vendor=openai "Look for races in the cache"
      agentctl task add --request-from question.md --response-to answer.md --thread parser
    """
    places = here()
    request = None if request_from is None else read_request(request_from)
    if request is not None and words:
        raise UsageError("the text is given twice", "give --request-from, or the text itself")
    text = read_text(words) if request is None else request.text
    require_role(places, role)
    wanted = labels_of(labels)
    with opened(places) as ledger:
        task = ledger.submit(
            NewTask(
                prompt=text,
                role=role,
                component=component,
                title=title,
                priority=priority,
                repo=None if repo is None else usable_repository(repo),
                budget=Amount(token_budget, usd_budget),
                review=None if review is None else Review(review),
                merge=None if merge is None else Merge(merge),
                after=tuple(ledger.find(prefix).id for prefix in after),
                lane=lane,
                labels=wanted,
                thread=thread,
                parent=ledger.find(parent).id if parent else "",
                request_path=request.path if request is not None else "",
                request_sha256=request.sha256 if request is not None else "",
                response_path="" if response_to is None else usable_response(response_to),
            )
        )
    heard = poke(places)
    if (lane or wanted) and (why := nobody_takes(places, role, lane, wanted)):
        note(f"{task} waits: {why}")
    if as_json:
        print_json({"version": 1, "id": task, "state": "queued", "swarm_running": heard})
    else:
        click.echo(task)
    if not heard:
        note("no swarm is running: the task waits for 'agentctl swarm up'")


def read_text(
    words: tuple[str, ...],
    what: str = "the task's text",
    example: str = 'agentctl task add "Fix the typo"',
) -> str:
    """A text from the command line or, for ``-``, from standard input: ``what`` it is to people.

    Raises :class:`UsageError` when there is none, or bytes that are no UTF-8.
    """
    if words == ("-",):
        data = sys.stdin.buffer.read(MAX_INPUT)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise UsageError(
                f"standard input is not UTF-8 (byte {error.start})", "give the text in UTF-8"
            ) from None
    else:
        text = " ".join(words)
    if not text.strip():
        raise UsageError(f"{what} is empty", f"as in: {example}, or - for stdin")
    return text


def usable_repository(repo: str) -> str:
    """``repo`` as the coordinator can use it: a folder's path made absolute, checked early.

    Raises :class:`UsageError` for what cannot be fetched from.
    """
    from swarm.spawner.hub import check_source, normal_source

    try:
        check_source(repo)
    except ConfigError as error:
        what = "; ".join(error.problems).removeprefix("repo.source: ")
        raise UsageError(f"--repo: {what}", error.remedy) from None
    return normal_source(repo)

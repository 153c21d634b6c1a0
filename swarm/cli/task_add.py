"""``agentctl task add``."""

from __future__ import annotations

from typing import TypedDict, Unpack

import click

from swarm.cli.arguments import RoleName, TaskName, token_budget, usd_budget
from swarm.cli.control import here, poke
from swarm.cli.lane_options import Label, LaneName, labels_of, nobody_takes
from swarm.cli.role_names import require_role
from swarm.cli.screen import note, print_json
from swarm.cli.tasks import opened
from swarm.cli.texts import read_text, usable_repository
from swarm.core.budget import Amount
from swarm.core.model import Merge, Review
from swarm.errors import UsageError
from swarm.ledger import Ledger, NewTask
from swarm.ledger.pinned import Request, read_request, usable_response


class Wish(TypedDict):
    """What the options say of the task."""

    role: str
    component: str
    priority: int
    title: str
    repo: str | None
    after: tuple[str, ...]
    lane: str
    labels: tuple[tuple[str, str], ...]
    thread: str
    parent: str | None
    request_from: str | None
    response_to: str | None
    review: str | None
    merge: str | None
    token_budget: int | None
    usd_budget: float | None


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
def add(words: tuple[str, ...], as_json: bool, **wish: Unpack[Wish]) -> None:
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
    asked = wish["request_from"]
    if asked is not None and words:
        raise UsageError("the text is given twice", "give --request-from, or the text itself")
    request = Request("", "", read_text(words)) if asked is None else read_request(asked)
    require_role(places, wish["role"])
    labels = labels_of(wish["labels"])
    with opened(places) as ledger:
        new = _new_task(ledger, request, labels, wish)
        task = ledger.submit(new)
    heard = poke(places)
    if (new.lane or labels) and (why := nobody_takes(places, new.role, new.lane, labels)):
        note(f"{task} waits: {why}")
    if as_json:
        print_json({"version": 1, "id": task, "state": "queued", "swarm_running": heard})
    else:
        click.echo(task)
    if not heard:
        note("no swarm is running: the task waits for 'agentctl swarm up'")


def _new_task(ledger: Ledger, request: Request, labels: dict[str, str], wish: Wish) -> NewTask:
    repo, review, merge = wish["repo"], wish["review"], wish["merge"]
    parent, response_to = wish["parent"], wish["response_to"]
    return NewTask(
        prompt=request.text,
        role=wish["role"],
        component=wish["component"],
        title=wish["title"],
        priority=wish["priority"],
        repo=None if repo is None else usable_repository(repo),
        budget=Amount(wish["token_budget"], wish["usd_budget"]),
        review=None if review is None else Review(review),
        merge=None if merge is None else Merge(merge),
        after=tuple(ledger.find(prefix).id for prefix in wish["after"]),
        lane=wish["lane"],
        labels=labels,
        thread=wish["thread"],
        parent=ledger.find(parent).id if parent else "",
        request_path=request.path,
        request_sha256=request.sha256,
        response_path="" if response_to is None else usable_response(response_to),
    )

"""What may be asked at the desk: one struct a verb, the same for HTTP, MCP and the command line.

Fields may be added, never renamed; an unknown one is refused, as it is a slip.  The descriptions
are what an MCP client reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from swarm.errors import UsageError
from swarm.ledger.intake import MAX_TITLE, one_line
from swarm.ledger.lanes_calls import LANE_SECONDS, MAX_RESPONSE

MAX_WAIT = 3600.0
"""Seconds one request may wait; whoever wants longer asks again."""
MAX_LIST = 1000

TaskId = Annotated[str, Meta(description="The task's id, or the beginning of it: t-k3f9x2m1.")]
Fence = Annotated[int, Meta(description="The lease's number, as the claim gave it.", ge=0)]
Name = Annotated[
    str,
    Meta(description="The name you work under: 1-32 letters, digits, dashes, underscores."),
]
Wait = Annotated[
    float,
    Meta(description=f"Seconds to wait at most, 0 to {MAX_WAIT:g}.", ge=0, le=MAX_WAIT),
]
Labels = Annotated[
    dict[str, str],
    Meta(description="Labels, as in {'vendor': 'openai', 'effort': 'high'}."),
]
Count = Annotated[int, Meta(ge=0)]
Money = Annotated[float, Meta(ge=0)]
State = Literal[
    "queued", "running", "review", "landing", "done",
    "needs_human", "failed", "cancelled", "skipped",
]  # fmt: skip
Lane = Annotated[str, Meta(description="A lane's name; the empty one is the default lane.")]

_R = TypeVar("_R", bound="Request")


class Request(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What a verb is asked."""


class Submit(Request, frozen=True):
    """Give the fleet a task."""

    prompt: Annotated[str, Meta(description="What is to be done, in full.")]
    role: Annotated[str, Meta(description="Who should do it: builder, auditor, qa …")] = "builder"
    title: Annotated[
        str, Meta(description=f"A short name, {MAX_TITLE} characters; else the first line.")
    ] = ""
    component: Annotated[str, Meta(description="What part of the project it is about.")] = ""
    priority: Annotated[int, Meta(description="-100 to 100, the higher goes first.")] = 0
    after: Annotated[
        tuple[str, ...], Meta(description="Ids of tasks that must be done before it starts.")
    ] = ()
    on_failed: Annotated[
        Literal["skip", "run", "hold"],
        Meta(description="What becomes of it when one of `after` ends otherwise than done."),
    ] = "hold"
    lane: Lane = ""
    labels: Labels = {}
    thread: Annotated[
        str, Meta(description="Groups tasks: each is told the earlier answers of its thread.")
    ] = ""
    parent: Annotated[str, Meta(description="Id of the task it answers or follows.")] = ""
    review: Annotated[
        Literal["none", "agent", "human"] | None,
        Meta(description="Who approves its commit before it lands; null: as configured."),
    ] = None
    token_budget: Annotated[Count | None, Meta(description="Tokens its attempts may use.")] = None
    usd_budget: Annotated[Money | None, Meta(description="Dollars its attempts may cost.")] = None


class List(Request, frozen=True):
    """The newest tasks."""

    state: Annotated[
        tuple[State, ...], Meta(description="Only tasks in these states; none is any.")
    ] = ()
    role: Annotated[str, Meta(description="Only of this role; empty is any.")] = ""
    limit: Annotated[
        int, Meta(description=f"How many at most, 1 to {MAX_LIST}.", ge=1, le=MAX_LIST)
    ] = 50


class Show(Request, frozen=True):
    """One task in full."""

    id: TaskId


class WaitFor(Request, frozen=True):
    """Wait until a task has ended."""

    id: TaskId
    seconds: Wait = 30.0


class Cancel(Request, frozen=True):
    """End a task, also one that runs."""

    id: TaskId


class Retry(Request, frozen=True):
    """Queue an ended task again."""

    id: TaskId
    fresh: Annotated[bool, Meta(description="On a new branch; the old one is kept.")] = False
    note: Annotated[str, Meta(description="What its next attempt is told.")] = ""
    token_budget: Annotated[Count | None, Meta(description="A new budget in tokens.")] = None
    usd_budget: Annotated[Money | None, Meta(description="A new budget in dollars.")] = None


class Answer(Request, frozen=True):
    """Answer the question of a task that needs a person."""

    id: TaskId
    text: Annotated[str, Meta(description="The answer.")]


class Approve(Request, frozen=True):
    """Approve a task's commit, so that it lands."""

    id: TaskId
    commit: Annotated[
        str, Meta(description="The commit that was looked at; another one is not approved.")
    ]
    text: Annotated[str, Meta(description="A remark.")] = ""


class Reject(Request, frozen=True):
    """Send a task's work back to its agent."""

    id: TaskId
    text: Annotated[str, Meta(description="What has to be different.")]


class Claim(Request, frozen=True):
    """Take a task by lease."""

    name: Name
    roles: Annotated[
        tuple[str, ...], Meta(description="Whose tasks you take; none is any role's.")
    ] = ()
    lane: Annotated[str, Meta(description="The lane you work; empty the default one, * any.")] = ""
    labels: Annotated[dict[str, str], Meta(description="What you offer, as labels.")] = {}
    id: Annotated[str, Meta(description="This very task, whatever its lane and labels.")] = ""
    lease_seconds: Annotated[float, Meta(description="How long you have it unless you renew.")] = (
        LANE_SECONDS
    )
    wait_seconds: Wait = 0.0


class Await(Request, frozen=True):
    """Wait until a task could be claimed, without claiming it."""

    roles: Annotated[
        tuple[str, ...], Meta(description="Whose tasks you take; none is any role's.")
    ] = ()
    lane: Annotated[str, Meta(description="The lane you work; empty the default one, * any.")] = ""
    labels: Annotated[dict[str, str], Meta(description="What you offer, as labels.")] = {}
    seconds: Wait = 30.0


class Renew(Request, frozen=True):
    """Keep a lease for another full term."""

    id: TaskId
    fence: Fence
    name: Name


class Release(Request, frozen=True):
    """Give a task back; it is queued again, and nothing is counted."""

    id: TaskId
    fence: Fence
    name: Name
    reason: Annotated[str, Meta(description="Why, for whoever takes it next.")] = ""


class Respond(Request, frozen=True):
    """Answer a task that you hold."""

    id: TaskId
    fence: Fence
    name: Name
    text: Annotated[
        str, Meta(description=f"Your answer in full, at most {MAX_RESPONSE} characters.")
    ] = ""
    outcome: Annotated[
        Literal["succeeded", "failed", "denied", "needs_human"],
        Meta(
            description="succeeded: it is done. failed: it cannot be done this way. denied: you"
            " lack a right. needs_human: `reason` is a question for a person."
        ),
    ] = "succeeded"
    reason: Annotated[str, Meta(description="Why it failed, or the question; one line.")] = ""
    commit: Annotated[str, Meta(description="A commit with your work; noted, not landed.")] = ""
    input_tokens: Annotated[Count | None, Meta(description="What it took, if known.")] = None
    output_tokens: Annotated[Count | None, Meta(description="What it took, if known.")] = None
    cost_usd: Annotated[Money | None, Meta(description="What it cost, if known.")] = None


class Plans(Request, frozen=True):
    """The newest plans."""

    limit: Annotated[
        int, Meta(description=f"How many at most, 1 to {MAX_LIST}.", ge=1, le=MAX_LIST)
    ] = 20


class ShowPlan(Request, frozen=True):
    """One plan and its tasks."""

    id: Annotated[str, Meta(description="The plan's id, or the beginning of it: p-k3f9x2m1.")]


class Status(Request, frozen=True):
    """How the fleet is."""


def read(kind: type[_R], data: object, *, strict: bool = True) -> _R:
    """``data`` (parsed JSON) as a request; not ``strict``: numbers may be given as text.

    Raises :class:`~swarm.errors.UsageError` that names the field.
    """
    if not isinstance(data, Mapping):
        raise UsageError("the request is no JSON object", f"the fields are {_fields(kind)}")
    try:
        return msgspec.convert(data, kind, strict=strict)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UsageError(one_line(str(error), 300), f"the fields are {_fields(kind)}") from None


def read_json(kind: type[_R], body: bytes, more: Mapping[str, object] | None = None) -> _R:
    """The same from bytes, where empty ones are ``{}``; ``more`` are fields from elsewhere."""
    try:
        data = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, RecursionError) as error:
        raise UsageError(f"the request is no JSON: {one_line(str(error), 200)}") from None
    return read(kind, {**data, **(more or {})} if isinstance(data, dict) else data)


def _fields(kind: type[Request]) -> str:
    return ", ".join(kind.__struct_fields__) or "none"

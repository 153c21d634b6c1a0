"""Work-channel messages: what coordinator, daemons and people say to each other in ``MSG.content``.

A JSON object with a ``type``; unknown types and unknown fields are ignored, so that other
speakers may say more.  The short text forms people type are understood as well.  ``agentId`` is
whom a message is about: its sender for what daemons say, its addressee for what a coordinator
answers (``ASSIGN``, ``REJECTED``, ``SETTLED``), the coordinator itself for ``TASK_AVAILABLE``.
Who really said it is the server's ``from``, never a field of the body (rules, "Trust").
"""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from swarm.core.model import Usage, bare_id, is_agent_id, is_component, is_role
from swarm.errors import BadMessage

MAX_CONTENT = 256 * 1024
"""Bytes of one ``MSG.content`` we send or look at; longer ones are ignored."""


Count: TypeAlias = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""A whole number that fits a ledger's column and a double; JSON may hold one of any length."""
Seconds: TypeAlias = Annotated[float, Meta(ge=-1e12, le=1e12)]
Dollars: TypeAlias = Annotated[float, Meta(ge=0, le=1e12)]


class TaskRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task as the channel sees it.  Prompts of our own tasks do not travel over the channel."""

    id: str = ""
    component: str = ""
    role: str = ""
    title: str = ""
    prompt: str = ""
    """Only from announcers and foreign coordinators."""
    priority: Count = 0
    lane: str = ""
    labels: dict[str, str] = {}
    """Only from announcers."""


class _Work(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, kw_only=True):
    agentId: str = ""  # noqa: N815 - the channel's spelling


class TaskAvailable(_Work, frozen=True, tag="TASK_AVAILABLE"):
    """A task waits.  ``offer`` names the agents that should claim at once."""

    task: TaskRef
    offer: tuple[str, ...] = ()
    idle: Count = 0
    """How many matching agents are idle; spreads the claims of those not offered."""
    slot_ms: Count = 50
    """Milliseconds a not-offered agent's place in the spread is wide."""


class Claim(_Work, frozen=True, tag="CLAIM"):
    """I would take it.  Without an id the oldest matching task of the component is meant."""

    task: TaskRef


class Assign(_Work, frozen=True, tag="ASSIGN"):
    """``agentId`` holds the lease with this fence."""

    task: TaskRef
    fence: Count = 0
    lease_seconds: Seconds = 0.0


class Rejected(_Work, frozen=True, tag="REJECTED"):
    """``agentId`` did not get it."""

    task: TaskRef
    reason: str = ""


class Unclaim(_Work, frozen=True, tag="UNCLAIM"):
    """I hold it and cannot start it; no attempt is counted."""

    task: TaskRef
    fence: Count = 0
    reason: str = ""
    retry_after: Seconds = 0.0


class Report(_Work, frozen=True, kw_only=True):
    """What the three reports share; see ``wire.lifeline.Finished`` for the fields' meaning."""

    task: TaskRef
    fence: Count = 0
    outcome: str = ""
    reason: str = ""
    result: str = ""
    exit_status: Count | None = None
    session_id: str | None = None
    usage: Usage = Usage()
    cost_usd: Dollars | None = None
    branch: str | None = None
    commit: str | None = None
    commits: Count = 0
    retry_at: Seconds | None = None
    needs_human: bool = False
    swarm_budget: bool = False
    start: str | None = None
    review: str = ""
    unresolved: tuple[str, ...] = ()
    aside: str | None = None


class TaskDone(Report, frozen=True, tag="TASK_DONE"):
    """The attempt succeeded."""


class TaskFail(Report, frozen=True, tag="TASK_FAIL"):
    """The attempt ended otherwise."""


class Blocked(Report, frozen=True, tag="BLOCKED"):
    """The attempt was denied something, or a question waits for a person."""


class Settled(_Work, frozen=True, tag="SETTLED"):
    """The coordinator has it in the ledger; ``agentId`` may forget it.

    ``stale`` says the fence was not the current one and the report was refused.
    """

    task: TaskRef
    fence: Count = 0
    stale: bool = False


class Heartbeat(_Work, frozen=True, tag="HEARTBEAT"):
    """A holder on another host lives; our own fleet beats on its lifelines instead."""

    task: TaskRef = TaskRef()
    fence: Count = 0


class Status(_Work, frozen=True, tag="STATUS"):
    """``started`` once the session's process runs, then ``working`` with a line of progress."""

    task: TaskRef = TaskRef()
    fence: Count = 0
    phase: str = ""
    text: str = ""


class Announced(_Work, frozen=True, tag="TASK"):
    """The short form ``TASK <role> [<component>]: <prompt>``; taken in from accepted announcers."""

    task: TaskRef


class Approve(_Work, frozen=True, tag="APPROVE"):
    """The operator lets a task's commit land; without ``commit`` what is there now."""

    task: TaskRef
    commit: str | None = None
    text: str = ""


class Reject(_Work, frozen=True, tag="REJECT"):
    """The operator sends a task back, or with ``final`` ends it as failed."""

    task: TaskRef
    text: str = ""
    commit: str | None = None
    final: bool = False


class Answer(_Work, frozen=True, tag="ANSWER"):
    """The operator answers what a task asks."""

    task: TaskRef
    text: str = ""


class NeedsHuman(_Work, frozen=True, tag="NEEDS_HUMAN"):
    """A task asks a person; ``text`` is its question, shortened."""

    task: TaskRef
    text: str = ""


class InReview(_Work, frozen=True, tag="REVIEW"):
    """A task's ``commit`` waits for a person's approval."""

    task: TaskRef
    commit: str | None = None


class HasLanded(_Work, frozen=True, tag="LANDED"):
    """A task's work is on its target, whose tip is ``commit``."""

    task: TaskRef
    commit: str | None = None


WorkMessage: TypeAlias = (
    TaskAvailable | Claim | Assign | Rejected | Unclaim | TaskDone | TaskFail | Blocked
    | Settled | Heartbeat | Status | Announced
    | Approve | Reject | Answer | NeedsHuman | InReview | HasLanded
)  # fmt: skip

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[WorkMessage] = msgspec.json.Decoder(WorkMessage)

_TASK = re.compile(
    r"TASK\s+(?P<role>\S+?)(?:\s+(?P<component>[^\s:]+))?\s*:\s*(?P<prompt>.+)\Z", re.DOTALL
)


def encode(message: WorkMessage) -> str:
    """The text for ``MSG.content``."""
    return _encoder.encode(message).decode()


def decode(content: str) -> WorkMessage | None:
    """Read one ``MSG.content``; ``None`` for talk that is none of ours.

    Raises :class:`~swarm.errors.BadMessage` for a JSON object of one of our types that does not
    hold what the type needs, so that the sender can be told.
    """
    if len(content) > MAX_CONTENT:
        return None
    text = content.strip()
    if not text.startswith("{"):
        return _short_form(text)
    try:
        return _in_range(_decoder.decode(text))
    except msgspec.ValidationError as error:
        if "$.type" in str(error) or "`type`" in str(error):
            return None  # an unknown type, or no type at all
        raise BadMessage(f"a work message that does not fit its type: {error}") from error
    except (msgspec.DecodeError, RecursionError):
        return None  # talk that happens to begin with a brace


def _in_range(message: WorkMessage) -> WorkMessage:
    """What a report says was used is no more than a ledger can add up, and never less than none.

    Raises :class:`~swarm.errors.BadMessage`.
    """
    if isinstance(message, Report):
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"):
            used = getattr(message.usage, name)
            if used is not None and not 0 <= used <= 2**53:
                raise BadMessage(f"a work message that does not fit its type: usage.{name}")
    return message


def _short_form(text: str) -> WorkMessage | None:
    """What people type.  Orders that lack something are orders too: who gives them is told so."""
    if match := _TASK.match(text):
        role, component = match["role"], match["component"] or ""
        if is_role(role) and (not component or is_component(component)):
            return Announced(
                task=TaskRef(role=role, component=component, prompt=match["prompt"].strip())
            )
        return None
    match text.split(maxsplit=2):
        case ["CLAIM", component] if is_component(component):
            return Claim(task=TaskRef(component=component))
        case ["UNCLAIM", component] if is_component(component):
            return Unclaim(task=TaskRef(component=component))
        case ["ASSIGN", component, agent] if is_component(component) and is_agent_id(agent):
            return Assign(agentId=bare_id(agent), task=TaskRef(component=component))
        case ["APPROVE", *words]:
            task, commit = (*words, "", "")[:2]
            return Approve(task=TaskRef(id=task), commit=commit or None)
        case ["REJECT", *words]:
            task, reason = (*words, "", "")[:2]
            return Reject(task=TaskRef(id=task), text=reason)
        case ["ANSWER", *words]:
            task, answer = (*words, "", "")[:2]
            return Answer(task=TaskRef(id=task), text=answer)
        case ["DONE", task, result]:
            return TaskDone(task=TaskRef(id=task), outcome="succeeded", result=result)
        case ["DONE", task]:
            return TaskDone(task=TaskRef(id=task), outcome="succeeded")
        case ["FAIL", task, reason]:
            return TaskFail(task=TaskRef(id=task), outcome="failed", reason=reason)
        case _:
            return None

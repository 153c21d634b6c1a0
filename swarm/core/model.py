"""The words everything else is written in: states, outcomes, usage, names.

One enum a concept, spelled as the product contract spells it ("States"), so that no two
packages can disagree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from enum import StrEnum

PROBE_TASK = "probe-"
"""With its number behind it, what the tree of a quota's probe is marked with in a task's place."""


class ChildState(StrEnum):
    """A child process of the supervisor, daemon or service."""

    STOPPED = "stopped"
    SPAWNING = "spawning"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    DEGRADED = "degraded"


class AgentState(StrEnum):
    """An agent as shown to people.  A crash is a reason, not a state."""

    STARTING = "starting"
    IDLE = "idle"
    PROMOTING = "promoting"
    ACTIVE = "active"
    DEMOTING = "demoting"
    BACKOFF = "backoff"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    STOPPED = "stopped"


class TaskState(StrEnum):
    """A task's life.  Why a queued one does not start is a reason beside it."""

    QUEUED = "queued"
    RUNNING = "running"
    REVIEW = "review"
    LANDING = "landing"
    DONE = "done"
    NEEDS_HUMAN = "needs_human"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def ended(self) -> bool:
        """Whether a waiter may stop waiting (``needs_human`` included, rules "Outcomes")."""
        return self not in LIVE_TASK_STATES


LIVE_TASK_STATES = frozenset(
    {TaskState.QUEUED, TaskState.RUNNING, TaskState.REVIEW, TaskState.LANDING}
)
ENDED_BADLY = frozenset({TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED})
"""Final states other than ``done``; ``needs_human`` is none: an answer goes on with it."""
OVER = ENDED_BADLY | {TaskState.DONE}
"""States that nothing but a retry leads out of."""


class TaskResult(StrEnum):
    """What ``done`` means for a task."""

    MERGED = "merged"
    BRANCH = "branch"
    ANSWER = "answer"
    NOOP = "noop"


class TaskKind(StrEnum):
    """What a task is for."""

    WORK = "work"
    REVIEW = "review"
    """Judges another task's commit; its verdict moves that task."""
    PLAN = "plan"
    """Writes a plan of tasks from a goal."""


class Review(StrEnum):
    """Who must approve a task's commit before it lands."""

    NONE = "none"
    AGENT = "agent"
    HUMAN = "human"


class Merge(StrEnum):
    """How a task's branch becomes part of its target; ``none``: it stays a branch."""

    SQUASH = "squash"
    MERGE = "merge"
    REBASE = "rebase"
    NONE = "none"


class OnFailed(StrEnum):
    """What becomes of a task when one it waits for ends otherwise than done."""

    SKIP = "skip"
    RUN = "run"
    HOLD = "hold"


class RemarkKind(StrEnum):
    """Why somebody said something about a task's work."""

    CONFLICT = "conflict"
    CHECK = "check"
    REVIEW = "review"
    APPROVAL = "approval"
    REJECTION = "rejection"
    QUESTION = "question"
    ANSWER = "answer"
    NOTE = "note"


class NoticeKind(StrEnum):
    """What people can be told of (``notify``)."""

    NEEDS_HUMAN = "needs_human"
    REVIEW = "review"
    """A commit waits for a person's approval."""
    MERGED = "merged"
    DONE = "done"
    FAILED = "failed"
    PLAN = "plan"
    """A plan is over."""
    DEGRADED = "degraded"
    QUOTA = "quota"
    BUDGET = "budget"
    DISK = "disk"
    PUBLISH = "publish"
    """Landed work cannot be published to the source."""


class Outcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    STALLED = "stalled"
    QUOTA = "quota"
    OVERFLOW = "overflow"
    DENIED = "denied"
    OVER_BUDGET = "over_budget"
    CANCELLED = "cancelled"
    LOST = "lost"


class Containment(StrEnum):
    """What holds a session's process tree together, strongest first (rules, session trees)."""

    PID_NAMESPACE = "pid_namespace"
    CGROUP = "cgroup"
    DESCENT = "descent"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more sessions; ``None`` is *unknown*, never zero."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None

    @property
    def tokens(self) -> int | None:
        """What budgets count: input and output together; what a cache gave is not counted."""
        return _sum(self.input_tokens, self.output_tokens)

    def plus(self, other: Usage) -> Usage:
        """The sum, field by field; unknown plus known is the known part."""
        return Usage(
            *(
                _sum(getattr(self, field.name), getattr(other, field.name))
                for field in fields(Usage)
            )
        )


def _sum(a: int | None, b: int | None) -> int | None:
    if a is None:
        return b
    return a if b is None else a + b


MAX_LABEL = 64
"""Characters of a label's value."""
STRICT_LABELS = frozenset({"vendor", "model", "runtime", "effort"})
"""Labels that a role must offer; any other is only minded by a role that names it."""

MAX_AGENT_NAME = 32
MAX_ROLE_NAME = 22
"""An agent's name is ``swarm-<role>-NNN`` and at most 32 characters (rules "Fleet commands")."""

OUTSIDER = "lane:"
"""Before the name of an agent that is neither of the fleet nor on its channel."""

_OUTSIDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}\Z")
_ROLE = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?\Z")
_AGENT_NAME = re.compile(r"swarm-(?P<role>[a-z0-9_-]+)-(?P<index>[0-9]{3,})\Z")
_COMPONENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_CHANNEL = re.compile(r"#[A-Za-z0-9_-]{1,31}\Z")
_AGENT_ID = re.compile(r"@?[0-9a-f]{16}\Z")


def is_role(text: str) -> bool:
    """Whether ``text`` may name a role: 1–22 of ``a-z 0-9 _ -``, no dash at either end."""
    return len(text) <= MAX_ROLE_NAME and bool(_ROLE.match(text))


def is_component(text: str) -> bool:
    """Whether ``text`` may name a component: 1–64 of letters, digits, ``. _ -``."""
    return bool(_COMPONENT.match(text))


def is_lane(text: str) -> bool:
    """Whether ``text`` may name a lane: like a role; the empty one is the default lane."""
    return not text or is_role(text)


def is_label(key: str, value: str) -> bool:
    """Whether a label may be so: a key like a role's name, a value of 1–64 printable characters."""
    return is_role(key) and 0 < len(value) <= MAX_LABEL and value.isprintable()


def is_channel(text: str) -> bool:
    """Whether ``text`` is an agentchat channel name."""
    return bool(_CHANNEL.match(text))


def is_agent_id(text: str) -> bool:
    """Whether ``text`` is an agentchat id: 16 hex digits, with or without the leading ``@``."""
    return bool(_AGENT_ID.match(text))


def bare_id(agent_id: str) -> str:
    """An agent id without its leading ``@``: the form used everywhere inside the program."""
    return agent_id.removeprefix("@")


def is_outsider_name(text: str) -> bool:
    """Whether ``text`` may name an agent outside the fleet: 1–32 of letters, digits, ``_ -``.

    Sixteen hex digits would look like an agent of the channel.
    """
    return bool(_OUTSIDER.match(text)) and not is_agent_id(text)


def outsider_id(who: str) -> str:
    """The agent id an outsider's leases have: no agentchat id looks like it."""
    return OUTSIDER + who


def is_outsider_id(agent_id: str) -> bool:
    """Whether a lease of this agent id is an outsider's."""
    return agent_id.startswith(OUTSIDER)


def agent_name(role: str, index: int) -> str:
    """``swarm-builder-003`` for ``("builder", 3)``; raises ``ValueError`` for a name too long."""
    name = f"swarm-{role}-{index:03d}"
    if not is_role(role) or index < 1 or len(name) > MAX_AGENT_NAME:
        raise ValueError(f"no agent can be called {name!r}")
    return name


def split_agent_name(name: str) -> tuple[str, int] | None:
    """The role and index of an agent's name, or ``None`` when it is not one."""
    match = _AGENT_NAME.match(name)
    if match is None or not is_role(match["role"]) or len(name) > MAX_AGENT_NAME:
        return None
    return match["role"], int(match["index"])


def task_branch(agent: str, task: str) -> str:
    """The branch of a task first attempted by ``agent`` (product "Promotion")."""
    return f"swarm/{agent}/{task}"

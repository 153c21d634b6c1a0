"""The lifeline: one socket pair between the supervisor and each child.

Its end-of-file means the other side is gone (architecture, "Processes"): a child kills its
session's tree and exits.  Newline-delimited JSON, one tagged struct a line; a peer of another
version is refused at :class:`Hello`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from swarm.core.model import (
    AgentState,
    Containment,
    Merge,
    NoticeKind,
    Outcome,
    Review,
    TaskKind,
    Usage,
)
from swarm.errors import BadMessage

VERSION = 2
"""Whoever works for a coordinator must be able to review, and to go on with what was sent back:
daemons of version 1 would leave that out and never say so."""


class _Line(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """One line of the lifeline; the class name is its ``type``."""


class RepoWork(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a task's commits start and end."""

    hub: str
    """Absolute path of the bare hub repository."""
    source: str | None
    """What the hub is fetched from; ``None`` for the swarm's own empty hub."""
    target: str
    """Branch of the source the work is meant for, e.g. ``main``."""
    branch: str
    """The task's branch, ``swarm/<first agent>/<task>``."""
    start: str
    """Commit id the branch starts from, or its own tip when an earlier attempt left one."""
    base: str
    """Commit id of the target the task's commits are counted from."""
    author_name: str = ""
    author_email: str = ""
    clone: str = "shared"
    """``shared`` borrows objects from the hub, ``copy`` is a full clone."""
    merge: str = ""
    """Commit of the target to merge into the branch before the session starts; a conflict is left
    in the work tree for the agent.  Empty: nothing is merged."""


class Work(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt at a task, as the daemon that runs it needs to know it."""

    task: str
    attempt: int
    """From 1; names the log ``logs/sessions/<task>.<attempt>.jsonl``."""
    prompt: str
    role: str
    component: str = ""
    title: str = ""
    repo: RepoWork | None = None
    resume_session: str | None = None
    """The CLI's own session id of an earlier attempt in the same workspace, when there is one."""
    earlier: tuple[str, ...] = ()
    """One line for each earlier attempt: what it tried and how it ended."""
    token_budget: int | None = None
    usd_budget: float | None = None
    kind: TaskKind = TaskKind.WORK
    feedback: str = ""
    """Why it came back, or a person's answer: for the prompt of this attempt."""
    folder: str = ""
    """The task's own directory: ``input/`` may be read by the session, what it leaves in its out
    directory is copied to ``results/``.  Empty: it has none."""
    thread: tuple[str, ...] = ()
    """What was asked and answered before in the task's thread, oldest first."""


class Finished(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an attempt ended, as the ledger wants to know it."""

    task: str
    fence: int
    outcome: Outcome
    reason: str = ""
    """One line for people: why it failed, or the question asked of them."""
    result: str = ""
    """What the session said last, capped by the daemon at 4,000 characters."""
    exit_status: int | None = None
    """Exit status of the CLI; negative is the signal that ended it."""
    session_id: str | None = None
    """The CLI's own id of it; empty when that is no session to go on with any more."""
    usage: Usage = Usage()
    cost_usd: float | None = None
    branch: str | None = None
    commit: str | None = None
    """Tip of the branch that is now in the hub; ``None`` when nothing was fetched."""
    commits: int = 0
    """Commits on the branch beyond its base."""
    retry_at: float | None = None
    """Unix seconds at which a quota ends, when the provider said."""
    needs_human: bool = False
    """A question was left in ``out/<task>/needs_human.md``; ``reason`` holds it."""
    swarm_budget: bool = False
    """Over budget: the whole swarm's, not the task's own.  The task waits for the next one."""
    start: str | None = None
    """Commit the branch had when this attempt began: with ``commit`` the attempt's own range."""
    review: str = ""
    """A review's or plan's answer as the session left it in ``out/<task>/`` (``review.json``,
    ``plan.yaml``), capped at 60,000 characters; empty when there is none."""
    unresolved: tuple[str, ...] = ()
    """``failed`` only for this: it says it succeeded, but left a conflict or its markers in these
    files (the first 50, 200 characters of each).  None of it is on the branch."""
    aside: str | None = None
    """The commit beside the branch that has what it made of them."""


# -- any child → supervisor ---------------------------------------------------------------------


class Hello(_Line, frozen=True):
    """First line of every child."""

    name: str
    pid: int
    version: int = VERSION


class Ready(_Line, frozen=True):
    """The child does its work: a daemon has joined its channel, a service serves."""

    agent_id: str = ""
    """Bare agentchat id of a daemon or the coordinator."""
    address: str = ""
    """What the chat service really listens on, ``ws://127.0.0.1:41234``."""


class Beat(_Line, frozen=True):
    """A heartbeat.  A gauge, never journalled."""

    seq: int
    task: str = ""
    fence: int = 0
    quiet: float = 0.0
    """Seconds since the session last printed something that is progress; 0 without one."""


class CannotStart(_Line, frozen=True):
    """One line that says why the child will exit before it is ready."""

    error: str


class Trouble(_Line, frozen=True):
    """Something a person should see beside the child in ``status``; empty text clears it."""

    text: str


# -- daemon → supervisor ------------------------------------------------------------------------


class ChatState(_Line, frozen=True):
    """The chat connection came, went, or failed ``attempts`` times in a row."""

    connected: bool
    attempts: int = 0
    reason: str = ""


class Promote(_Line, frozen=True):
    """The daemon holds an ``ASSIGN`` and asks to start its session."""

    task: str
    fence: int
    coordinator: str
    """Bare id of the coordinator that assigned it; a foreign one's work comes by chat."""


class Started(_Line, frozen=True):
    """The session's process runs: the attempt has begun."""

    task: str
    fence: int
    session_pid: int
    """The CLI's process as the supervisor sees it."""
    tree_pid: int
    """The root of the session's tree: the namespace's init, or the process group's leader."""
    tree_start: int
    """Start time of ``tree_pid`` in clock ticks since boot: field 22 of ``/proc/<pid>/stat``."""
    containment: Containment
    at: float
    """Unix seconds."""
    cgroup: str = ""
    """Absolute directory of the session's own cgroup; for v1 the memory controller's.  Empty:
    it has none, and its limits are kept by sampling."""


class Spent(_Line, frozen=True):
    """Usage so far of the running session; a running total, not a difference."""

    task: str
    fence: int
    usage: Usage
    cost_usd: float | None = None
    session_id: str | None = None
    """The CLI's own id of the session, so that a lost attempt can be resumed."""


class Ended(_Line, frozen=True):
    """The session is over, its tree is empty, its report lies in the outbox on disk."""

    finished: Finished


class Idle(_Line, frozen=True):
    """The daemon waits for work.  ``warm``: its clone exists, so a session starts at once."""

    warm: bool = False


class Probed(_Line, frozen=True):
    """The probe of a runtime's quota is over (product, "Quota")."""

    id: int
    outcome: Outcome
    """``succeeded``, ``quota``, or whatever else became of it."""
    reason: str = ""
    retry_at: float | None = None
    """Unix seconds at which the quota ends, when the provider said."""


# -- supervisor → daemon ------------------------------------------------------------------------


class Tuning(_Line, frozen=True):
    """What may change while a daemon lives; sent first and after every reload."""

    heartbeat_seconds: float
    coordinators: tuple[str, ...]
    """Bare ids whose ``ASSIGN`` and announcements are obeyed."""
    max_task_seconds: float = 0.0
    """Wall clock of a session; 0 is none."""
    grace_seconds: float = 10.0
    memory_mb: int | None = None
    """Of a session's whole tree, for the cgroup of the next one."""
    cpu_percent: int | None = None
    """100 is one core; likewise."""
    max_processes: int | None = None


class Prepare(_Line, frozen=True):
    """Make the clone now, so that the first session need not wait for it."""

    hub: str
    clone: str = "shared"


class Granted(_Line, frozen=True):
    """The session may start.  ``work`` is ``None`` for a foreign coordinator's task."""

    task: str
    fence: int
    work: Work | None = None


class Probe(_Line, frozen=True):
    """Run one small session without a task, to see whether the runtime's quota is back.

    Answered by :class:`Probed`; a daemon that is not idle answers at once, ``cancelled``.
    """

    id: int


class Denied(_Line, frozen=True):
    """The gate is closed: ``UNCLAIM`` with this reason."""

    task: str
    fence: int
    reason: str
    retry_after: float = 0.0


class EndSession(_Line, frozen=True):
    """End this session's whole tree; its attempt gets ``outcome``.

    ``over_budget`` means the swarm's budget: a daemon minds its task's own by itself.
    """

    task: str
    fence: int
    outcome: Outcome
    reason: str
    grace_seconds: float


class Leave(_Line, frozen=True):
    """Exit: at once when idle.  A session gets TERM and the grace, or with ``drain`` its time."""

    grace_seconds: float
    drain: bool = False


# -- coordinator → supervisor -------------------------------------------------------------------


class HubReady(_Line, frozen=True):
    """A hub exists and holds its source's target."""

    hub: str
    source: str | None
    clone: str = "shared"


class Assigned(_Line, frozen=True):
    """A lease was given; sent before the ``ASSIGN`` goes out, so that a promotion finds it."""

    agent: str
    fence: int
    work: Work


class Revoke(_Line, frozen=True):
    """The lease is over before its session ended: cancelled, reassigned or expired."""

    agent: str
    task: str
    fence: int
    outcome: Outcome
    reason: str


# -- janitor → supervisor ------------------------------------------------------------------------


class Tidied(_Line, frozen=True):
    """The janitor is done with one workspace."""

    workspace: str
    """Its path."""
    removed: bool
    """False when something in it could not be saved; then all of it is still there."""
    salvaged: tuple[str, ...] = ()
    """References of the hub that hold what would have been lost with it."""
    problem: str = ""
    """One line: why it was not removed."""


class Cleaned(_Line, frozen=True):
    """The cleaner is done."""

    freed_mb: int = 0
    saved: tuple[str, ...] = ()
    """References of hubs that hold what would have been lost."""
    problems: tuple[str, ...] = ()
    """What could not be removed, one line each."""


# -- supervisor → coordinator -------------------------------------------------------------------


class AgentFact(msgspec.Struct, frozen=True, omit_defaults=True):
    """One agent as the coordinator needs it."""

    name: str
    agent_id: str
    role: str
    state: AgentState
    since: float
    """Unix seconds since it has been in ``state``."""
    warm: bool = False
    task: str = ""
    fence: int = 0
    closed: str = ""
    """Why it may start nothing now though it is idle: its runtime's quota, its own budget.  It is
    offered no task then, and a task only such agents could take shows this as its reason."""
    spent_up: bool = False
    """Its own budget is spent: that may last, so its interrupted tasks do not wait for it."""


class Snapshot(_Line, frozen=True):
    """First line after the coordinator's ``Ready``: the whole fleet.

    Leases that no agent in it holds are requeued, the others armed again for a full term.
    """

    agents: tuple[AgentFact, ...]
    reports: tuple[Finished, ...] = ()
    """Reports found in durable outboxes of workspaces taken over from a killed predecessor."""


class AgentIs(_Line, frozen=True):
    """An agent changed."""

    agent: AgentFact


class AgentGone(_Line, frozen=True):
    """An agent left the fleet or its daemon died; it takes no work."""

    name: str


class Slots(_Line, frozen=True):
    """How many promotions the gate would allow now, and why no more."""

    free: int
    reason: str = ""


class Renew(_Line, frozen=True):
    """The holder beats: its lease starts a full term again."""

    task: str
    fence: int


class Begun(_Line, frozen=True):
    """The session of an assignment has started; relayed so that a chat outage cannot hide it."""

    agent: str
    started: Started


class Used(_Line, frozen=True):
    """Relay of :class:`Spent`."""

    spent: Spent


class Lost(_Line, frozen=True):
    """A holder died, its tree was seen empty, and its outbox holds no report of this attempt."""

    agent: str
    task: str
    fence: int
    reason: str
    counts: bool = True
    """Whether it counts towards poison (three): not when the whole swarm was stopped or killed."""


class Reported(_Line, frozen=True):
    """A report from a dead or live daemon's outbox, handed over past the chat."""

    agent: str
    finished: Finished


class Poke(_Line, frozen=True):
    """The ledger changed: look at it now."""


class RoleRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the coordinator minds of a role's limits; ``None`` is none."""

    task_token_budget: int | None = None
    task_usd_budget: float | None = None
    estimate_tokens: int | None = None
    """What a session that reports no usage is taken to have cost."""
    estimate_usd: float | None = None
    lanes: tuple[str, ...] = ()
    labels: dict[str, tuple[str, ...]] = {}
    """What it takes, what its runtime makes it offer (``vendor``, ``model``, ``runtime``)
    included."""
    review: Review | None = None
    retries: int = 0
    retry_seconds: float = 30.0
    network: tuple[int, ...] | None = None
    """TCP ports that what its sessions wrote may connect to when it is checked; ``None``: any."""
    memory_mb: int | None = None
    """What a check of what its sessions wrote may use, as they themselves."""
    max_processes: int | None = None
    cpu_percent: int | None = None


class LandingRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """``repo`` as far as it says how work lands."""

    merge: Merge = Merge.SQUASH
    checks: tuple[str, ...] = ()
    check_seconds: float = 600.0
    """All checks of one landing together; 0 is no limit."""
    publish: str = "swarm/{target}"
    """Empty: landed work is not published."""
    review: Review = Review.NONE
    max_revisions: int = 2
    cgroups: dict[str, str] = {}
    """Where checks get theirs, as ``DaemonSpec.cgroups`` has it."""


class NotifyRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of ``notify``; exactly one of ``command`` and ``webhook`` is there."""

    on: tuple[str, ...]
    command: tuple[str, ...] = ()
    webhook: str = ""
    timeout_seconds: float = 30.0


class InboxRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """``inbox``, its path made absolute; empty: there is none."""

    path: str = ""
    settle_seconds: float = 2.0
    role: str = "builder"
    component: str = ""
    priority: int = 0
    lane: str = ""
    review: Review | None = None


class Notice(_Line, frozen=True):
    """Something of the fleet that people may want to be told of (``notify``)."""

    kind: NoticeKind
    text: str
    agent: str = ""


class Rules(_Line, frozen=True):
    """Live settings of the coordinator, sent first and after every reload."""

    coordinators: tuple[str, ...]
    announcers: tuple[str, ...]
    roles: dict[str, RoleRules] = {}
    operator: str = ""
    """Bare id of the person's own identity: who approves, rejects and answers by chat."""
    landing: LandingRules = LandingRules()
    notify: tuple[NotifyRule, ...] = ()
    inbox: InboxRules = InboxRules()


ChildLine: TypeAlias = (
    Hello | Ready | Beat | CannotStart | Trouble
    | ChatState | Promote | Started | Spent | Ended | Idle | Probed
    | HubReady | Assigned | Revoke | Tidied | Cleaned
)  # fmt: skip
"""What a child says."""

ParentLine: TypeAlias = (
    Tuning | Prepare | Granted | Denied | Probe | EndSession | Leave
    | Snapshot | AgentIs | AgentGone | Slots | Renew | Begun | Used | Lost | Reported | Poke | Rules
    | Notice
)  # fmt: skip
"""What the supervisor says."""

_encoder = msgspec.json.Encoder()
_from_child: msgspec.json.Decoder[ChildLine] = msgspec.json.Decoder(ChildLine)
_from_parent: msgspec.json.Decoder[ParentLine] = msgspec.json.Decoder(ParentLine)


def encode(line: ChildLine | ParentLine) -> bytes:
    """One line with its newline."""
    return _encoder.encode(line) + b"\n"


def from_child(line: bytes) -> ChildLine:
    """Read what a child said.  Raises :class:`~swarm.errors.BadMessage`."""
    try:
        return _from_child.decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadMessage(f"not a lifeline message: {error}") from error


def from_parent(line: bytes) -> ParentLine:
    """Read what the supervisor said.  Raises :class:`~swarm.errors.BadMessage`."""
    try:
        return _from_parent.decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadMessage(f"not a lifeline message: {error}") from error

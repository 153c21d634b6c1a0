"""The rows of a ledger as values.  Times are Unix seconds; ``None`` is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from swarm.core.budget import NOTHING, Amount
from swarm.core.model import (
    Merge,
    OnFailed,
    Outcome,
    RemarkKind,
    Review,
    TaskKind,
    TaskResult,
    TaskState,
    Usage,
)

LOST_LIMIT = 3
"""Counted ``lost`` attempts that make a task ``failed``: poison (rules, "A dead daemon's task")."""

MAX_REASON = 4000
"""Characters kept of why something is as it is."""

QUOTA_DELAY = 300.0
"""Seconds a task waits after a quota whose end the provider did not say (product, "Quota")."""


ACCEPT, FOLLOW_UPS, NEEDS_REVISION = "accept", "accept-with-follow-ups", "needs-revision"
"""Verdicts of a review."""


TASK_ID = "{id}"
"""Ends the folder of a new task that is to be named by the task's id."""
OWN_SENDERS = frozenset({"inbox"})
"""Whose references are our own: a task of theirs was not announced by anybody."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """What a person or an announcer asks for.

    ``after`` are ids of tasks that must be done first.  ``sender`` and ``sender_ref`` are an
    announcer's bare agent id and its own id (or message id) for the task: the pair is taken in
    once.  ``repo`` is ``None`` for the configured source.  Without a ``title`` the prompt's first
    line is one.
    """

    prompt: str
    role: str = "builder"
    component: str = ""
    title: str = ""
    priority: int = 0
    repo: str | None = None
    after: tuple[str, ...] = ()
    sender: str = ""
    sender_ref: str = ""
    budget: Amount = NOTHING
    """What all attempts of this task together may spend; ``None``: what its role says."""
    kind: TaskKind = TaskKind.WORK
    lane: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    review: Review | None = None
    """``None``: what its role, or the repository, says."""
    merge: Merge | None = None
    on_failed: OnFailed = OnFailed.HOLD
    """What becomes of it when one of ``after`` ends otherwise than done."""
    thread: str = ""
    """Groups tasks; a task in a thread is told the earlier answers in it."""
    parent: str = ""
    """Id of the task it answers or follows."""
    folder: str = ""
    """Absolute path of its own directory, where it has one; :data:`TASK_ID` as its last part is
    the id it gets."""
    request_path: str = ""
    """The file its text was read from, and that file's SHA-256 then."""
    request_sha256: str = ""
    response_path: str = ""
    """Where its answer is to be written at its end."""
    about: str = ""
    """Of a review: the task it judges, and the commit."""
    about_commit: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One task without its prompt (which may be long: :meth:`Ledger.prompt`)."""

    seq: int
    """Grows with age: the smaller, the older."""
    id: str
    state: TaskState
    role: str
    component: str
    title: str
    titled: bool
    """Somebody gave that title; else it is the prompt's first line, and as private as that."""
    announced: bool
    """It was taken in from the channel, prompt and all."""
    priority: int
    repo: str | None
    reason: str
    """Why it is in its state, as last written; a waiting one's whole story is
    :meth:`Ledger.reason`."""
    result: TaskResult | None
    answer: str
    """What the last finished session said at its end."""
    branch: str | None
    commits: tuple[str, ...] | None
    """Commit ids on the branch beyond its base, oldest first; ``None`` is unknown."""
    blocked: int
    """Dependencies that are not done yet."""
    not_before: float | None
    """It waits until then."""
    fence: int
    """Of the last lease given; 0 before the first."""
    agent: str
    """Name of who got that lease, ``@<id>`` when it is not of our fleet; empty before the first."""
    agent_id: str
    held: bool
    """Whether that lease still lives.  A cancelled task may be held until its session is gone."""
    lost: int
    """Counted lost attempts since it was added or retried."""
    created_at: float
    updated_at: float
    ended_at: float | None
    budget: Amount = NOTHING
    """Its very own, where it was given one."""
    kind: TaskKind = TaskKind.WORK
    lane: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    review: Review | None = None
    merge: Merge | None = None
    on_failed: OnFailed = OnFailed.HOLD
    plan: int | None = None
    """Number of the plan it belongs to."""
    plan_key: str = ""
    """What that plan calls it."""
    paused: bool = False
    """Its plan is paused: it does not start."""
    thread: str = ""
    parent: int | None = None
    folder: str = ""
    request_path: str = ""
    request_sha256: str = ""
    response_path: str = ""
    response_sha256: str = ""
    tip: str | None = None
    """The branch's commit as its last good report had it: what is reviewed and lands."""
    approved: str | None = None
    """The commit that was approved, if any was."""
    landed: str | None = None
    """The commit of the target that holds it, or an earlier result of it."""
    in_doubt: str | None = None
    """The commit with which somebody took it out of ``landing``: whether that had landed by then
    is not known yet."""
    revisions: int = 0
    """How often it was sent back."""
    retries: int = 0
    """How often it was queued again by itself since it was added or retried."""
    go_on: bool = False
    """Its last session may be gone on with, however that ended: it was sent back, or answered."""
    about: int | None = None
    """Of a review: number of the task it judges."""
    about_commit: str | None = None
    queue: int = 0
    """Number of its queue: the tasks that need what it needs."""

    @property
    def has_landed(self) -> bool:
        """What it came to is on the target; without this ``landed`` is an earlier result's."""
        return self.landed is not None and self.result in {TaskResult.MERGED, TaskResult.NOOP}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One session that began; ``outcome`` is ``None`` while it runs."""

    task: str
    n: int
    fence: int
    agent: str
    agent_id: str
    outcome: Outcome | None
    reason: str
    exit_status: int | None
    session_id: str | None
    usage: Usage
    cost_usd: float | None
    started_at: float | None
    """``None`` when no start was heard of before the report."""
    ended_at: float | None
    estimate: Amount = NOTHING
    """What it is taken to have spent, where it does not say."""
    base: str | None = None
    """Commit the branch had when it began; with ``tip`` its own range of commits."""
    tip: str | None = None

    @property
    def known(self) -> Amount:
        """What it said that it used."""
        return Amount(self.usage.tokens, self.cost_usd)

    @property
    def counted(self) -> Amount:
        """What it counts for in budgets."""
        return self.known.or_else(self.estimate)

    @property
    def estimated(self) -> bool:
        """Whether that is an estimate, in part at least."""
        return not self.estimate.only_where_unknown(self.known).nothing


@dataclass(frozen=True, slots=True)
class Remark:
    """What was said about a task's work, by landing, checks, reviewers or people."""

    seq: int
    at: float
    kind: RemarkKind
    author: str
    """Agent or person; empty for the landing itself."""
    commit: str | None
    """The commit it is about."""
    verdict: str
    """Of a review or approval: ``accept``, ``accept-with-follow-ups``, ``needs-revision``."""
    counts: Mapping[str, int]
    """Of a review: how many comments are of which weight."""
    text: str
    fence: int
    """Of the attempt whose work it is about."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a review came to."""

    verdict: str
    counts: Mapping[str, int]
    text: str
    """Its comments, one a line."""

    @property
    def accepts(self) -> bool:
        """Whether the commit may land."""
        return self.verdict != NEEDS_REVISION


@dataclass(frozen=True, slots=True)
class Way:
    """What becomes of good work, as its task, its role or the repository says."""

    review: Review = Review.NONE
    merge: Merge = Merge.SQUASH
    max_revisions: int = 2
    """How often a task is sent back before a person is asked."""
    retries: int = 0
    """How often a failed attempt is followed by another by itself."""
    retry_seconds: float = 30.0
    """Until the first such; each next one waits twice as long."""


KEPT = Way(merge=Merge.NONE)
"""It stays a branch."""
UNDECIDED = Way()
"""For who does not know the rules: the coordinator looks again before anything lands."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lease just given, and what its holder needs to know of the task."""

    task: Task
    fence: int
    attempt: int
    """The number its attempt will have, once its session starts."""
    prompt: str
    resume_session: str | None
    """Session to go on with: this very identity's own last one, when it was interrupted."""
    earlier: tuple[str, ...]
    """One line for each earlier attempt."""
    spent: Amount = NOTHING
    """What its attempts so far count for, together."""
    feedback: str = ""
    """Why it came back, or a person's answer."""
    thread: tuple[str, ...] = ()
    """What was asked and answered before in its thread, oldest first."""


class Verdict(StrEnum):
    """What became of a report."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """It had been accepted before; nothing changed."""
    STALE = "stale"
    """Its fence is not the current one; nothing changed."""
    NOT_HOLDER = "not_holder"
    """Somebody else holds the task; nothing changed."""
    UNKNOWN = "unknown"
    """No such task: perhaps another coordinator's."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The answer to a report; ``state`` is the task's afterwards."""

    verdict: Verdict
    state: TaskState | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """A lease that lives, as the ledger has it."""

    task: str
    fence: int
    agent: str
    agent_id: str
    state: TaskState
    component: str
    begun: bool
    """Its session has started."""
    lease_seconds: float
    lease_until: float = 0.0
    """When its term ends by the wall clock: changes with each renewal."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Tasks that the same agents can take."""

    id: int
    role: str
    lane: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Event:
    """One change, for waiters and stories."""

    seq: int
    at: float
    task: str
    kind: str
    """``submitted claimed begun finished requeued unclaimed cancelled retried``, and among others
    ``released skipped revived edited`` and, of a plan's last task, ``plan``."""
    agent: str
    fence: int
    detail: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Usage over many attempts; what no attempt knew is ``None``."""

    usage: Usage
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Why nothing of ``scope`` starts, kept over a restart; ``until`` ``None`` is until resumed."""

    scope: str
    reason: str
    since: float
    until: float | None

"""What a daemon is at any moment, what can happen to it, and what it can want done.

Values only; :mod:`swarm.daemon.machine` decides.  One class a phase, holding exactly what is true
in it.  Times are seconds on a monotonic clock unless a field says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from swarm.core.model import Containment, Outcome, Usage
from swarm.daemon.outbox import Entry
from swarm.spawner.clone_merge import Merged
from swarm.wire.lifeline import (
    ChildLine,
    Finished,
    Leave,
    ParentLine,
    Prepare,
    RepoWork,
    Spent,
    Tuning,
    Work,
)
from swarm.wire.work import TaskRef, WorkMessage


@dataclass(frozen=True, slots=True)
class Me:
    """What never changes about a daemon."""

    name: str
    agent_id: str
    """Bare agentchat id."""
    role: str
    takes: tuple[str, ...] = ()
    """Other roles' tasks it takes too."""
    refuses: str = ""
    """Why it must not run a session at all (``sandbox: required`` on a kernel without one)."""


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt this daemon was allowed to run."""

    work: Work
    fence: int
    coordinator: str
    renew_seconds: float = 0.0
    """How often a foreign coordinator hears that its lease is alive; 0: ours, by the lifeline."""
    probe: bool = False
    """It is no task: one small session, in a folder of its own, that nobody is told of."""
    merged: Merged | None = None
    """The target was merged into its branch, which is checked out: ``work.repo.merge``."""

    @property
    def key(self) -> tuple[str, int]:
        """Task and fence."""
        return self.work.task, self.fence


@dataclass(frozen=True, slots=True)
class Held:
    """An announcement not claimed yet: its place in the spread comes at ``at``."""

    task: TaskRef
    coordinator: str
    at: float
    until: float
    """From here on it is forgotten."""


# -- phases --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Starting:
    """The chat is not joined yet, or an earlier life's session is still being secured."""

    recovering: bool


@dataclass(frozen=True, slots=True)
class Idle:
    """Waiting for work."""

    since: float


@dataclass(frozen=True, slots=True)
class Claiming:
    """A claim is out; forgotten at ``until``."""

    task: TaskRef
    until: float


@dataclass(frozen=True, slots=True)
class Promoting:
    """An ``ASSIGN`` is held and the supervisor was asked."""

    task: TaskRef
    fence: int
    coordinator: str
    until: float
    lease_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Preparing:
    """Allowed, but the clone is not there yet.  ``again``: it is made anew after a failed try."""

    job: Job
    again: bool


@dataclass(frozen=True, slots=True)
class Launching:
    """The session's tree is forked; its program has not been started yet."""

    job: Job
    again: bool


@dataclass(frozen=True, slots=True)
class Active:
    """The session runs."""

    job: Job
    since: float
    said_at: float
    """When the channel last heard of its progress."""
    heard_at: float = 0.0
    """When it last printed something that is progress."""
    spent_at: float | None = None
    """When the supervisor last heard of its usage."""
    renew_at: float | None = None
    """When a foreign coordinator is next told that its lease is alive."""
    unsaid: Spent | None = None
    """Usage it has not heard of, as it heard some just before."""
    stuck_at: float | None = None
    """When a CLI that waits for a quota, and says so, is ended; ``None`` while it gets on."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The tree was told to end and is killed at ``kill_at``, and again a second after that."""

    job: Job
    outcome: Outcome
    reason: str
    kill_at: float
    began: bool
    swarm_budget: bool = False
    """It is the swarm's budget that is spent, not the task's own."""


@dataclass(frozen=True, slots=True)
class Failing:
    """The program could not be started; what was forked for it is going.

    ``retry``: the clone is to blame, and is made anew.  ``ours``: this machine is to blame (no
    process, no disk), so the task is given back and no attempt is counted.
    """

    job: Job
    reason: str
    retry: bool
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Securing:
    """The tree is empty; its work is being brought into the hub."""

    job: Job
    swarm_budget: bool = False
    """As of :class:`Ending`."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The report is being written to disk; tried again at ``retry_at`` when the disk said no."""

    finished: Finished
    title: str
    retry_at: float | None = None
    troubled: bool = False
    """The supervisor was told that the disk said no."""


@dataclass(frozen=True, slots=True)
class Probing:
    """A small session tries whether the runtime's quota is back; see :mod:`swarm.daemon.probing`.

    At ``until`` it is ended, then killed.
    """

    job: Job
    until: float
    stuck_at: float | None = None
    """When it is ended because it only waits for its quota; as of :class:`Active`."""
    ending: Outcome | None = None
    """Why we ended it, once we did."""
    reason: str = ""
    failed: str = ""
    """Why its program was never started."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """Going: a moment for the coordinator to settle, then the chat is closed properly."""

    until: float
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing more is to be done but exit."""

    code: int


Phase: TypeAlias = (
    Starting | Idle | Claiming | Promoting | Preparing | Launching | Active
    | Ending | Failing | Securing | Recording | Probing | Leaving | Gone
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Daemon:
    """All of one daemon."""

    me: Me
    tuning: Tuning
    phase: Phase
    beat_at: float
    beats: int = 0
    joined: bool = False
    """The chat is connected and the channel joined, now."""
    greeted: bool = False
    """``Ready`` was said."""
    hub: str = ""
    """The hub that ``repo/`` is a clone of; empty when there is no clone."""
    cloning: str = ""
    """The hub that is being cloned now."""
    wanted: Prepare | None = None
    clone_at: float | None = None
    """When a failed clone nobody waits for is tried again."""
    clone_failed: bool = False
    """The supervisor was told of a failed clone, and of none made since."""
    leave: Leave | None = None
    fences: dict[str, int] = field(default_factory=dict)
    """Highest fence seen for a task; never changed in place."""
    unsettled: tuple[Entry, ...] = ()
    """Mirror of the outbox on disk."""
    resend_at: float | None = None
    resend_wait: float = 0.0
    held: tuple[Held, ...] = ()


# -- events: what happened -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


@dataclass(frozen=True, slots=True)
class ChatUp:
    """Signed in and joined."""


@dataclass(frozen=True, slots=True)
class ChatDown:
    """The connection was lost."""

    reason: str


@dataclass(frozen=True, slots=True)
class ChatFailing:
    """So many attempts to connect failed in a row."""

    attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class ChatRefuses:
    """The server refuses to let us speak, in words for people; empty when it does again."""

    reason: str


@dataclass(frozen=True, slots=True)
class ChatClosed:
    """The connection was closed as wanted."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A work message on the channel; ``sender`` is the bare id the server vouches for."""

    sender: str
    message: WorkMessage
    replay: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """A line from the supervisor."""

    line: ParentLine


@dataclass(frozen=True, slots=True)
class LifelineLost:
    """The supervisor is gone."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an earlier life's session left is in the hub, or cannot be got there."""

    trouble: str = ""


@dataclass(frozen=True, slots=True)
class CloneMade:
    """``repo/`` is a clone of ``hub``, with the commit that was asked for."""

    hub: str
    start: str = ""
    merged: Merged | None = None
    """What became of the merge that was asked for."""


@dataclass(frozen=True, slots=True)
class CloneFailed:
    """It could not be made; there may be none now."""

    hub: str
    error: str
    start: str = ""


@dataclass(frozen=True, slots=True)
class SessionBegan:
    """The CLI's program was started."""

    session_pid: int
    tree_pid: int
    tree_start: int
    containment: Containment
    at: float
    """Unix seconds."""
    cgroup: str = ""
    """Directory of its own cgroup; empty without one."""


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """The program could not be started.  The tree still ends by a :class:`SessionOver`."""

    reason: str
    unprepared: bool = False
    """It was the clone that failed, not the program."""
    ours: bool = False
    """It was this machine: no process or no room on the disk to be had."""


@dataclass(frozen=True, slots=True)
class SessionSpoke:
    """The session printed something; ``text`` is a line of it for people, or nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class SessionPrinted:
    """It printed something that nobody need hear of, and that is no trouble: it gets on."""


@dataclass(frozen=True, slots=True)
class SessionSpent:
    """Running totals of the session."""

    usage: Usage
    cost_usd: float | None
    session_id: str | None


@dataclass(frozen=True, slots=True)
class SessionStuck:
    """The session's stream says that a quota is used up."""


@dataclass(frozen=True, slots=True)
class SessionOverLimit:
    """The kernel says that the session's cgroup hit one of its limits; ``reason`` names it."""

    reason: str


@dataclass(frozen=True, slots=True)
class SessionOver:
    """The session's whole tree is gone."""


@dataclass(frozen=True, slots=True)
class Secured:
    """Its work is in the hub, as far as it can be, and its outcome is judged."""

    finished: Finished


@dataclass(frozen=True, slots=True)
class Recorded:
    """The entry is on disk."""

    key: tuple[str, int]


@dataclass(frozen=True, slots=True)
class RecordFailed:
    """The disk would not take it."""

    key: tuple[str, int]
    error: str


Event: TypeAlias = (
    Tick | ChatUp | ChatDown | ChatFailing | ChatRefuses | ChatClosed | Heard | Told | LifelineLost
    | Recovered | CloneMade | CloneFailed | SessionBegan | LaunchFailed | SessionSpoke
    | SessionPrinted | SessionSpent | SessionStuck | SessionOverLimit | SessionOver | Secured
    | Recorded | RecordFailed
)  # fmt: skip


# -- effects: what the shell must now do ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tell:
    """Say a line to the supervisor."""

    line: ChildLine


@dataclass(frozen=True, slots=True)
class Say:
    """Say a work message on the channel, as soon as its pace allows."""

    message: WorkMessage


@dataclass(frozen=True, slots=True)
class MakeClone:
    """Make ``repo/`` a clone of the hub; ``fresh``: even if it is one already.

    Ends as ``CloneMade`` or ``CloneFailed``.
    """

    hub: str
    clone: str
    fresh: bool = False
    start: str = ""
    """A commit that must be in it too; a clone that does not borrow from the hub may lack it."""
    merge: RepoWork | None = None
    """Then check this task's branch out in it, and merge the target into it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the session.  Ends as ``SessionBegan`` or ``LaunchFailed``, then ``SessionOver``."""

    job: Job


@dataclass(frozen=True, slots=True)
class Terminate:
    """TERM to the session's tree."""


@dataclass(frozen=True, slots=True)
class Kill:
    """KILL to the session's tree."""


@dataclass(frozen=True, slots=True)
class Secure:
    """Bring the work into the hub and judge the outcome.  Ends as ``Secured``."""

    job: Job
    ended_by: Outcome | None
    reason: str


@dataclass(frozen=True, slots=True)
class Record:
    """Write an entry to the outbox.  Ends as ``Recorded`` or ``RecordFailed``."""

    entry: Entry
    title: str = ""


@dataclass(frozen=True, slots=True)
class Settle:
    """Forget an entry of the outbox."""

    task: str
    fence: int


@dataclass(frozen=True, slots=True)
class SaveFences:
    """Write the highest fences seen to disk, before anything is done under them."""

    fences: dict[str, int]


@dataclass(frozen=True, slots=True)
class CloseChat:
    """Close the chat properly.  Ends as ``ChatClosed``."""


@dataclass(frozen=True, slots=True)
class Note:
    """One entry of the daemon's log."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Exit:
    """End the process."""

    code: int


Effect: TypeAlias = (
    Tell | Say | MakeClone | Launch | Terminate | Kill | Secure | Record | Settle
    | SaveFences | CloseChat | Note | Exit
)  # fmt: skip

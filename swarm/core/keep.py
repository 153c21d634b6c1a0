"""What may go, what stays, and why: of workspaces, branches, logs and task folders.

Three things never go, whatever their age: what belongs to a task that is not over, a workspace
that an agent may be using, and a commit that nothing else holds.  The first two are decided by
:func:`sort_out`; the third takes a second step, as only git can say what a branch holds that
nothing else does: :func:`endings` moves such branches to a salvage reference instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from swarm.core.model import OVER, TaskResult, TaskState

DAY = 86400.0
SALVAGE = "refs/agentctl/salvage/"
LANDED = "refs/agentctl/landed/"
"""Below it, by task, what has landed of it: for a landing that is asked for twice."""
HEADS = "refs/heads/"
TASKS = "swarm/"
"""Branches below it are tasks'; all others are somebody's own, and none of ours to remove."""
FRESH = 3600.0
"""Seconds in which a log may still be written to, though no task of ours is known for it."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long things stay, in seconds since they were last of use; ``None`` is for ever."""

    workspaces: float | None = None
    branches: float | None = None
    logs: float | None = None
    log_bytes: int | None = None
    """Of all sessions' logs together; ``None`` is no limit."""
    folders: float | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """A task, as far as its things are concerned."""

    id: str
    state: TaskState
    ended_at: float | None = None
    held: bool = False
    """Its lease lives: a cancelled one's session may still be ending."""
    needed: bool = False
    """A task that is not over waits for it, judges it, or follows it."""
    result: TaskResult | None = None
    tip: str | None = None
    """The branch's commit as it was reported, and landed."""
    landed: str | None = None
    """The commit of the target that holds it."""
    in_doubt: bool = False
    """Whether it has landed is still to be found out: by its landing's note."""

    @property
    def unfinished(self) -> str:
        """Why nothing of it may go; empty when all of it may."""
        if self.state not in OVER:
            return f"its task is {self.state}"
        if self.held:
            return "its task's session is still ending"
        if self.in_doubt:
            return "whether it has landed is known once a swarm has run"
        return "another task goes on from it" if self.needed else ""


@dataclass(frozen=True, slots=True)
class Place:
    """The workspace of one agent."""

    name: str
    path: str
    used_at: float
    """Unix time at which something of ours last wrote in it."""
    size: int | None = None
    """Bytes on the disk; ``None`` is not known."""
    holds: str = ""
    """What in it nobody has taken in yet, for people."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A task's branch in a hub."""

    hub: str
    name: str
    tip: str
    owner: Owner | None = None
    """``None``: this ledger knows no such task."""


@dataclass(frozen=True, slots=True)
class Log:
    """A file about one attempt (its stream, its prompt, its checks' output), or of one agent."""

    path: str
    size: int
    used_at: float
    owner: Owner | None = None
    agent: str = ""
    """Whose log it is; empty: it is about an attempt."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A task's own directory."""

    path: str
    size: int | None = None
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything there is, at Unix time ``now``."""

    now: float
    places: tuple[Place, ...] = ()
    branches: tuple[Branch, ...] = ()
    logs: tuple[Log, ...] = ()
    folders: tuple[Folder, ...] = ()
    agents: frozenset[str] | None = frozenset()
    """Names of the agents there are; ``None``: a swarm runs and does not say."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sorted(Generic[T]):
    """Things of one kind: those that go, and those that stay with the reason."""

    goes: tuple[T, ...] = ()
    stays: tuple[tuple[T, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to go and what stays, by kind."""

    places: Sorted[Place] = field(default_factory=Sorted)
    branches: Sorted[Branch] = field(default_factory=Sorted)
    logs: Sorted[Log] = field(default_factory=Sorted)
    folders: Sorted[Folder] = field(default_factory=Sorted)


def sort_out(facts: Facts, keep: Lifetimes) -> Plan:
    """Decide about everything.  A branch that goes has yet to pass :func:`endings`."""
    now = facts.now
    return Plan(
        _sorted((one, _place(one, facts, keep)) for one in facts.places),
        _sorted((one, _branch(one, now, keep.branches)) for one in facts.branches),
        _logs(facts, keep),
        _sorted((one, _folder(one, now, keep.folders)) for one in facts.folders),
    )


def _sorted(judged: Iterable[tuple[T, str]]) -> Sorted[T]:
    every = list(judged)
    return Sorted(
        tuple(one for one, why in every if not why), tuple((one, why) for one, why in every if why)
    )


def _place(one: Place, facts: Facts, keep: Lifetimes) -> str:
    """Why a workspace stays; empty when it goes."""
    if why := _has_agent(one.name, facts):
        return why
    return one.holds or _young(one.used_at, facts.now, keep.workspaces)


def _has_agent(name: str, facts: Facts) -> str:
    if facts.agents is None:
        return "the running swarm does not say whose it is"
    if name in facts.agents:
        return "its agent is in the fleet"
    return ""


def _branch(one: Branch, now: float, lifetime: float | None) -> str:
    if one.owner is None:
        return "no task of this ledger"
    return one.owner.unfinished or _young(one.owner.ended_at, now, lifetime)


def _folder(one: Folder, now: float, lifetime: float | None) -> str:
    if one.owner is None:
        return "no task of this ledger"
    return one.owner.unfinished or _young(one.owner.ended_at, now, lifetime)


def _logs(facts: Facts, keep: Lifetimes) -> Sorted[Log]:
    """By age, then the oldest until the rest is no larger than it may be."""
    reasons = {one.path: _log(one, facts, keep.logs) for one in facts.logs}
    if keep.log_bytes is not None:
        sessions = [one for one in facts.logs if not one.agent]
        left = sum(one.size for one in sessions if reasons[one.path])
        for one in sorted(sessions, key=lambda log: (log.used_at, log.path)):
            if left <= keep.log_bytes:
                break
            if reasons[one.path] and not _in_use(one, facts):
                left -= one.size
                reasons[one.path] = ""
    return _sorted((one, reasons[one.path]) for one in facts.logs)


def _log(one: Log, facts: Facts, lifetime: float | None) -> str:
    return _in_use(one, facts) or _young(one.used_at, facts.now, lifetime)


def _in_use(one: Log, facts: Facts) -> str:
    if one.agent:
        return _has_agent(one.agent, facts)
    if one.owner is not None:
        return one.owner.unfinished
    # Another coordinator's task: only silence says that it is over.
    return "it is being written" if facts.now - one.used_at < FRESH else ""


def _young(since: float | None, now: float, lifetime: float | None) -> str:
    if lifetime is None:
        return "it is kept for ever"
    if since is None:
        return "nobody knows since when it is of no use"
    if now - since >= lifetime:
        return ""
    days = max(0.0, now - since) / DAY
    return f"{days:.1f} days old, kept for {lifetime / DAY:g}"


# -- branches -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ending:
    """How a branch goes: deleted, or moved."""

    branch: Branch
    saved: str = ""
    """The reference that keeps its commits from now on; empty: they are all elsewhere."""
    notes: tuple[tuple[str, str], ...] = ()
    """References with their commits that only said what of it had landed: they go along."""


def endings(
    going: Iterable[Branch], loose: Collection[str], taken: Mapping[str, str]
) -> tuple[Ending, ...]:
    """What becomes of the branches of one hub that are to go, all of them at once.

    ``loose`` are those commits (of their tips, and of what landed) that no reference holds which
    stays: one that another of ``going`` holds counts as loose, as both go.  A landing's note keeps
    nothing, and goes with the branch.  ``taken`` are the
    references there are, by name, with their commits.
    """
    names = dict(taken)
    notes = _notes(taken, loose)
    found = []
    for one in going:
        saved = ""
        if one.tip in loose and not _has_landed(one, loose, taken):
            saved = _spare(one, names)
            names[saved] = one.tip
        task = one.owner.id if one.owner is not None else ""
        found.append(Ending(one, saved, tuple(notes.pop(task, ()))))
    return tuple(found)


def _notes(taken: Mapping[str, str], loose: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """By task what was noted of its landings, where a reference that stays holds that."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, commit in taken.items():
        if name.startswith(LANDED) and commit not in loose:
            task = name.removeprefix(LANDED).partition("/")[0]
            found.setdefault(task, []).append((name, commit))
    return found


def _has_landed(one: Branch, loose: Collection[str], taken: Mapping[str, str]) -> bool:
    """Whether the target holds the very commit the branch ends in, in its own form (squashed).

    The ledger says it of a task's last result, a landing's note also of one from before a retry.
    """
    task = one.owner
    if task is None:
        return False
    noted = taken.get(f"{LANDED}{task.id}/{one.tip}")
    if noted is not None and noted not in loose:
        return True
    return (
        task.result is TaskResult.MERGED
        and task.landed is not None
        and task.tip == one.tip
        and task.landed not in loose
    )


def _spare(one: Branch, names: Mapping[str, str]) -> str:
    """A reference for it; what was saved earlier under that name is never overwritten."""
    place = f"{SALVAGE}{one.name}"
    return place if names.get(place, one.tip) == one.tip else f"{place}.{one.tip[:12]}"

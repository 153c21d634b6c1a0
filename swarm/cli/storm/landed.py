"""What a storm may not do to the target: judged from its history and the ledger's; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from swarm.cli.storm.invariants import Violation
from swarm.cli.storm.work import SHARED, Piece
from swarm.core.model import OnFailed, Review, TaskResult, TaskState

ONCE, NOT, GROWS = "what is merged is there once", "what is not is not", "the target only grows"
CHECKED, PUBLISHED = "the target passes its check", "published is what landed"
PLANS = "plans end as they should"
TAKEN = "what the interface took is there once"


@dataclass(frozen=True, slots=True)
class Arrived:
    """One commit of the target that says it is a task's."""

    id: str
    at: float
    """Unix seconds."""
    paths: frozenset[str]
    """What it changes."""


@dataclass(frozen=True, slots=True)
class Target:
    """The hub's target after the last stop."""

    commits: Collection[str]
    """All that it holds."""
    arrived: Mapping[str, Sequence[Arrived]]
    """By task, those on its first-parent line."""
    files: Mapping[str, str | None]
    """Path → content at its tip, of the paths that were asked for."""
    lines: Collection[str]
    """Of :data:`SHARED` at its tip."""
    cleaned: bool = False
    """References to what has landed may be gone with their branches."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Commits on its first-parent line that the check refuses, and what it said."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One task as the ledger has it, as far as landing goes."""

    id: str
    piece: Piece
    state: TaskState
    result: str | None
    tip: str | None
    landed: str | None
    good: frozenset[str]
    """Tips of its attempts that succeeded."""
    approved: frozenset[str]
    """Commits that a reviewer or a person accepted."""
    notes: Mapping[str, str]
    """The hub's references: commit of the branch → what it landed as."""
    cancelled: bool = False
    """It was cancelled when its commit was not landing."""


def judge_landings(tasks: Iterable[Moved], target: Target) -> list[Violation]:
    """What is done/merged is on the target once, as it was approved; nothing else is."""
    found: list[Violation] = []
    known = set()
    for task in tasks:
        known.add(task.id)
        merged = task.state is TaskState.DONE and task.result == TaskResult.MERGED
        rule, judge = (ONCE, _merged) if merged else (NOT, _not_merged)
        name = f"{task.id} ({task.piece.sort})"
        found += [Violation(rule, f"{name}: {what}") for what in judge(task, target)]
    strangers = target.arrived.keys() - known
    found += [Violation(NOT, f"{one} has landed, and is nobody's task") for one in strangers]
    return found


def _merged(task: Moved, target: Target) -> list[str]:
    arrived = target.arrived.get(task.id, ())
    found = []
    if len(arrived) != 1:
        found.append(f"{len(arrived)} commits of the target are its: {[a.id for a in arrived]}")
    stands = {commit for commit, landed in task.notes.items() if landed in target.commits}
    if stands != {task.tip} and (stands or not target.cleaned):
        found.append(f"refs/agentctl/landed says that {sorted(stands)} landed, not {task.tip}")
    if task.landed is None or task.landed not in target.commits:
        found.append(f"the target does not hold {task.landed}, which it landed as")
    found += _allowed(task)
    found += [
        f"it changes {sorted(one.paths)}, not {sorted(_paths(task.piece))}"
        for one in arrived
        if one.paths != _paths(task.piece)
    ]
    for path, content in task.piece.files:
        held = target.files.get(path)
        if held is None or held.strip() != content:
            found.append(f"{path} on the target holds {held and held[:60]!r}")
    if task.piece.line and task.piece.line not in target.lines:
        found.append(f"{SHARED} on the target has not its line")
    return found


def _allowed(task: Moved) -> list[str]:
    """Only what succeeded, what was approved where that is asked for, and was not cancelled."""
    found = []
    if task.tip not in task.good:
        found.append(f"{task.tip} landed, and no attempt succeeded with it")
    if task.piece.review is not Review.NONE and task.tip not in task.approved:
        found.append(f"{task.tip} landed, and nobody approved it")
    if task.cancelled:
        found.append("it landed, and had been cancelled before it was to")
    return found


def _not_merged(task: Moved, target: Target) -> list[str]:
    arrived = target.arrived.get(task.id, ())
    found = [f"it is {task.state}/{task.result}, and {one.id} is on the target" for one in arrived]
    for path, _ in task.piece.files:
        if target.files.get(path) is not None:
            found.append(f"it is {task.state}/{task.result}, and {path} is on the target")
    return found


def _paths(piece: Piece) -> frozenset[str]:
    shared = {SHARED} if piece.line else set()
    return frozenset({path for path, _ in piece.files} | shared)


def judge_target(
    target: Target, tips: Sequence[str], published: Sequence[str], last: tuple[str | None, str]
) -> list[Violation]:
    """Whether what was seen at the source and on the target is on it in the end.

    ``tips`` and ``published`` were seen during the storm; ``last`` is what is published, and the
    target's tip, after the last stop.
    """
    found = [
        Violation(GROWS, f"{one} was the target's tip, and is not on it any more")
        for one in tips
        if one not in target.commits
    ]
    found += [Violation(CHECKED, f"{one}: {said}") for one, said in target.refused.items()]
    found += [
        Violation(PUBLISHED, f"{one} was published, and is not on the target")
        for one in published
        if one not in target.commits
    ]
    if target.arrived and last[0] != last[1]:
        found.append(Violation(PUBLISHED, f"{last[0]} is published in the end, not {last[1]}"))
    return found


def judge_followed(
    target: Target, persons: Iterable[tuple[str, float]], slack: float = 5.0
) -> list[Violation]:
    """A person's commits come to the target with the first landing after them, at the latest."""
    newest = max((one.at for ones in target.arrived.values() for one in ones), default=0.0)
    return [
        Violation(GROWS, f"the person's {one} is not on the target")
        for one, at in persons
        if one not in target.commits and newest > at + slack
    ]


@dataclass(frozen=True, slots=True)
class Step:
    """One task of a plan at its end; times are Unix seconds."""

    id: str
    key: str
    after: tuple[str, ...]
    on_failed: OnFailed
    state: TaskState
    began: float | None
    ended: float | None
    """For the first time: what was to wait for it need not wait for a retry."""


BADLY = frozenset({TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED})


def judge_plan(name: str, steps: Sequence[Step], over: bool) -> list[Violation]:
    """Nothing began before what it is after had ended well, or was to be run all the same."""
    by_key = {step.key: step for step in steps}
    found = []
    for step in steps:
        for needed in (by_key[key] for key in step.after):
            bad = needed.state in BADLY
            if step.began is not None and (needed.ended is None or needed.ended > step.began):
                found.append(f"{step.key} began before {needed.key} had ended")
            if bad and step.on_failed is OnFailed.SKIP and step.began is not None:
                found.append(f"{step.key} ran, though {needed.key} is {needed.state}")
        excused = any(by_key[key].state in BADLY for key in step.after)
        if step.state is TaskState.SKIPPED and not (excused and step.on_failed is OnFailed.SKIP):
            found.append(f"{step.key} was skipped, and nothing it is after has failed")
    waits = any(step.state is TaskState.NEEDS_HUMAN for step in steps)
    if over is waits:
        found.append(f"it is {'over' if over else 'not over'}: {[str(s.state) for s in steps]}")
    return [Violation(PLANS, f"{name}: {what}") for what in found]


def judge_taken(
    accepted: Mapping[str, str], unanswered: Collection[str], found: Mapping[str, Sequence[str]]
) -> list[Violation]:
    """What was answered is there once, as it was said; what was not, at most once.

    ``accepted``: by prompt, the id that was answered.  ``found``: by prompt, the ledger's tasks.
    """
    wrong = [
        f"{one} was taken in, and the ledger has {list(found.get(prompt, ()))}"
        for prompt, one in accepted.items()
        if list(found.get(prompt, ())) != [one]
    ]
    wrong += [
        f"{prompt.splitlines()[0]!r} was handed in once, and has become {found[prompt]}"
        for prompt in unanswered
        if len(found.get(prompt, ())) > 1
    ]
    return [Violation(TAKEN, what) for what in wrong]

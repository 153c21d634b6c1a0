"""What a storm may not do, judged from what was seen; pure.

A disturbance is allowed to harm: a killed session is a failed attempt, a killed daemon a lost one.
Each such harm is written down with whom and when; what no harm explains is a violation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from swarm.cli.storm.work import Piece
from swarm.core.model import Outcome, TaskState

POISON = 3
"""Counted lost attempts after which a task may fail (rules, "A dead daemon's task")."""
UNJUDGED = 2
"""Reviews without a verdict after which a person is asked."""
_SAME_MOMENT = 0.002
"""Seconds two clocks readings of one moment may be apart."""


@dataclass(frozen=True, slots=True)
class Harm:
    """What a disturbance may do to attempts of ``agent`` or ``task`` (empty: anybody's)."""

    cause: str
    since: float
    """Unix seconds."""
    until: float
    agent: str = ""
    task: str = ""
    outcomes: frozenset[Outcome] = frozenset()
    """How an attempt that overlaps may end because of it."""

    def explains(self, task: str, attempt: AttemptSeen) -> bool:
        """Whether it explains the end of that attempt.

        An end may be heard of late, and a start never: the coordinator was away.
        """
        return (
            attempt.outcome in self.outcomes
            and self.agent in ("", attempt.agent)
            and self.task in ("", task)
            and (attempt.ended is None or attempt.ended >= self.since)
            and (attempt.started is None or attempt.started <= self.until)
        )


@dataclass(frozen=True, slots=True)
class AttemptSeen:
    """One attempt as the ledger has it; times are Unix seconds."""

    n: int
    fence: int
    agent: str
    outcome: Outcome | None
    started: float | None
    ended: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """One task of the storm at its end."""

    id: str
    piece: Piece
    state: TaskState
    result: str | None
    reason: str
    lost: int
    branch: str | None
    cancelled: bool
    """Somebody cancelled it."""
    attempts: tuple[AttemptSeen, ...]
    files: Mapping[str, str | None]
    """Path → what its branch in the hub holds there, ``None`` for nothing."""
    sent_back: int = 0
    """How often it was asked for more: by the landing, a reviewer, or a person."""
    unjudged: int = 0
    """Reviews of it that ended without a verdict."""
    retried: int = 0
    """How often a person queued it again after its end."""
    dropped: bool = False
    """A review that nobody waits for any more."""
    broken: tuple[str, ...] = ()
    """Tasks that it was after and that ended badly, where it is to be skipped then."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One invariant that does not hold."""

    rule: str
    what: str
    at: float = 0.0
    """Seconds from the storm's beginning; 0 for what is judged at the end."""


def judge_tasks(tasks: Iterable[TaskSeen], harms: Sequence[Harm]) -> list[Violation]:
    """Every task ended exactly once, as it was to end or as a harm explains."""
    found: list[Violation] = []
    for task in tasks:
        for rule, judge in _TASK_RULES:
            found += [Violation(rule, f"{task.id} ({task.piece.sort}): {what}")
                      for what in judge(task, harms)]  # fmt: skip
    return found


def _ended_once(task: TaskSeen, _harms: Sequence[Harm]) -> list[str]:
    found = []
    if not task.state.ended:
        found.append(f"it has not ended: {task.state} {task.reason}".rstrip())
    running = [a.n for a in task.attempts if a.outcome is None]
    if running:
        found.append(f"attempts {running} still run")
    good = sum(a.outcome is Outcome.SUCCEEDED for a in task.attempts) - task.sent_back
    allowed = {int(task.state in (TaskState.DONE, TaskState.NEEDS_HUMAN))}
    if task.state is TaskState.NEEDS_HUMAN and task.sent_back:
        allowed.add(0)  # it was asked for more too often
    if TaskState.NEEDS_HUMAN in (task.state, task.piece.state) or task.sent_back:
        # A question counts, though the work could not be brought home.
        fewer = sum(a.outcome in _FAILURES for a in task.attempts)
        allowed |= {one - n for one in set(allowed) for n in range(fewer + 1)}
    if task.cancelled or task.dropped:
        allowed |= {0, 1}
        # It may have been cancelled when its work was done, each time.
        allowed |= {one + n for one in set(allowed) for n in range(1, task.retried + 1)}
    if task.state.ended and good not in allowed:
        asked = f", asked for more {task.sent_back} times" if task.sent_back else ""
        found.append(f"{good + task.sent_back} successful attempts{asked}, and it is {task.state}")
    return found


def _in_order(task: TaskSeen, _harms: Sequence[Harm]) -> list[str]:
    found = []
    numbers = [a.n for a in task.attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        found.append(f"its attempts are numbered {numbers}")
    fences = [a.fence for a in task.attempts]
    if sorted(set(fences)) != fences:
        found.append(f"its attempts have the fences {fences}")
    for one, two in itertools.pairwise(task.attempts):
        if one.ended is not None and two.started is not None:
            early = one.ended - two.started
            if early > _SAME_MOMENT:
                found.append(f"attempt {two.n} began {early:.3f} s before {one.n} had ended")
    return found


def _explained(task: TaskSeen, harms: Sequence[Harm]) -> list[str]:
    """Each attempt ended as it was to, or by a harm; so did the task."""
    found = []
    for attempt in task.attempts:
        if attempt.outcome in (None, task.piece.outcome) or _by_quota(task, attempt):
            continue
        if task.dropped and attempt.outcome is Outcome.CANCELLED:
            continue
        if not any(harm.explains(task.id, attempt) for harm in harms):
            found.append(
                f"attempt {attempt.n} on {attempt.agent} ended {attempt.outcome}, and nothing was "
                f"done to it: {attempt.reason}"
            )
    if task.state.ended and task.state not in _possible(task):
        found.append(f"it is {task.state}, not {task.piece.state}: {task.reason}")
    return found


def _by_quota(task: TaskSeen, attempt: AttemptSeen) -> bool:
    return attempt.outcome is Outcome.QUOTA and "quota" in task.piece.prompt


def _possible(task: TaskSeen) -> set[TaskState]:
    possible = {task.piece.state} if not task.attempts or _deciding(task) else set()
    if task.broken:
        possible = {TaskState.SKIPPED}
    if task.dropped or task.cancelled or any(
        a.outcome is Outcome.CANCELLED for a in task.attempts
    ):  # fmt: skip
        possible.add(TaskState.CANCELLED)
    if task.unjudged >= UNJUDGED:
        possible.add(TaskState.NEEDS_HUMAN)
    if any(a.outcome in _FAILURES for a in task.attempts) or task.lost >= POISON:
        possible |= {TaskState.FAILED, task.piece.state} - {TaskState.DONE}
    return possible


_FAILURES = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.STALLED})


def _deciding(task: TaskSeen) -> AttemptSeen | None:
    """The attempt that did what the task was to do, if one did."""
    return next((a for a in task.attempts if a.outcome is task.piece.outcome), None)


def _work_is_there(task: TaskSeen, harms: Sequence[Harm]) -> list[str]:
    attempt = _deciding(task)
    if attempt is None or task.state is not task.piece.state:
        return []
    if attempt.outcome is not Outcome.SUCCEEDED and any(
        harm.explains(task.id, attempt) for harm in harms
    ):
        return []  # it failed, but perhaps not where it was to fail
    found = []
    if task.state is TaskState.DONE and task.result != task.piece.result:
        found.append(f"its result is {task.result}, not {task.piece.result}")
    for path, content in task.piece.files:
        held = task.files.get(path)
        if held is None:
            found.append(f"{path} is not on its branch {task.branch}")
        elif held.strip() != content:
            found.append(f"{path} on its branch holds {held[:60]!r}")
    return found


_TASK_RULES: tuple[tuple[str, Callable[[TaskSeen, Sequence[Harm]], list[str]]], ...] = (
    ("ended once", _ended_once),
    ("attempts in order", _in_order),
    ("ended as expected", _explained),
    ("its work is in the hub", _work_is_there),
)
RULES = (
    *(rule for rule, _ in _TASK_RULES),
    "what is merged is there once",
    "what is not is not",
    "the target only grows",
    "the target passes its check",
    "published is what landed",
    "plans end as they should",
    "drops become one task each",
    "what the interface took is there once",
    "people are told",
    "leases are kept",
    "nothing announced is lost",
    "no process is left",
    "clean in two seconds",
    "the source is untouched",
    "the ledger is whole",
    "status is true",
    "one session a task",
    "supervision is bounded",
    "everybody comes back",
    "nothing lies about",
    "the journal is readable",
    "commands answer",
    "no traceback",
)
"""Every rule a :class:`Violation` may name."""


def judge_commits(
    announced: Mapping[str, Collection[str]], kept: Collection[str]
) -> list[Violation]:
    """``announced``: by task, the commits its sessions said they made; ``kept``: in the hub."""
    return [
        Violation("nothing announced is lost", f"{task}: commit {one} is nowhere in the hub")
        for task, ones in sorted(announced.items())
        for one in sorted(set(ones) - set(kept))
    ]


def judge_source(
    before: Mapping[str, str], after: Mapping[str, str], grows: str = "\0"
) -> list[Violation]:
    """Two fingerprints of the source repository; below ``grows`` there may be more now."""
    changed = sorted(
        path
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
        and not (path.startswith(grows) and path not in before)
    )
    return [Violation("the source is untouched", f"{path} changed") for path in changed]

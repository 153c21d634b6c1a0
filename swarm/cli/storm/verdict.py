"""The judgement at the end: all the evidence against all the invariants, in one report."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm import evidence, history
from swarm.cli.storm.hooks import told_program
from swarm.cli.storm.invariants import (
    TaskSeen,
    Violation,
    judge_commits,
    judge_source,
    judge_tasks,
)
from swarm.cli.storm.landed import (
    BADLY,
    TAKEN,
    Step,
    judge_followed,
    judge_landings,
    judge_plan,
    judge_target,
)
from swarm.cli.storm.notes import Notes, Options
from swarm.cli.storm.plan import Way
from swarm.cli.storm.report import Report, counted_attempts, counted_sorts, counted_tasks
from swarm.cli.storm.stage import OBJECTS, fingerprint
from swarm.cli.storm.telling import Ended, Told, judge_again, judge_told, told_again
from swarm.cli.storm.watch import Watch
from swarm.cli.storm.work import REVIEW_PIECE, Piece
from swarm.core.model import OnFailed, Review, TaskResult
from swarm.ledger import Ledger

_TELLS = ("coordinator", "fleet", "supervisor", "helper", "hook", str(Way.UPGRADE))
"""Who was disturbed may have been about to keep that a hook was told; there are two hooks."""
_TEARS = ("kill supervisor", "fill disk supervisor")
"""Disturbances that may each leave one line of the journal half written."""


def judge(
    stage: Stage,
    ledger: Ledger,
    options: Options,
    notes: Notes,
    watch: Watch,
    home_id: str,
    began: float,
) -> Report:
    """After the last stop.  ``began``: monotonic seconds.

    Raises :class:`~swarm.errors.SwarmError` when the evidence itself cannot be read.
    """
    hub = evidence.hub_of(stage.places)
    drops = history.find_dropped(stage, ledger, notes)
    taken = history.find_taken(ledger, notes)
    told = (*notes.told, *told_program(stage))
    reviews = _reviews(ledger, notes.pieces)
    steps = history.plan_steps(ledger, notes)
    every = {**notes.pieces, **dict.fromkeys(reviews, REVIEW_PIECE)}
    tasks = evidence.tasks_seen(
        stage, ledger, every, notes.cancelled, _broken(steps), cleaned=notes.cleaned
    )
    announced = _announced(stage, notes)
    lost = judge_commits(announced, evidence.commits_kept(hub, _landed_tips(ledger, notes)))
    violations = [
        *watch.violations,
        *judge_tasks(tasks, notes.harms),
        *_strangers(every, ledger),
        *drops,
        *taken,
        *_told(tasks, told, notes),
        *_landing(stage, ledger, notes, hub),
        *(one for name, found, over in steps for one in judge_plan(name, found, over)),
        *_answers(ledger, notes),
        *lost,
        *_left(stage, notes, home_id),
    ]
    return Report(
        seed=options.seed,
        seconds=options.seconds,
        took=time.monotonic() - began,
        agents=options.size.agents,
        repeat=options.command(),
        disturbed=dict(notes.disturbed),
        missed=dict(notes.missed),
        worst=dict(watch.worst),
        clean=tuple(notes.clean),
        tasks=counted_tasks(tasks),
        attempts=counted_attempts(tasks),
        sorts=counted_sorts(tasks),
        done=_done(notes, tasks, len(reviews), told),
        commits=sum(len(ones) for ones in announced.values()),
        lost=len(lost),
        statuses=watch.statuses,
        memory_mb=dict(watch.memory),
        open_files=dict(watch.open_files),
        violations=tuple(violations),
        home=str(stage.root) if violations else "",
    )


def _told(tasks: Collection[TaskSeen], told: Collection[Told], notes: Notes) -> list[Violation]:
    """What people were told of what they had asked for."""
    ended = (Ended(t.id, t.state, t.result) for t in tasks if t.piece is not REVIEW_PIECE)
    return [*judge_told(ended, told), *judge_again(told, _between(notes))]


def _left(stage: Stage, notes: Notes, home_id: str) -> list[Violation]:
    """The source, the files of the home, and what is left on the machine."""
    return [
        *judge_source(notes.source, fingerprint(stage.repository), OBJECTS),
        *evidence.check_ledger(stage.places),
        *evidence.check_journal(stage.places, sum(notes.disturbed[tear] for tear in _TEARS)),
        *evidence.check_leavings(stage, home_id),
        *evidence.check_tracebacks(stage.places),
    ]


def _announced(stage: Stage, notes: Notes) -> dict[str, frozenset[str]]:
    """The commits each session told of, by task: in its log, and what was noted of it earlier."""
    announced = dict(evidence.commits_announced(stage.places, notes.pieces))
    for one, ones in notes.announced.items():
        announced[one] = announced.get(one, frozenset()) | ones
    return announced


def _landed_tips(ledger: Ledger, notes: Notes) -> list[str]:
    """What has landed, branch by branch: it may have been cleaned away as such."""
    tasks = [task for one in notes.pieces if (task := ledger.task(one)) is not None]
    merged = TaskResult.MERGED
    return [task.tip for task in tasks if notes.cleaned and task.result is merged and task.tip]


def _landing(stage: Stage, ledger: Ledger, notes: Notes, hub: Path | None) -> list[Violation]:
    pieces = notes.pieces.values()
    target = history.target_of(stage, hub, pieces, cleaned=notes.cleaned)
    here, there = history.tips_now(stage, hub)
    return [
        *judge_landings(history.moved(ledger, notes.pieces, hub), target),
        *judge_target(target, notes.tips, notes.published, (there, here or "")),
        *judge_followed(target, notes.persons),
    ]


def _reviews(ledger: Ledger, pieces: Mapping[str, Piece]) -> list[str]:
    """The fleet's own tasks: reviews of the storm's."""
    return [
        review.id
        for one, piece in pieces.items()
        if piece.review is Review.AGENT
        for review in ledger.reviews(one)
    ]


def _broken(steps: Sequence[tuple[str, Sequence[Step], bool]]) -> dict[str, tuple[str, ...]]:
    """By task of a plan, what it is to be skipped for."""
    found = {}
    for _, plan, _ in steps:
        bad = {step.key: step.id for step in plan if step.state in BADLY}
        for step in plan:
            if step.on_failed is OnFailed.SKIP and (why := [k for k in step.after if k in bad]):
                found[step.id] = tuple(bad[key] for key in why)
    return found


def _between(notes: Notes) -> int:
    """How often a disturbance may have come between a hook's word and the ledger's."""
    done = notes.disturbed.items()
    return 2 * sum(count for label, count in done if any(one in label for one in _TELLS))


def _answers(ledger: Ledger, notes: Notes) -> list[Violation]:
    """What an outsider answered in time is the task's answer; what it answered late is nobody's.

    So is what a wait over HTTP ended with, unless a person wanted it once more.
    """
    found = [
        Violation("leases are kept", f"{task.id} has an answer that came late")
        for task in ledger.tasks(limit=1_000_000)
        if task.answer.strip() in notes.late
    ]
    for one, text in notes.answers.items():
        held = ledger.task(one)
        if held is None or held.answer.strip() != text:
            what = f"{one} was answered {text!r}, and its answer is {held and held.answer[:80]!r}"
            found.append(Violation("leases are kept", what))
    for one, ended in notes.waited.items():
        held = ledger.task(one)
        here = (held.state, held.result) if held is not None else None
        again = any(event.kind == "retried" for event in ledger.events(0, one))
        if here != ended and not again:
            found.append(Violation(TAKEN, f"a wait said that {one} is {ended}, and it is {here}"))
    return found


def _done(
    notes: Notes, tasks: Collection[TaskSeen], reviews: int, told: Collection[Told]
) -> dict[str, int]:
    """What else happened, for the report."""
    return {
        "drops in the inbox": len(notes.drops),
        "plans": len(notes.plans),
        "reviews": reviews,
        "retries": sum(task.retried for task in tasks),
        "notices": len(told),
        "notices not taken": sum(not one.taken for one in told),
        "notices told again": told_again(told),
        "times sent back": sum(task.sent_back for task in tasks),
        "commits by hand": len(notes.persons),
        "tips of the target": len(notes.tips),
        "tips published": len(notes.published),
        **dict(sorted(notes.done.items())),
    }


def _strangers(pieces: Collection[str], ledger: Ledger) -> list[Violation]:
    """Tasks that were submitted and are not in the ledger, or the other way round."""
    here = {task.id for task in ledger.tasks(limit=1_000_000)}
    return [
        *(Violation("ended once", f"{one} is not in the ledger") for one in set(pieces) - here),
        *(Violation("ended once", f"{one} is nobody's task") for one in here - set(pieces)),
    ]

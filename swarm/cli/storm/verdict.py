"""The judgement at the end: all the evidence against all the invariants, in one report."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm import evidence
from swarm.cli.storm.invariants import (
    TaskSeen,
    Violation,
    judge_commits,
    judge_source,
    judge_tasks,
)
from swarm.cli.storm.notes import Notes, Options
from swarm.cli.storm.report import Report, counted_attempts, counted_sorts, counted_tasks
from swarm.cli.storm.stage import fingerprint
from swarm.cli.storm.watch import Watch
from swarm.ledger import Ledger

_TEARS = ("kill supervisor", "fill disk supervisor")
"""Disturbances that may each leave one line of the journal half written."""


def judge(
    stage: Stage,
    ledger: Ledger,
    options: Options,
    notes: Notes,
    watch: Watch,
    home_id: str,
    source: Mapping[str, str],
    began: float,
) -> Report:
    """After the last stop.  ``source`` is the repository as it was, ``began`` monotonic seconds.

    Raises :class:`~swarm.errors.SwarmError` when the evidence itself cannot be read.
    """
    tasks = evidence.tasks_seen(stage, ledger, notes.pieces, notes.cancelled)
    announced = evidence.commits_announced(stage.places, notes.pieces)
    lost = judge_commits(announced, evidence.commits_kept(evidence.hub_of(stage.places)))
    violations = [
        *watch.violations,
        *judge_tasks(tasks, notes.harms),
        *_strangers(tasks, ledger, notes),
        *lost,
        *judge_source(source, fingerprint(stage.repository)),
        *evidence.check_ledger(stage.places),
        *evidence.check_journal(stage.places, sum(notes.disturbed[tear] for tear in _TEARS)),
        *evidence.check_leavings(stage, home_id),
        *evidence.check_tracebacks(stage.places),
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
        commits=sum(len(ones) for ones in announced.values()),
        lost=len(lost),
        statuses=watch.statuses,
        memory_mb=dict(watch.memory),
        open_files=dict(watch.open_files),
        violations=tuple(violations),
        home=str(stage.root) if violations else "",
    )


def _strangers(tasks: Collection[TaskSeen], ledger: Ledger, notes: Notes) -> list[Violation]:
    """Tasks that were submitted and are not in the ledger, or the other way round."""
    here = {task.id for task in ledger.tasks(limit=1_000_000)}
    missing = notes.pieces.keys() - {task.id for task in tasks}
    return [
        *(Violation("ended once", f"{one} is not in the ledger") for one in sorted(missing)),
        *(
            Violation("ended once", f"{one} is nobody's task")
            for one in sorted(here - notes.pieces.keys())
        ),
    ]

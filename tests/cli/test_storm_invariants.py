"""What a storm may not do is seen; what a harm explains is not complained of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from mutants import mutant

from swarm.cli.storm import invariants, watch
from swarm.cli.storm.invariants import (
    RULES,
    AttemptSeen,
    Harm,
    TaskSeen,
    judge_commits,
    judge_source,
    judge_tasks,
)
from swarm.cli.storm.processes import Process
from swarm.cli.storm.report import Report
from swarm.cli.storm.watch import BACK_SECONDS, LIE_SECONDS, Recovery, Watch
from swarm.cli.storm.work import REVIEW_PIECE, Piece, Sort, piece
from swarm.core.model import Outcome, TaskState


def of(sort: Sort) -> Piece:
    if sort is Sort.REVIEW:
        return REVIEW_PIECE
    return next(one for n in range(100) if (one := piece(1, n)).sort is sort)


def attempt(n: int, outcome: Outcome | None, began: float, ended: float | None) -> AttemptSeen:
    return AttemptSeen(n, n, "swarm-builder-001", outcome, began, ended)


def seen(sort: Sort = Sort.COMMIT, *attempts: AttemptSeen, **changes: Any) -> TaskSeen:
    """A task that ended as it was to."""
    one = of(sort)
    whole = TaskSeen(
        id="t-1",
        piece=one,
        state=one.state,
        result=one.result,
        reason="",
        lost=0,
        branch="swarm/swarm-builder-001/t-1",
        cancelled=False,
        attempts=attempts or (attempt(1, one.outcome, 10.0, 12.0),),
        files={path: f"{content}\n" for path, content in one.files},
    )
    return replace(whole, **changes)


LOSS = Harm(
    "kill daemon", 11.0, 11.5, agent="swarm-builder-001", outcomes=frozenset({Outcome.LOST})
)
BLOW = Harm("kill session", 11.0, 11.5, task="t-1", outcomes=frozenset({Outcome.FAILED}))


def rules(task: TaskSeen, *harms: Harm) -> list[str]:
    return [violation.rule for violation in judge_tasks([task], harms)]


@pytest.mark.parametrize("sort", list(Sort))
def test_a_task_that_went_well_is_no_violation(sort: Sort) -> None:
    assert rules(seen(sort)) == []


def test_a_loss_that_a_harm_explains_is_none() -> None:
    again = attempt(1, Outcome.LOST, 10.0, 11.2), attempt(2, Outcome.SUCCEEDED, 11.4, 13.0)
    assert rules(seen(Sort.COMMIT, *again, lost=1), LOSS) == []
    assert rules(seen(Sort.COMMIT, *again, lost=1)) == ["ended as expected"]
    late = replace(LOSS, since=20.0, until=20.5)
    assert rules(seen(Sort.COMMIT, *again, lost=1), late) == ["ended as expected"]
    others = replace(LOSS, agent="swarm-builder-002")
    assert rules(seen(Sort.COMMIT, *again, lost=1), others) == ["ended as expected"]


def test_a_killed_session_is_a_failed_task() -> None:
    failed = seen(
        Sort.COMMIT, attempt(1, Outcome.FAILED, 10.0, 11.2), state=TaskState.FAILED, result=None
    )
    assert rules(failed, BLOW) == []
    assert rules(failed) == ["ended as expected"]
    assert rules(failed, replace(BLOW, task="t-2")) == ["ended as expected"]


def test_each_time_a_task_was_sent_back_is_one_more_attempt() -> None:
    twice = attempt(1, Outcome.SUCCEEDED, 10.0, 11.0), attempt(2, Outcome.SUCCEEDED, 12.0, 13.0)
    assert rules(seen(Sort.LINE, *twice, sent_back=1)) == []
    assert rules(seen(Sort.LINE, *twice, sent_back=2)) == ["ended once"]
    asked = seen(Sort.LINE, *twice, sent_back=2, state=TaskState.NEEDS_HUMAN)
    assert "ended once" not in rules(asked)


def test_two_reviews_without_a_verdict_are_a_persons_to_decide() -> None:
    asked = seen(Sort.REVIEWED, state=TaskState.NEEDS_HUMAN, unjudged=2)
    assert rules(asked) == []
    assert rules(replace(asked, unjudged=1)) == ["ended as expected"]


def test_a_review_that_nobody_waits_for_is_dropped() -> None:
    over = attempt(1, Outcome.CANCELLED, 10.0, 11.0)
    gone = seen(Sort.REVIEW, over, state=TaskState.CANCELLED, result=None, dropped=True)
    assert rules(gone) == []
    assert rules(replace(gone, dropped=False)) == ["ended as expected"]


def test_what_is_after_a_failed_task_is_skipped_and_nothing_else() -> None:
    skipped = replace(seen(state=TaskState.SKIPPED, result=None), attempts=(), broken=("t-2",))
    assert rules(skipped) == []
    assert rules(replace(skipped, broken=())) == ["ended as expected"]
    assert rules(replace(seen(), broken=("t-2",))) == ["ended as expected"]


def test_a_task_that_was_cancelled_at_its_end_may_succeed_twice_when_it_is_retried() -> None:
    twice = attempt(1, Outcome.SUCCEEDED, 10.0, 11.0), attempt(2, Outcome.SUCCEEDED, 12.0, 13.0)
    assert rules(seen(Sort.COMMIT, *twice, cancelled=True, retried=1)) == []
    assert rules(seen(Sort.COMMIT, *twice, cancelled=True)) == ["ended once"]
    assert rules(seen(Sort.COMMIT, *twice, retried=1)) == ["ended once"], "it was done already"


def test_a_task_cancelled_in_the_queue() -> None:
    gone = seen(state=TaskState.CANCELLED, result=None, cancelled=True, files={})
    gone = replace(gone, attempts=())
    assert rules(gone) == []
    assert rules(replace(gone, cancelled=False)) == ["ended as expected"]


BROKEN: list[tuple[str, TaskSeen]] = [
    ("ended once", seen(state=TaskState.QUEUED)),
    ("ended once", seen(Sort.COMMIT, attempt(1, None, 10.0, None))),
    (
        "ended once",
        seen(
            Sort.COMMIT,
            attempt(1, Outcome.SUCCEEDED, 10.0, 11.0),
            attempt(2, Outcome.SUCCEEDED, 12.0, 13.0),
        ),
    ),
    ("ended once", seen(state=TaskState.FAILED)),
    ("attempts in order", seen(Sort.COMMIT, attempt(2, Outcome.SUCCEEDED, 10.0, 11.0))),
    (
        "attempts in order",
        seen(
            Sort.COMMIT,
            attempt(1, Outcome.LOST, 10.0, 11.2),
            attempt(2, Outcome.SUCCEEDED, 11.1, 12.0),
        ),
    ),
    ("its work is in the hub", seen(files={path: None for path, _ in of(Sort.COMMIT).files})),
    ("its work is in the hub", seen(files={path: "other" for path, _ in of(Sort.COMMIT).files})),
    ("its work is in the hub", seen(result="answer")),
    ("its work is in the hub", seen(Sort.FAILS, files={})),
    ("its work is in the hub", seen(Sort.HANGS, files={})),
]


@pytest.mark.parametrize(("rule", "task"), BROKEN)
def test_a_broken_outcome_is_seen(rule: str, task: TaskSeen) -> None:
    assert rule in rules(task, LOSS)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("elif held.strip() != content:", "elif False:", "its work is in the hub"),
        ("good not in allowed", "False", "ended once"),
        ("early > _SAME_MOMENT", "False", "attempts in order"),
    ],
)
def test_mutant_a_blind_judge_is_caught(old: str, new: str, rule: str) -> None:
    with mutant(invariants, old, new) as planted:
        blind = [
            task
            for wanted, task in BROKEN
            if wanted == rule
            and wanted not in {v.rule for v in planted.judge_tasks([task], [LOSS])}
        ]
    assert blind


def test_commits_and_the_source() -> None:
    assert judge_commits({"t-1": {"a", "b"}}, {"a", "b", "c"}) == []
    (lost,) = judge_commits({"t-1": {"a", "b"}}, {"a"})
    assert "commit b" in lost.what
    assert judge_source({"x": "1"}, {"x": "1"}) == []
    changed = judge_source({"x": "1", "y": "1"}, {"x": "2", "z": "1"})
    assert [violation.what for violation in changed] == ["x changed", "y changed", "z changed"]


# -- looking at a status ------------------------------------------------------------------------


def status(active: int = 0, limit: int = 2, **agent: Any) -> dict[str, Any]:
    one = {
        "name": "swarm-builder-001",
        "state": "idle",
        "pid": 100,
        "since": "2026-11-20T10:00:00.000Z",
        "last_heartbeat": "2026-11-20T10:00:05.000Z",
        **agent,
    }
    return {
        "swarm": {"active": active},
        "limits": {"max_active": limit},
        "agents": [one],
        "services": [{"name": "chat", "state": "running", "pid": 101, "since": one["since"]}],
    }


HEARD = 1795168805.0
"""Unix seconds of ``2026-11-20T10:00:05Z``."""


def alive(_pid: int) -> bool:
    return True


def dead(pid: int) -> bool:
    return pid != 100


def test_a_true_status_is_no_violation() -> None:
    watched = Watch(0.0)
    for second in range(10):
        watched.look(status(), alive, float(second))
    assert watched.violations == []
    assert watched.statuses == 10


def test_just_dead_is_no_lie_and_long_dead_is_one() -> None:
    watched = Watch(0.0)
    watched.look(status(), dead, 1.0)
    watched.look(status(), dead, 1.0 + LIE_SECONDS)
    assert watched.violations == []
    watched.look(status(), dead, 1.5 + LIE_SECONDS)
    assert [violation.rule for violation in watched.violations] == ["status is true"]
    watched.look(status(), dead, 2.0 + LIE_SECONDS)
    assert len(watched.violations) == 1, "told once"


@pytest.mark.parametrize(
    ("lie", "word"),
    [
        (status(state="dreaming"), "dreaming"),
        (status(pid=None), "no pid"),
        (status(active=3), "3 are active"),
        (status(state="degraded"), "degraded"),
    ],
)
def test_lies_of_a_status(lie: dict[str, Any], word: str) -> None:
    watched = Watch(0.0)
    watched.look(lie, alive, 1.0)
    assert word in watched.violations[0].what


def test_a_lowered_limit_lets_running_sessions_go_on() -> None:
    watched = Watch(0.0)
    watched.look(status(active=4, limit=4), alive, 1.0)
    watched.look(status(active=4, limit=2), alive, 5.0)
    assert watched.violations == []
    watched.look(status(active=4, limit=2), alive, 120.0)
    assert [violation.rule for violation in watched.violations] == ["status is true"]


@pytest.mark.parametrize(
    ("recovery", "well"),
    [
        (Recovery("kill daemon", "swarm-builder-001", 1.0, HEARD - 1, killed=99), True),
        (Recovery("kill daemon", "swarm-builder-001", 1.0, HEARD - 1, killed=100), False),
        (Recovery("stop daemon", "swarm-builder-001", 1.0, HEARD + 1), False),
        (Recovery("kill chat", "chat", 1.0, HEARD + 1, killed=7), True),
        (Recovery("kill daemon", "swarm-builder-009", 1.0, HEARD), True),
    ],
    ids=["a new process was heard", "still the old one", "not heard since", "a service", "gone"],
)
def test_who_is_well_again(recovery: Recovery, well: bool) -> None:
    watched = Watch(0.0)
    watched.expect(recovery)
    watched.look(status(), alive, 3.0)
    assert (not watched.waiting) is well
    watched.overdue(recovery.since + BACK_SECONDS + 1)
    assert (not watched.violations) is well
    if well and recovery.subject != "swarm-builder-009":
        assert watched.worst == {recovery.cause: 2.0}


def session(fence: int, pid: int) -> Process:
    return Process(pid, 1, 1, "python", f"0f:t-1:{fence}", "python scripted.py --task t-1")


def test_two_sessions_of_one_task_are_seen() -> None:
    watched = Watch(0.0)
    watched.sessions([session(1, 10), session(1, 11)], 1.0)
    assert watched.violations == []
    git = replace(session(2, 12), command="git fetch")
    watched.sessions([session(1, 10), git], 2.0)
    assert watched.violations == [], "an earlier attempt's work may still be brought home"
    watched.sessions([session(1, 10), session(2, 12)], 3.0)
    assert [violation.rule for violation in watched.violations] == ["one session a task"]


@pytest.mark.parametrize("measured", ["memory_mb", "descriptors"])
def test_growth_is_seen(monkeypatch: pytest.MonkeyPatch, measured: str) -> None:
    watched = Watch(0.0)
    usual: dict[str, Callable[[Process], float]] = {
        "memory_mb": lambda _: 40.0,
        "descriptors": lambda _: 20,
    }
    for name, value in {**usual, measured: lambda _: 1000.0}.items():
        monkeypatch.setattr(watch, name, value)
    watched.measure("supervisor", session(1, 1), 6, 1.0)
    assert [violation.rule for violation in watched.violations] == ["supervision is bounded"]


# -- the report ---------------------------------------------------------------------------------


def report(**changes: Any) -> Report:
    whole = Report(
        seed=7,
        seconds=60.0,
        took=80.0,
        agents=6,
        repeat="agentctl chaos --seed 7 --seconds 60 --agents 6",
        disturbed={"kill daemon": 3},
        missed={"kill keeper": 1},
        worst={"kill daemon": 0.5},
        clean=(0.04,),
        tasks={"done/branch": 5},
        attempts={"succeeded": 5, "lost": 1},
        sorts={"commit": 5},
        commits=5,
        lost=0,
        statuses=100,
        memory_mb={"supervisor": 44.0},
        open_files={"supervisor": 26},
    )
    return replace(whole, **changes)


def test_a_report_says_what_was_done_and_what_was_lost() -> None:
    text = "\n".join(report().lines())
    for word in ("kill daemon", "0.50 s", "kill keeper", "5 done/branch", "lost: nothing"):
        assert word in text
    assert report().to_json()["ok"] is True


def test_a_report_of_a_violation_says_how_to_see_it_again() -> None:
    violation = judge_tasks([BROKEN[0][1]], [])[0]
    told = report(violations=(violation,), home="/tmp/x")
    text = "\n".join(told.lines())
    assert violation.what in text
    assert "again: agentctl chaos --seed 7" in text
    assert "kept: /tmp/x" in text
    assert told.to_json()["violations"][0]["rule"] == violation.rule
    assert not told.held


def test_every_rule_has_one_name() -> None:
    assert len(set(RULES)) == len(RULES)
    assert all(rule in RULES for rule, _ in BROKEN)

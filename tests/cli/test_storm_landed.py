"""What must not become of the target is seen, and what is right is not complained of."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swarm.cli.demonstration.stage import Stage, clear
from swarm.cli.storm.history import _cancelled_before, target_of, tips_now
from swarm.cli.storm.invariants import RULES, judge_source
from swarm.cli.storm.landed import (
    CHECKED,
    GROWS,
    NOT,
    ONCE,
    PLANS,
    PUBLISHED,
    Arrived,
    Moved,
    Step,
    Target,
    judge_followed,
    judge_landings,
    judge_plan,
    judge_target,
)
from swarm.cli.storm.person import hold_target
from swarm.cli.storm.stage import (
    OBJECTS,
    TARGET,
    Size,
    fingerprint,
    persons_git,
    set_stage,
)
from swarm.cli.storm.work import FLAW, SETTLE, SHARED, Sort, piece
from swarm.core.model import OnFailed, TaskState
from swarm.ledger import Event

LINE = next(one for n in range(100) if (one := piece(1, n)).sort is Sort.LINE)
REVIEWED = next(one for n in range(100) if (one := piece(1, n)).sort is Sort.REVIEWED)
WORK, MERGED, FIRST = "a" * 40, "b" * 40, "0" * 40
((PATH, CONTENT),) = LINE.files
TASK = Moved(
    id="t-1",
    piece=LINE,
    state=TaskState.DONE,
    result="merged",
    tip=WORK,
    landed=MERGED,
    good=frozenset({WORK}),
    approved=frozenset(),
    notes={WORK: MERGED},
)
HISTORY = Target(
    commits={FIRST, MERGED},
    arrived={"t-1": [Arrived(MERGED, 10.0, frozenset({PATH, SHARED}))]},
    files={PATH: f"{CONTENT}\n"},
    lines={LINE.line, "the first line"},
)
NEVER = replace(TASK, state=TaskState.FAILED, result=None, landed=None, notes={})
EMPTY = Target({FIRST}, {}, {PATH: None}, set())


def rules(task: Moved, target: Target = HISTORY) -> list[str]:
    return [violation.rule for violation in judge_landings([task], target)]


def but(**changes: Any) -> Moved:
    return replace(TASK, **changes)


def test_what_landed_once_and_what_did_not_at_all_is_right() -> None:
    assert rules(TASK) == []
    assert rules(NEVER, EMPTY) == []
    twice = {"c" * 40: "d" * 40, WORK: MERGED}
    assert rules(but(notes=twice)) == [], "an earlier commit that was noted and never moved to"


TWICE = {"t-1": [*HISTORY.arrived["t-1"], Arrived(FIRST, 9.0, frozenset({PATH, SHARED}))]}
OTHERS = {"t-1": [Arrived(MERGED, 10.0, frozenset({PATH, SHARED, "another"}))]}


@pytest.mark.parametrize(
    ("task", "target"),
    [
        (TASK, EMPTY),
        (TASK, replace(HISTORY, arrived=TWICE)),
        (TASK, replace(HISTORY, arrived=OTHERS)),
        (TASK, replace(HISTORY, files={PATH: None})),
        (TASK, replace(HISTORY, lines={"the first line"})),
        (but(landed="e" * 40), HISTORY),
        (but(notes={}), HISTORY),
        (but(notes={WORK: MERGED, "c" * 40: FIRST}), HISTORY),
        (but(good=frozenset()), HISTORY),
        (but(cancelled=True), HISTORY),
        (but(piece=replace(LINE, review=REVIEWED.review)), HISTORY),
    ],
    ids=["gone", "twice", "more than its own", "without its file", "without its line", "elsewhere",
         "not noted", "noted twice", "failed", "cancelled", "not approved"],
)  # fmt: skip
def test_a_landing_that_must_not_be_is_seen(task: Moved, target: Target) -> None:
    assert set(rules(task, target)) == {ONCE}


def test_what_was_cancelled_may_land_when_it_was_retried() -> None:
    def cancelled(*kinds: str) -> bool:
        return _cancelled_before(
            [Event(n, n, "t-1", kind, "", 1, "") for n, kind in enumerate(kinds)]
        )

    assert cancelled("queued", "cancelled")
    assert cancelled("cancelled", "retried", "claimed", "cancelled")
    assert not cancelled("cancelled", "retried", "landing", "merged")
    assert not cancelled("landing", "cancelled"), "it had moved the target"


def test_an_approval_is_for_one_commit() -> None:
    reviewed = replace(LINE, review=REVIEWED.review)
    assert rules(but(piece=reviewed, approved=frozenset({WORK}))) == []
    assert rules(but(piece=reviewed, approved=frozenset({"c" * 40}))) == [ONCE]


def test_what_did_not_land_is_nowhere_on_the_target() -> None:
    assert set(rules(NEVER)) == {NOT}
    assert rules(NEVER, replace(EMPTY, files={PATH: "x"})) == [NOT]
    assert [one.rule for one in judge_landings([], HISTORY)] == [NOT], "nobody's"


def test_the_target_only_grows_and_is_checked_and_published() -> None:
    seen, last = (FIRST, MERGED), (MERGED, MERGED)
    assert judge_target(HISTORY, seen, seen, last) == []
    assert [v.rule for v in judge_target(HISTORY, ("f" * 40,), (), last)] == [GROWS]
    assert [v.rule for v in judge_target(HISTORY, (), ("f" * 40,), last)] == [PUBLISHED]
    assert [v.rule for v in judge_target(HISTORY, (), (), (FIRST, MERGED))] == [PUBLISHED]
    refused = replace(HISTORY, refused={MERGED: "twice"})
    assert [v.rule for v in judge_target(refused, (), (), last)] == [CHECKED]
    assert {GROWS, PUBLISHED, CHECKED, ONCE, NOT, PLANS} <= set(RULES)


def test_a_persons_commit_comes_with_the_next_landing() -> None:
    assert judge_followed(HISTORY, [(FIRST, 1.0)]) == []
    assert judge_followed(HISTORY, [("f" * 40, 9.0)]) == [], "nothing landed since"
    assert [v.rule for v in judge_followed(HISTORY, [("f" * 40, 1.0)])] == [GROWS]


def step(key: str, after: tuple[str, ...] = (), **more: Any) -> Step:
    whole = Step(f"t-{key}", key, after, OnFailed.SKIP, TaskState.DONE, 1.0, 2.0)
    return replace(whole, **more)


FAILED = step("a", state=TaskState.FAILED)
LATER = {"began": 3.0, "ended": 4.0}


def test_a_plan_that_ended_well() -> None:
    assert judge_plan("p", [step("a"), step("b", ("a",), **LATER)], over=True) == []
    gone = step("b", ("a",), state=TaskState.SKIPPED, began=None)
    assert judge_plan("p", [FAILED, gone], over=True) == []
    run = step("b", ("a",), on_failed=OnFailed.RUN, **LATER)
    assert judge_plan("p", [FAILED, run], over=True) == []
    assert judge_plan("p", [step("a", state=TaskState.NEEDS_HUMAN)], over=False) == []


@pytest.mark.parametrize(
    ("steps", "over"),
    [
        ([step("a"), step("b", ("a",), began=1.5)], True),
        ([FAILED, step("b", ("a",), **LATER)], True),
        ([step("a"), step("b", ("a",), state=TaskState.SKIPPED, began=None)], True),
        ([step("a")], False),
    ],
    ids=["too early", "after a failed one", "skipped for nothing", "not over"],
)
def test_a_plan_that_did_not_is_seen(steps: list[Step], over: bool) -> None:
    assert [violation.rule for violation in judge_plan("p", steps, over)] == [PLANS]


# -- over a real repository -----------------------------------------------------------------------


@pytest.fixture
def stage() -> Iterator[Stage]:
    found = set_stage(Size.of(3))
    yield found
    clear(found)


def hub_at(stage: Stage) -> Path:
    """A bare copy of the project, as the fleet's own would be."""
    hub = stage.places.hub / "project.git"
    persons_git(stage, "clone", "-q", "--bare", ".", str(hub))
    return hub


def commit(stage: Stage, name: str, text: str, message: str) -> str:
    (stage.repository / name).parent.mkdir(exist_ok=True)
    (stage.repository / name).write_text(text)
    persons_git(stage, "add", name)
    persons_git(stage, "commit", "-q", "-m", message, "--", name)
    return persons_git(stage, "rev-parse", "HEAD")


def test_the_target_is_read_commit_by_commit(stage: Stage) -> None:
    good = commit(stage, PATH, f"{CONTENT}\n", f"A title\n\nTask: t-1\n\nTask: t-1\nCommit: {WORK}")
    bad = commit(stage, "storm/other.txt", f"{FLAW}\n", "Another\n\nTask: t-2")
    hub = hub_at(stage)
    target = target_of(stage, hub, [LINE])
    assert {task: [(a.id, a.paths) for a in ones] for task, ones in target.arrived.items()} == {
        "t-1": [(good, frozenset({PATH}))],
        "t-2": [(bad, frozenset({"storm/other.txt"}))],
    }
    assert target.files[PATH] == f"{CONTENT}\n"
    assert set(target.refused) == {bad}
    assert len(target.commits) == 3
    assert tips_now(stage, hub) == (bad, None)


def test_the_settling_script_mends_what_a_merge_leaves(stage: Stage) -> None:
    shared = stage.repository / SHARED
    shared.write_text("one\n<<<<<<< ours\ntwo\n=======\nthree\n>>>>>>> theirs\n")
    for _ in range(2):
        subprocess.run(["sh", SETTLE, "line", "7"], cwd=stage.repository, check=True)
    assert shared.read_text() == "one\ntwo\nthree\nline 7\n"


def test_publishing_and_nothing_else_leaves_the_source_as_it_was(stage: Stage) -> None:
    before = fingerprint(stage.repository)
    hub = hub_at(stage)
    persons_git(stage, f"--git-dir={hub}", "push", "-q", str(stage.repository), "main:swarm/main")
    assert judge_source(before, fingerprint(stage.repository), OBJECTS) == []
    (stage.repository / "notes.txt").write_text("another's hand\n")
    wrong = judge_source(before, fingerprint(stage.repository), OBJECTS)
    assert [violation.what for violation in wrong] == ["notes.txt changed"]


@pytest.mark.parametrize(
    "act",
    [
        lambda lock: None,
        lambda lock: lock.unlink(),
        lambda lock: lock.write_text("another's\n"),
    ],
    ids=["held", "taken away", "taken over"],
)
def test_what_holds_the_target_is_let_go_of_and_nobody_elses(
    stage: Stage, act: Callable[[Path], object]
) -> None:
    hub = hub_at(stage)
    (hub / "refs" / "heads").mkdir(parents=True, exist_ok=True)
    lock = hub / "refs" / "heads" / f"{TARGET}.lock"
    release = hold_target(hub)
    assert release is not None
    assert lock.exists()
    assert hold_target(hub) is None
    act(lock)
    others = lock.exists() and lock.stat().st_size > 0
    release()
    assert lock.exists() == others


def test_a_fleet_is_scaled_role_by_role() -> None:
    """Where one number has cost a role its last agent, no number brings it back."""
    assert Size.of(6).scale() == ("swarm", "scale", "builder=4", "hasty=1", "auditor=1")
    assert Size.of(6).scale(-9)[2] == "builder=1"
    assert sum(Size.of(7).roles.values()) == 7


def test_what_was_cleaned_away_with_its_branch_is_not_missed() -> None:
    gone = but(notes={})
    assert rules(gone, replace(HISTORY, cleaned=True)) == []
    tried = but(notes={"c" * 40: "d" * 40})  # an earlier landing, that did not come to pass
    assert rules(tried, replace(HISTORY, cleaned=True)) == []
    other = but(notes={"c" * 40: MERGED})
    assert rules(other, replace(HISTORY, cleaned=True)) == [ONCE]

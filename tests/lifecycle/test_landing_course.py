"""Work lands by itself: merged, sent back, asked about, approved; with real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from swarm_support import Swarm
from tests_support import HELD, eventually

from swarm.core.model import Outcome, RemarkKind, TaskResult, TaskState
from swarm.ledger import open_ledger
from swarm.ledger.records import Remark


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    made = Swarm()
    made.configure(repo={"merge": "squash"})
    try:
        yield made
    finally:
        made.close()


def remarks(swarm: Swarm, task: str) -> list[Remark]:
    with open_ledger(swarm.places.ledger) as ledger:
        return ledger.remarks(task)


def on_target(swarm: Swarm, path: str) -> str:
    return swarm.git("show", f"main:{path}", cwd=swarm.hub())


def test_good_work_lands_and_is_published(swarm: Swarm) -> None:
    swarm.up()
    task = swarm.add("write a.txt a\ncommit one\nwrite b.txt b\ncommit two")
    (done,) = swarm.ended([task])
    assert (done.state, done.result) == (TaskState.DONE, TaskResult.MERGED)
    assert on_target(swarm, "a.txt") == "a"
    tip = swarm.git("rev-parse", "main", cwd=swarm.hub())
    assert done.landed == tip
    assert swarm.git("rev-parse", "swarm/main") == tip
    assert len(done.commits or ()) == 2
    assert swarm.git("log", "--format=%p", "-1", "swarm/main") == swarm.git(
        "rev-parse", "--short", "main"
    )
    assert swarm.git("status", "--porcelain") == ""


def test_a_conflict_goes_back_with_the_new_base_merged_in_and_then_lands(swarm: Swarm) -> None:
    swarm.up()
    slow = swarm.add(
        f"again run git status --short\nwrite README.md slow\nonce {HELD}\ncommit mine"
    )
    (holder,) = swarm.active(1)
    quick = swarm.add("write README.md quick\ncommit first")
    (first,) = swarm.ended([quick])
    assert first.result is TaskResult.MERGED
    (swarm.clone(holder) / "go").touch()
    (done,) = swarm.ended([slow])
    assert (done.state, done.result, done.revisions) == (TaskState.DONE, TaskResult.MERGED, 1)
    assert on_target(swarm, "README.md") == "slow"
    (said,) = remarks(swarm, slow)
    assert said.kind is RemarkKind.CONFLICT
    assert "README.md" in said.text
    # What it landed was made on top of what had landed meanwhile, not on its old base.
    assert first.landed is not None
    swarm.git("merge-base", "--is-ancestor", first.landed, str(done.tip), cwd=swarm.hub())
    first_try, second = swarm.attempts(slow)
    assert first_try.session_id == second.session_id, "it goes on in its own session"
    assert second.base == first_try.tip


def test_a_failing_check_goes_back_with_its_output_and_then_lands(swarm: Swarm) -> None:
    swarm.configure(
        repo={"merge": "squash", "checks": ["test -f good.txt || (echo no good; false)"]}
    )
    swarm.up()
    task = swarm.add("prompt told.txt\nwrite a.txt a\nagain write good.txt yes\ncommit work")
    (done,) = swarm.ended([task])
    assert (done.state, done.result, done.revisions) == (TaskState.DONE, TaskResult.MERGED, 1)
    (said,) = remarks(swarm, task)
    assert said.kind is RemarkKind.CHECK
    assert "no good" in said.text
    assert on_target(swarm, "good.txt") == "yes"
    told = (swarm.root / "agents" / done.agent / "out" / task / "told.txt").read_text()
    assert "no good" in told
    assert list((swarm.places.checks).glob(f"{task}.*.log"))


def test_after_its_revisions_a_person_is_asked_and_the_answer_lands_it(swarm: Swarm) -> None:
    swarm.configure(repo={"checks": ["test -f good.txt"], "max_revisions": 1, "merge": "squash"})
    swarm.up()
    task = swarm.add("write a.txt a\nrun grep -c orange told.txt || true\ncommit work")
    (asked,) = swarm.ended([task])
    assert asked.state is TaskState.NEEDS_HUMAN
    assert asked.reason.count("check:") == 2, "everything that was said so far"
    assert len(swarm.attempts(task)) == 2
    assert swarm.git("log", "--format=%s", "main", cwd=swarm.hub()) == "first"
    shown = swarm.must("task", "show", task)
    assert "check" in shown
    # The person mends the check, as it is a setting; the answer lets the task go on.
    swarm.configure(repo={"checks": ["true"], "merge": "squash"})
    swarm.must("swarm", "reload")
    swarm.must("task", "answer", task, "go on, the check was wrong")
    (done,) = swarm.ended([task])
    assert (done.state, done.result) == (TaskState.DONE, TaskResult.MERGED)
    assert [one.kind for one in remarks(swarm, task)][-1] is RemarkKind.ANSWER


def test_the_work_of_a_failed_session_is_never_merged(swarm: Swarm) -> None:
    swarm.up()
    task = swarm.add("write bad.txt bad\ncommit bad\nfail no luck")
    (failed,) = swarm.ended([task])
    assert (failed.state, failed.tip) == (TaskState.FAILED, None)
    good = swarm.add("write a.txt a\ncommit good")
    swarm.ended([good])
    assert swarm.git("ls-tree", "--name-only", "main", cwd=swarm.hub()).split() == [
        "README.md",
        "a.txt",
    ]
    refused = swarm.agentctl("task", "approve", task)
    assert refused.returncode == 2
    assert "failed" in refused.stderr


def test_what_waits_for_a_person_is_not_merged_until_that_commit_is_approved(
    swarm: Swarm,
) -> None:
    swarm.configure(repo={"merge": "squash", "review": "human"})
    swarm.up()
    task = swarm.add("write a.txt a\nagain write b.txt b\ncommit work")
    waits = eventually(
        lambda: found if (found := swarm.task(task)).state is TaskState.REVIEW else None, 20
    )
    assert waits is not None
    stale = str(waits.tip)
    other = swarm.add("write c.txt c\ncommit other", "builder", "--review", "none")
    swarm.ended([other])
    assert swarm.task(task).state is TaskState.REVIEW
    assert "a.txt" not in swarm.git("ls-tree", "--name-only", "main", cwd=swarm.hub())
    swarm.must("task", "reject", task, "b is missing")
    again = eventually(
        lambda: (
            found
            if (found := swarm.task(task)).state is TaskState.REVIEW and found.tip != stale
            else None
        ),
        20,
    )
    assert again is not None
    refused = swarm.agentctl("task", "approve", task, "--commit", stale)
    assert refused.returncode == 2
    assert stale[:12] not in str(again.tip)
    assert swarm.task(task).state is TaskState.REVIEW
    swarm.must("task", "approve", task, "--commit", str(again.tip)[:12], "well done")
    (done,) = swarm.ended([task])
    assert (done.result, done.approved) == (TaskResult.MERGED, again.tip)
    assert on_target(swarm, "b.txt") == "b"


def test_a_final_rejection_fails_the_task_and_keeps_its_branch(swarm: Swarm) -> None:
    swarm.configure(repo={"merge": "squash", "review": "human"})
    swarm.up()
    task = swarm.add("write a.txt a\ncommit work")
    eventually(lambda: swarm.task(task).state is TaskState.REVIEW, 20)
    swarm.must("task", "reject", task, "not wanted", "--final")
    ended = swarm.task(task)
    assert ended.state is TaskState.FAILED
    assert "not wanted" in ended.reason
    assert swarm.git("show", f"{ended.branch}:a.txt", cwd=swarm.hub()) == "a"
    assert "a.txt" not in swarm.git("ls-tree", "--name-only", "main", cwd=swarm.hub())


def test_a_killed_coordinator_lands_it_once(swarm: Swarm) -> None:
    swarm.configure(repo={"merge": "squash", "checks": ["sleep 1"]})  # to be killed at
    swarm.up()
    task = swarm.add("write a.txt a\ncommit work")
    eventually(lambda: swarm.task(task).state in {TaskState.LANDING, TaskState.DONE}, 20)
    (service,) = [s for s in swarm.status()["services"] if s["name"] == "coordinator"]
    os.kill(int(service["pid"]), signal.SIGKILL)
    (done,) = swarm.ended([task])
    assert done.state is TaskState.DONE
    assert done.result in {TaskResult.MERGED, TaskResult.NOOP}
    log = swarm.git("log", "--format=%s", "main", cwd=swarm.hub()).splitlines()
    assert len(log) == 2, log
    assert [a.outcome for a in swarm.attempts(task)] == [Outcome.SUCCEEDED]


def test_what_is_cancelled_after_its_target_moved_and_all_was_killed_is_merged(
    swarm: Swarm,
) -> None:
    """Killed while it publishes: the target has moved, the ledger has not heard of it."""
    hook = swarm.repository / ".git" / "hooks" / "pre-receive"
    going = swarm.root / "publishing"
    hook.write_text(f"#!/bin/sh\ntouch {going}\nwhile [ -e {going} ]; do sleep 0.02; done\n")
    hook.chmod(0o755)
    swarm.up()
    task = swarm.add("write a.txt a\ncommit work")
    eventually(going.exists, 20)
    os.kill(swarm.status()["swarm"]["pid"], signal.SIGKILL)
    hook.unlink()
    going.unlink()
    swarm.gone(within=5)
    assert swarm.task(task).state is TaskState.LANDING
    assert "had landed by now" in swarm.must("task", "cancel", task)
    assert swarm.task(task).state is TaskState.CANCELLED
    swarm.up()
    done = eventually(lambda: (found := swarm.task(task)).state is TaskState.DONE and found, 20)
    assert done
    assert (done.result, done.landed) == (
        TaskResult.MERGED,
        swarm.git("rev-parse", "main", cwd=swarm.hub()),
    )
    assert done.reason == "cancelled, but its commits had landed by then"
    eventually(lambda: swarm.git("branch", "--list", "swarm/main") != "", 20)
    assert swarm.git("rev-parse", "swarm/main") == done.landed


def test_cancelled_while_its_checks_run_it_does_not_land_and_holds_nobody_up(
    swarm: Swarm,
) -> None:
    swarm.configure(repo={"merge": "squash", "checks": ["test ! -f slow.txt || sleep 600"]})
    swarm.up()
    task = swarm.add("write slow.txt a\ncommit work")
    with open_ledger(swarm.places.ledger) as ledger:
        eventually(lambda: "landing" in [event.kind for event in ledger.events(task=task)], 20)
    eventually(lambda: any("sleep 600" in line for line in swarm.processes().values()), 20)
    swarm.must("task", "cancel", task)
    other = swarm.add("write b.txt b\ncommit other")
    (done,) = swarm.ended([other])
    assert done.result is TaskResult.MERGED
    assert swarm.task(task).state is TaskState.CANCELLED
    names = swarm.git("ls-tree", "--name-only", "main", cwd=swarm.hub()).split()
    assert names == ["README.md", "b.txt"]
    assert not any("sleep 600" in line for line in swarm.processes().values())

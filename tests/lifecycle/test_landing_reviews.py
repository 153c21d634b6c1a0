"""Agents review what agents made: whole swarms, with a scripted auditor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from swarm_support import Swarm
from tests_support import eventually

from swarm.core.model import RemarkKind, TaskKind, TaskResult, TaskState
from swarm.ledger import Task, open_ledger
from swarm.ledger.records import Remark

AUDITED = [{"role": "builder", "count": 1}, {"role": "auditor", "count": 1}]


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    made = Swarm()
    made.configure(agents=AUDITED, repo={"merge": "squash", "review": "agent"})
    try:
        yield made
    finally:
        made.close()


def reviews(swarm: Swarm, task: str) -> list[Task]:
    with open_ledger(swarm.places.ledger) as ledger:
        return ledger.reviews(task)


def remarks(swarm: Swarm, task: str) -> list[Remark]:
    with open_ledger(swarm.places.ledger) as ledger:
        return ledger.remarks(task)


def test_an_auditor_that_accepts_lets_that_commit_land(swarm: Swarm) -> None:
    swarm.up()
    task = swarm.add("write a.txt a\ncommit one\nreview accept")
    (done,) = swarm.ended([task])
    assert (done.state, done.result) == (TaskState.DONE, TaskResult.MERGED)
    assert done.approved == done.tip
    (review,) = reviews(swarm, task)
    assert (review.kind, review.role, review.priority) == (TaskKind.REVIEW, "auditor", 1)
    assert (review.state, review.result) == (TaskState.DONE, TaskResult.ANSWER)
    assert review.about_commit == done.tip
    assert review.landed is None
    (said,) = remarks(swarm, task)
    assert (said.kind, said.verdict, said.author) == (RemarkKind.REVIEW, "accept", review.agent)


def test_a_reviewers_comments_go_back_and_the_revision_is_reviewed_again(swarm: Swarm) -> None:
    swarm.up()
    task = swarm.add(
        "prompt told.txt\nwrite a.txt a\nagain write b.txt b\ncommit one\n"
        "review needs-revision unless b.txt"
    )
    (done,) = swarm.ended([task])
    assert (done.state, done.result, done.revisions) == (TaskState.DONE, TaskResult.MERGED, 1)
    first, second = reviews(swarm, task)
    assert first.about_commit != second.about_commit == done.tip
    assert [one.verdict for one in remarks(swarm, task)] == ["needs-revision", "accept"]
    assert remarks(swarm, task)[0].counts == {"blocking": 1, "important": 0, "minor": 0}
    told = (swarm.root / "agents" / done.agent / "out" / task / "told.txt").read_text()
    assert "b.txt:1: b.txt is missing" in told


def test_a_review_that_cannot_be_read_is_made_once_more_then_a_person_is_asked(
    swarm: Swarm,
) -> None:
    swarm.up()
    task = swarm.add("write a.txt a\ncommit one\nreview nonsense")
    (asked,) = swarm.ended([task])
    assert asked.state is TaskState.NEEDS_HUMAN
    assert [one.state for one in reviews(swarm, task)] == [TaskState.FAILED] * 2
    assert "no verdict" in asked.reason
    assert swarm.git("log", "--format=%s", "main", cwd=swarm.hub()) == "first"
    swarm.must("task", "approve", task)
    (done,) = swarm.ended([task])
    assert done.result is TaskResult.MERGED


def test_without_an_auditor_the_task_says_so_and_a_person_may_approve(swarm: Swarm) -> None:
    alone = [{"role": "builder", "count": 1}]
    swarm.configure(agents=alone, repo={"merge": "squash", "review": "agent"})
    swarm.up()
    task = swarm.add("write a.txt a\ncommit one")
    eventually(lambda: swarm.task(task).state is TaskState.REVIEW, 20)
    eventually(lambda: "scale auditor=1" in swarm.must("task", "show", task), 20)
    swarm.must("task", "approve", task)
    (done,) = swarm.ended([task])
    assert done.result is TaskResult.MERGED
    (review,) = reviews(swarm, task)
    assert review.state is TaskState.CANCELLED

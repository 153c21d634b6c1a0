"""What makes a task wait again after an attempt, who goes on with it, and what may be said."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from ledger_v2 import add_task, make_v2
from queue_values import ready

from swarm.core.model import Outcome, TaskState, Usage
from swarm.ledger import Ledger, NewTask, SqliteLedger
from swarm.ledger.schema import SCHEMA_VERSION
from swarm.wire.lifeline import Finished

AGENT, AGENT_ID, ANEW_ID = "swarm-builder-001", "a" * 16, "b" * 16


def attempt(ledger: Ledger, task: str, outcome: Outcome, **more: Any) -> None:
    """One attempt, from its claim to its report."""
    claimed = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    assert ledger.begin(task, claimed.fence, AGENT, 1.0)
    ledger.finish(Finished(task, claimed.fence, outcome, **more), AGENT)


def resumed(ledger: Ledger, task: str, agent: str, agent_id: str) -> str | None:
    claimed = ledger.claim(task, agent, agent_id, 90.0)
    assert claimed is not None
    return claimed.resume_session


# -- going on


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.QUOTA])
def test_an_agent_made_anew_under_the_same_name_does_not_resume(
    ledger: Ledger, clock: Any, outcome: Outcome
) -> None:
    """Its workspace, and with it the CLI's own record of the session, is another."""
    task = ledger.submit(NewTask("x"))
    attempt(ledger, task, outcome, session_id="s-1", retry_at=clock.now)
    assert resumed(ledger, task, AGENT, ANEW_ID) is None


def test_the_same_identity_resumes(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    attempt(ledger, task, Outcome.LOST, session_id="s-1")
    assert resumed(ledger, task, AGENT, AGENT_ID) == "s-1"


def test_a_lease_that_never_began_changes_nothing_about_it(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    attempt(ledger, task, Outcome.LOST, session_id="s-1")
    other = ledger.claim(task, AGENT, ANEW_ID, 90.0)
    assert other is not None
    ledger.unclaim(task, other.fence, "not now")
    assert resumed(ledger, task, AGENT, AGENT_ID) == "s-1"


# -- budgets


def test_a_task_waits_for_a_new_budget_of_the_swarm_and_fails_for_its_own(ledger: Ledger) -> None:
    own, swarms = ledger.submit(NewTask("x")), ledger.submit(NewTask("y"))
    attempt(ledger, own, Outcome.OVER_BUDGET, reason="9 tokens used of 8")
    reason = "the budget is spent: $2.00 of $2.00"
    attempt(ledger, swarms, Outcome.OVER_BUDGET, reason=reason, swarm_budget=True)
    first, second = ledger.task(own), ledger.task(swarms)
    assert first is not None
    assert second is not None
    assert (first.state, second.state) == (TaskState.FAILED, TaskState.QUEUED)
    assert second.lost == 0
    assert second.reason == reason
    ledger.note("gate", "the budget is spent: $2.10 of $2.00")
    assert ledger.reason(swarms) == "the budget is spent: $2.10 of $2.00"
    ledger.note("gate", "")
    assert ledger.reason(swarms) is None  # there is a new one: the old reason would be a lie
    assert [task.id for task in ready(ledger, ["builder"], 9)] == [swarms]


def test_a_question_left_is_asked_whatever_the_budget(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    attempt(ledger, task, Outcome.OVER_BUDGET, swarm_budget=True, needs_human=True, reason="why?")
    found = ledger.task(task)
    assert found is not None
    assert found.state is TaskState.NEEDS_HUMAN


# -- a quota that a person calls over


def test_what_waits_for_a_quota_can_be_let_go_and_nothing_else_is(
    ledger: Ledger, clock: Any
) -> None:
    quota, refused = ledger.submit(NewTask("x")), ledger.submit(NewTask("y"))
    attempt(ledger, quota, Outcome.QUOTA, retry_at=clock.now + 5000)
    claimed = ledger.claim(refused, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    ledger.unclaim(refused, claimed.fence, "not now", 400.0)
    assert ready(ledger, ["builder"], 9) == []
    assert ledger.end_quota_waits() == 1
    assert [task.id for task in ready(ledger, ["builder"], 9)] == [quota]
    assert ledger.next_delay() == clock.now + 400
    assert ledger.end_quota_waits() == 0


# -- titles


def test_a_title_somebody_gave_is_told_from_one_made_of_the_prompt(ledger: Ledger) -> None:
    given = ledger.task(ledger.submit(NewTask("secret", title="Harmless")))
    made = ledger.task(ledger.submit(NewTask("secret", title=" \n")))
    told = ledger.task(ledger.submit(NewTask("public", sender="c" * 16, sender_ref="j-1")))
    assert given is not None
    assert made is not None
    assert told is not None
    assert (given.title, given.titled, given.announced) == ("Harmless", True, False)
    assert (made.title, made.titled, made.announced) == ("secret", False, False)
    assert (told.titled, told.announced) == (False, True)


def test_a_ledger_of_the_first_version_is_brought_up_with_all_it_holds(tmp_path: Path) -> None:
    """Which of its titles were given is not known: none of them is said on the channel."""
    path, task = tmp_path / "ledger.db", "t-00000001"
    db = make_v2(path, version=1)
    add_task(db, task)
    db.close()
    with SqliteLedger(path) as ledger:
        found = ledger.task(task)
        assert found is not None
        assert (found.title, found.titled, ledger.prompt(task)) == ("Given", False, "do it")
        attempt(ledger, task, Outcome.SUCCEEDED, usage=Usage(1, 2))
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    db.close()

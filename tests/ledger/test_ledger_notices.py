"""Notices on their way, and what waits for a person, whatever the ledger is made of."""

from __future__ import annotations

from typing import Any

from swarm.core.model import Outcome, Review, TaskKind
from swarm.ledger import Ledger, NewTask
from swarm.ledger.notices import MAX_NOTICES
from swarm.ledger.notices_calls import NewNotice
from swarm.ledger.records import TASK_ID, Way
from swarm.wire.lifeline import Finished

ONE = NewNotice("hook", "failed", "t-1", "{}")


def test_a_notice_waits_until_it_is_told(ledger: Ledger, clock: Any) -> None:
    ledger.keep_notices([ONE], 7)
    assert ledger.notice_cursor() == 7
    (due,) = ledger.due_notices(10)
    assert (due.hook, due.kind, due.task, due.body, due.tries) == ("hook", "failed", "t-1", "{}", 0)
    ledger.notice_failed(due.seq, clock() + 5)
    assert ledger.due_notices(10) == []
    assert ledger.next_notice() == clock() + 5
    assert ledger.next_notice(["hook"]) is None
    clock.now += 5
    (due,) = ledger.due_notices(10)
    assert due.tries == 1
    assert ledger.due_notices(10, ["hook"]) == []
    ledger.notice_told(due.seq)
    assert ledger.next_notice() is None
    ledger.keep_notices([], None)
    assert ledger.notice_cursor() is None


def test_only_configured_hooks_keep_theirs_and_no_hook_fills_the_disk(ledger: Ledger) -> None:
    ledger.add_notices([ONE, NewNotice("other", "done", "", "{}")])
    assert ledger.forget_notices(["other"]) == 1
    assert [one.hook for one in ledger.due_notices(10)] == ["other"]
    assert ledger.add_notices([ONE] * MAX_NOTICES) == 1
    assert {one.hook for one in ledger.due_notices(10)} == {"hook"}


def test_events_of_some_kinds(ledger: Ledger) -> None:
    first, second = ledger.submit(NewTask("x")), ledger.submit(NewTask("y"))
    ledger.cancel(first)
    last = ledger.last_event()
    assert [one.task for one in ledger.events_of(["cancelled"], 0, last)] == [first]
    assert [one.task for one in ledger.events_of(["submitted"], 1, last)] == [second]
    assert ledger.events_of(["submitted"], last, last) == []


def test_a_review_waits_for_a_person_while_no_agent_has_it(ledger: Ledger, clock: Any) -> None:
    task = ledger.submit(NewTask("x"))
    claimed = ledger.claim(task, "swarm-builder-001", "a" * 16, 90)
    assert claimed is not None
    commit = "a" * 40
    finished = Finished(
        task=task, fence=claimed.fence, outcome=Outcome.SUCCEEDED, commits=1, commit=commit
    )
    clock.now += 1
    ledger.finish(finished, "swarm-builder-001", way=Way(review=Review.AGENT))
    found, count = ledger.attention(5)
    assert (count, found[0].task, found[0].kind, found[0].since) == (1, task, "review", clock())
    review = NewTask("Review", "auditor", kind=TaskKind.REVIEW, about=task, about_commit=commit)
    assert ledger.ask_review(review) is not None
    assert ledger.attention(5) == ([], 0)


def test_a_folder_is_named_by_the_task(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x", folder=f"/home/{TASK_ID}/tasks/{TASK_ID}"))
    found = ledger.task(task)
    assert found is not None
    assert found.folder == f"/home/{TASK_ID}/tasks/{task}"
    assert ledger.foldered(0) == []
    ledger.cancel(task)
    assert [one.id for one in ledger.foldered(0)] == [task]


def test_a_drop_is_nobodys_announcement(ledger: Ledger) -> None:
    new = NewTask("the secret plan", sender="inbox", sender_ref="1")
    task = ledger.submit(new)
    assert ledger.submit(new) == task
    found = ledger.task(task)
    assert found is not None
    assert not found.announced
    assert ledger.announced(["a" * 16], others=True) == 0

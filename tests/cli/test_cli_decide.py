"""``task approve``, ``reject`` and ``answer``, and how a task's way to its target is shown."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator

import pytest
from cli_fake import FakeSupervisor, Ran

from swarm.config.places import Places
from swarm.coordinator.results import answer
from swarm.core.model import Merge, Outcome, RemarkKind, Review, TaskState
from swarm.ledger import Ledger, NewTask, open_ledger
from swarm.ledger.records import Way
from swarm.wire import control
from swarm.wire.lifeline import Finished

Cli = Callable[..., Ran]
AGENT, ONE, MAIN = "swarm-builder-001", "1" * 40, "f" * 40


@pytest.fixture
def ledger(places: Places) -> Iterator[Ledger]:
    with open_ledger(places.ledger) as opened:
        yield opened


def works(ledger: Ledger, review: Review = Review.HUMAN, **more: object) -> str:
    task = ledger.submit(NewTask("words"))
    claimed = ledger.claim(task, AGENT, "a" * 16, 90.0)
    assert claimed is not None
    fields = {"outcome": Outcome.SUCCEEDED, "commit": ONE, "commits": 1, **more}
    finished = Finished(task=task, fence=claimed.fence, **fields)  # type: ignore[arg-type]
    ledger.finish(finished, AGENT, way=Way(review, max_revisions=1))
    return task


def state(ledger: Ledger, task: str) -> TaskState:
    found = ledger.task(task)
    assert found is not None
    return found.state


def test_approve_without_a_swarm_waits_for_one(cli: Cli, ledger: Ledger) -> None:
    task = works(ledger)
    ran = cli("task", "approve", task[2:7], "well", "done")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{task} is approved at {ONE[:12]}; it lands when a swarm runs\n"
    assert state(ledger, task) is TaskState.LANDING
    assert ledger.remarks(task)[0].text == "well done"


def test_a_running_swarm_is_told_at_once(
    cli: Cli, ledger: Ledger, supervisor: FakeSupervisor
) -> None:
    task = works(ledger)
    assert cli("task", "approve", task, "--commit", ONE[:7]).out.endswith(f"at {ONE[:12]}\n")
    other = works(ledger)
    assert cli("task", "reject", other, "the second test is gone").out == f"{other} goes back\n"
    assert supervisor.heard == [control.PokeLedger()] * 2
    assert state(ledger, other) is TaskState.QUEUED


def test_another_commit_is_refused_in_one_line(cli: Cli, ledger: Ledger) -> None:
    task = works(ledger)
    ran = cli("task", "approve", task, "--commit", "2" * 40)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert f"{task} is at {ONE[:12]} now" in ran.err
    assert f"agentctl task diff {task}" in ran.err
    assert state(ledger, task) is TaskState.REVIEW


def test_a_final_rejection_says_where_the_work_is(cli: Cli, ledger: Ledger) -> None:
    task = works(ledger)
    ran = cli("task", "reject", "--final", task, "not wanted")
    assert ran.out == f"{task} has failed; its branch swarm/{AGENT}/{task} is kept\n"
    assert "rejected: not wanted" in cli("task", "show", task).out


def test_an_answer_may_come_from_standard_input(
    cli: Cli, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = works(ledger, commits=0, commit=None, needs_human=True, reason="which colour?")
    data = io.TextIOWrapper(io.BytesIO(b"blue\nas before\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", data)
    ran = cli("task", "answer", task, "-")
    assert ran.out == f"{task} is answered; it goes on when a swarm runs\n"
    assert ledger.remarks(task)[-1].text == "blue\nas before"
    again = cli("task", "answer", task, "red")
    assert again.code == 2
    assert "asks nothing" in again.err


def test_only_what_waits_can_be_decided(cli: Cli, ledger: Ledger) -> None:
    task = ledger.submit(NewTask("words"))
    for words in (("approve", task), ("reject", task, "no"), ("answer", task, "yes")):
        ran = cli("task", *words)
        assert ran.code == 2
        assert f"{task} is queued" in ran.err
    assert cli("task", "approve", "nothere0").code == 2


def test_add_says_who_reviews_and_how_it_lands(cli: Cli, ledger: Ledger) -> None:
    assert cli("task", "add", "x", "--review", "human", "--merge", "rebase").code == 0
    (task,) = ledger.tasks()
    assert (task.review, task.merge) == (Review.HUMAN, Merge.REBASE)
    assert cli("task", "add", "x", "--review", "somebody").code == 2


def test_show_tells_the_whole_way(cli: Cli, ledger: Ledger) -> None:
    task = works(ledger, Review.NONE)
    ledger.sent_back(task, ONE, RemarkKind.CHECK, "red\x1b[2J\nmore", Way())
    lines = cli("task", "show", task).out.splitlines()
    assert f"commit    {ONE[:12]}" in lines
    assert "revised   1 time" in lines
    assert "check     red[2J more" in lines
    shown = json.loads(cli("task", "show", task, "--json").out)
    assert (shown["tip"], shown["approved"], shown["landed"]) == (ONE, None, None)
    assert (shown["kind"], shown["revisions"], shown["review"]) == ("work", 1, None)
    (remark,) = shown["remarks"]
    assert (remark["kind"], remark["commit"], remark["text"]) == ("check", ONE, "red[2J\nmore")
    listed = json.loads(cli("task", "list", "--json").out)["tasks"][0]
    assert listed["tip"] == ONE


def test_an_earlier_landing_of_a_task_that_is_tried_again_says_that_it_is_one(
    cli: Cli, ledger: Ledger
) -> None:
    task = works(ledger, Review.NONE)
    ledger.landed(task, ONE, MAIN)
    assert f"landed    {MAIN[:12]}" in cli("task", "show", task).out.splitlines()
    ledger.retry(task, fresh=True)
    again = f"landed    {MAIN[:12]}, an earlier result of it: it is tried again"
    assert again in cli("task", "show", task).out.splitlines()
    assert "has no branch yet" in cli("task", "diff", task).err, "it was not cleaned away"
    claimed = ledger.claim(task, AGENT, "a" * 16, 90.0)
    assert claimed is not None
    good = Finished(task, claimed.fence, Outcome.SUCCEEDED, commit="2" * 40, commits=1)
    ledger.finish(good, AGENT, way=Way(merge=Merge.NONE))
    found = ledger.find(task)
    assert (found.state, found.landed, found.has_landed) == (TaskState.DONE, MAIN, False)
    assert f"landed    {MAIN[:12]}, an earlier result of it" in cli("task", "show", task).out
    assert "it has landed" not in cli("task", "show", task).out
    assert f"- commit: {'2' * 40}" in answer(found)


def test_what_is_cancelled_while_it_lands_says_that_it_may_be_merged(
    cli: Cli, ledger: Ledger
) -> None:
    task = works(ledger, Review.NONE)
    said = f"{task} is cancelled; if {ONE[:12]} had landed by now, it is merged all the same\n"
    assert cli("task", "cancel", task).out == said
    doubt = f"in doubt  {ONE[:12]} was landing; a running swarm finds out whether it has"
    assert doubt in cli("task", "show", task).out.splitlines()
    assert json.loads(cli("task", "show", task, "--json").out)["in_doubt"] == ONE
    ledger.landed(task, ONE, MAIN)
    lines = cli("task", "show", task).out.splitlines()
    assert doubt not in lines
    assert "state     done (merged)" in lines
    assert "reason    cancelled, but its commits had landed by then" in lines


def test_what_people_said_is_told_with_who_said_it(cli: Cli, ledger: Ledger) -> None:
    task = works(ledger)
    ledger.reject(task, "person", "the name is wrong")
    assert "rejected  by person: the name is wrong" in cli("task", "show", task).out.splitlines()
    other = works(ledger)
    ledger.approve(other, None, "person")
    lines = cli("task", "show", other).out.splitlines()
    assert "approved  by person" in lines
    assert f"commit    {ONE[:12]}, approved" in lines


def test_a_task_that_asks_says_who_can_let_it_go_on(cli: Cli, ledger: Ledger) -> None:
    task = works(ledger, commits=0, commit=None, needs_human=True, reason="which colour?")
    assert f"next      a person's answer: agentctl task answer {task} TEXT" in (
        lines := cli("task", "show", task).out.splitlines()
    )
    assert f"asked     by {AGENT}: which colour?" in lines
    other = works(ledger, Review.NONE)
    ledger.needs_person(other, ONE, "cannot land: no such branch")
    assert f"task answer {other} TEXT, or approve, or reject" in cli("task", "show", other).out


def test_what_is_to_land_says_how_many_land_before_it(
    cli: Cli, ledger: Ledger, supervisor: FakeSupervisor
) -> None:
    first, second = works(ledger, Review.NONE), works(ledger, Review.NONE)
    listed = cli("task", "list", "--state", "landing").out
    assert "its turn to land" in listed
    assert "1 lands before it" in listed
    ledger.not_landed(first, ONE, "the disk is full")
    page = cli("swarm", "status").out
    assert f"lands   {first} (" in page
    assert "): the disk is full" in page
    told = json.loads(cli("swarm", "status", "--json").out)
    assert [one["task"] for one in told["landing"]] == [first, second]
    assert (told["landing"][0]["reason"], told["landing_total"]) == ("the disk is full", 2)
    more = [works(ledger, Review.NONE) for _ in range(3)]
    page = cli("swarm", "status").out
    assert "… 2 more: agentctl task list --state landing" in page
    assert f"lands   {more[0]}" in page
    assert f"lands   {more[1]}" not in page


@pytest.mark.parametrize("verb", ["reject", "answer"])
def test_an_empty_word_says_what_to_write(cli: Cli, ledger: Ledger, verb: str) -> None:
    ran = cli("task", verb, works(ledger), "  ")
    assert ran.code == 2
    assert "is empty; as in: agentctl task " + verb in ran.err
    assert ran.err.count("\n") == 1


def test_a_task_in_review_says_what_to_do(cli: Cli, ledger: Ledger) -> None:
    task = works(ledger)
    assert f"agentctl task approve {task}" in cli("task", "show", task).out
    ledger.approve(task, None, "person")
    ledger.landed(task, ONE, MAIN)
    out = cli("task", "show", task).out
    assert "state     done (merged)" in out
    assert f"landed    {MAIN[:12]}" in out

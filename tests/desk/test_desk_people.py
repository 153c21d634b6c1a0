"""What people decide, and how plans go, over HTTP and MCP."""

from __future__ import annotations

import pytest
from desk_ways import Refusal, way_of

from swarm.config.places import Places
from swarm.core.model import TaskState
from swarm.ledger import Ledger, NewPlan, NewTask, PlannedTask


@pytest.mark.parametrize("kind", ["http", "mcp"])
async def test_no_client_decides_for_a_person_unless_one_let_it(
    kind: str, places: Places, ledger: Ledger
) -> None:
    """An agent that may hand work in must not wave its own work through."""
    task = ledger.submit(NewTask("x"))
    async with way_of(kind, places) as way:
        for verb, fields in (
            ("approve_task", {"id": task, "commit": "a" * 40}),
            ("reject_task", {"id": task, "text": "x"}),
            ("answer_task", {"id": task, "text": "x"}),
            ("submit_task", {"prompt": "x", "review": "none"}),
            ("submit_task", {"prompt": "x", "review": "agent"}),
        ):
            with pytest.raises(Refusal, match=r"person's to say|no tool"):
                await way.call(verb, **fields)
        assert (await way.call("submit_task", prompt="x", review="human"))["id"]
    assert len(ledger.tasks()) == 2
    assert ledger.remarks(task) == []


@pytest.mark.parametrize("kind", ["http", "mcp"])
async def test_a_question_is_answered_and_the_record_says_by_which_way(
    kind: str, places: Places, ledger: Ledger
) -> None:
    task = ledger.submit(NewTask("x"))
    async with way_of(kind, places, decides=True) as way:
        await way.call("claim_task", name="ada")
        asked = {"outcome": "needs_human", "reason": "Which one?"}
        told = await way.call("respond_task", id=task, fence=1, name="ada", **asked)
        assert told["state"] == "needs_human"
        shown = await way.call("show_task", id=task)
        assert shown["where"]["next_step"] == f"a person's answer: agentctl task answer {task} TEXT"
        told = await way.call("answer_task", id=task, text="The second.")
        assert told["state"] == "queued"
        assert "The second." in (await way.call("claim_task", name="ada"))["lease"]["feedback"]
        for verb, fields in (
            ("approve_task", {"commit": "a" * 40}),
            ("reject_task", {"text": "x"}),
        ):
            with pytest.raises(Refusal, match="running"):
                await way.call(verb, id=task, **fields)
        with pytest.raises(Refusal, match="commit"):
            await way.call("approve_task", id=task)
        await way.call("cancel_task", id=task)
        told = await way.call("retry_task", id=task, fresh=True, note="Look again.")
        assert told["state"] == "queued"
    said = [(remark.author, remark.text) for remark in ledger.remarks(task)]
    assert ("http" if kind == "http" else "mcp tester", "The second.") in said


@pytest.mark.parametrize("kind", ["http", "mcp"])
async def test_plans_are_told(kind: str, places: Places, ledger: Ledger) -> None:
    tasks = (PlannedTask("a", NewTask("A")), PlannedTask("b", NewTask("B"), after=("a",)))
    plan = ledger.apply_plan(NewPlan(tasks, title="Both")).id
    async with way_of(kind, places) as way:
        (listed,) = (await way.call("list_plans"))["plans"]
        assert (listed["id"], listed["title"], listed["total"]) == (plan, "Both", 2)
        shown = await way.call("show_plan", id=plan)
        assert [(one["key"], one["state"]) for one in shown["tasks"]] == [
            ("a", TaskState.QUEUED),
            ("b", TaskState.QUEUED),
        ]
        with pytest.raises(Refusal, match="no plan"):
            await way.call("show_plan", id="p-nothing")


@pytest.mark.parametrize("kind", ["http", "mcp"])
async def test_the_status_names_what_waits_for_a_person(
    kind: str, places: Places, ledger: Ledger
) -> None:
    task = ledger.submit(NewTask("x"))
    async with way_of(kind, places) as way:
        assert (await way.call("fleet_status"))["attention"] == []
        await way.call("claim_task", name="ada")
        asked = {"outcome": "needs_human", "reason": "Which one?"}
        await way.call("respond_task", id=task, fence=1, name="ada", **asked)
        told = await way.call("fleet_status")
        (waits,) = told["attention"]
        assert (waits["task"], waits["kind"], waits["text"]) == (task, "needs_human", "Which one?")
        assert waits["command"] == f"agentctl task answer {task} TEXT"
        assert told["attention_total"] == 1

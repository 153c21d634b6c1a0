"""The lanes say the same by the command line, HTTP and MCP, without a running swarm."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from desk_ways import Refusal, way_of

from swarm.config.places import Places
from swarm.core.model import TaskState
from swarm.ledger import Ledger, NewTask


@pytest.fixture(params=["cli", "http", "mcp"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_task_is_claimed_answered_and_done(
    kind: str, places: Places, ledger: Ledger
) -> None:
    async with way_of(kind, places) as way:
        first = ledger.submit(NewTask("What is it?", role="auditor", thread="talk"))
        lease = (await way.call("claim_task", name="ada", roles=["auditor"]))["lease"]
        assert (lease["id"], lease["fence"], lease["name"]) == (first, 1, "ada")
        assert (lease["prompt"], lease["role"], lease["attempt"]) == ("What is it?", "auditor", 1)
        assert lease["until"] > "2"
        held = ledger.task(first)
        assert held is not None
        assert (held.state, held.agent) == (TaskState.RUNNING, "@ada")
        told = await way.call("respond_task", id=first, fence=1, name="ada", text="A cache.")
        assert (told["version"], told["state"], told["result"]) == (1, "done", "answer")
        done = ledger.task(first)
        assert done is not None
        assert done.answer == "A cache."
        ledger.submit(NewTask("Why is it slow?", thread="talk"))
        lease = (await way.call("claim_task", name="bob"))["lease"]
        assert "A cache." in lease["thread"][0], "a thread hands earlier answers on"


async def test_a_stale_lease_s_answer_is_refused_in_one_line(
    kind: str, places: Places, ledger: Ledger
) -> None:
    async with way_of(kind, places) as way:
        task = ledger.submit(NewTask("x"))
        await way.call("claim_task", name="ada")
        await way.call("release_task", id=task, fence=1, name="ada", reason="no time")
        again = (await way.call("claim_task", name="bob"))["lease"]
        assert again["fence"] == 2
        assert "no time" in "".join(again["earlier"])
        for who, fence in (("ada", 1), ("ada", 2), ("bob", 1)):
            with pytest.raises(Refusal, match="nothing was changed"):
                await way.call("respond_task", id=task, fence=fence, name=who, text="too late")
            with pytest.raises(Refusal, match="nothing was changed"):
                await way.call("renew_lease", id=task, fence=fence, name=who)
        assert (await way.call("renew_lease", id=task, fence=2, name="bob"))["until"]
        found = ledger.task(task)
        assert found is not None
        assert (found.state, found.answer) == (TaskState.RUNNING, "")


async def test_only_what_somebody_takes_is_his(kind: str, places: Places, ledger: Ledger) -> None:
    async with way_of(kind, places) as way:
        task = ledger.submit(NewTask("x", lane="reviews", labels={"vendor": "openai"}))
        assert (await way.call("claim_task", name="ada"))["lease"] is None
        assert (await way.call("claim_task", name="ada", lane="reviews"))["lease"] is None
        found = await way.call("await_task", lane="reviews", labels={"vendor": "openai"}, seconds=5)
        assert found["id"] == task
        lease = await way.call(
            "claim_task", name="ada", lane="reviews", labels={"vendor": "openai"}
        )
        assert (lease["lease"]["lane"], lease["lease"]["labels"]) == (
            "reviews",
            {"vendor": "openai"},
        )


async def test_this_very_task_with_its_pinned_request(
    kind: str, places: Places, ledger: Ledger, tmp_path: Path
) -> None:
    async with way_of(kind, places) as way:
        file = tmp_path / "request.md"
        file.write_text("Do it.\n")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        asked = NewTask("Do it.\n", lane="l", request_path=str(file), request_sha256=digest)
        task = ledger.submit(asked)
        lease = (await way.call("claim_task", name="ada", id=task, lease_seconds=60))["lease"]
        assert lease["request"] == {"path": str(file), "sha256": digest}
        other = ledger.submit(asked)
        file.write_text("Do something else.\n")
        with pytest.raises(Refusal, match="request"):
            await way.call("claim_task", name="ada", id=other)


@pytest.mark.parametrize(
    ("verb", "fields", "said"),
    [
        ("claim_task", {"name": "a b"}, "name"),
        ("claim_task", {"name": "0123456789abcdef"}, "name"),
        ("claim_task", {"name": "ada", "lane": "A lane!"}, "lane"),
        ("claim_task", {"name": "ada", "lease_seconds": 0}, "lease"),
        ("claim_task", {"name": "ada", "id": "t-nothing"}, "no task"),
        ("respond_task", {"id": "zzz", "fence": 1, "name": "ada", "text": "x"}, "no task"),
        ("renew_lease", {"id": "\x1b[2J%s{0}", "fence": 1, "name": "ada"}, "no task"),
    ],
)
async def test_bad_values_are_told_and_change_nothing(
    verb: str, fields: dict[str, object], said: str, kind: str, places: Places, ledger: Ledger
) -> None:
    async with way_of(kind, places) as way:
        task = ledger.submit(NewTask("x"))
        with pytest.raises(Refusal, match=said) as raised:
            await way.call(verb, **fields)
        assert "\x1b" not in str(raised.value)
        found = ledger.task(task)
        assert found is not None
        assert found.state is TaskState.QUEUED

"""Lanes, outsiders and threads over a swarm of real processes."""

from __future__ import annotations

import json

from swarm_support import Swarm
from tests_support import eventually

from swarm.cli.control import poke
from swarm.core.model import Outcome, TaskState
from swarm.ledger import NewTask, open_ledger


def test_what_nobody_takes_waits_and_what_follows_is_done(swarm: Swarm) -> None:
    with open_ledger(swarm.places.ledger) as ledger:
        for number in range(300):
            ledger.submit(NewTask("x", priority=9, lane="far", labels={"area": f"a{number}"}))
    (swarm.places.roles / "builder.yaml").write_text("runtime: scripted\nmodel: small\n")
    task = swarm.add("answer here", "builder", "--label", "runtime=scripted", "--label",
                     "model=small")  # fmt: skip
    other = swarm.add("answer here", "builder", "--label", "vendor=openai")
    swarm.up("-n", "2")
    (done,) = swarm.ended([task])
    assert (done.state, done.answer) == (TaskState.DONE, "here")
    reason = json.loads(swarm.must("task", "show", other, "--json"))["reason"]
    assert "offers vendor=openai" in reason
    (swarm.places.roles / "builder.yaml").write_text(
        "runtime: scripted\nlabels: {vendor: [openai]}\n"
    )
    swarm.must("swarm", "reload")
    assert swarm.ended([other])[0].state is TaskState.DONE, "live, without a new agent"


def test_a_thread_goes_on_from_outsiders_to_sessions_and_an_answer_is_filed(swarm: Swarm) -> None:
    answer = swarm.root / "answer.md"
    first = swarm.add("How fast is it?", "builder", "--lane", "far", "--thread", "speed")
    swarm.up("-n", "1")
    with open_ledger(swarm.places.ledger) as ledger:
        claimed = ledger.lane_claim("chat-1", lane="far", lease_seconds=1.5)
        assert claimed is not None
        poke(swarm.places)
        # Nobody renews it: the coordinator's own timer ends it, and it waits again.
        eventually(lambda: swarm.task(first).state is TaskState.QUEUED, 15)
        assert [one.outcome for one in ledger.attempts(first)] == [Outcome.LOST]
        again = ledger.lane_claim("two", lane="far")
        assert again is not None
        ledger.lane_respond(first, again.fence, "two", "Seven of nine.")
    prompt = "Make it faster\nprompt prompt.txt\nanswer done so"
    second = swarm.add(prompt, "builder", "--thread", "speed", "--response-to", str(answer))
    (done,) = swarm.ended([second])
    (told,) = (swarm.root / "agents").glob(f"*/out/{second}/prompt.txt")
    text = told.read_text()
    thread = text[text.index("<thread>") : text.index("</thread>")]
    assert f"{first} asked:\nHow fast is it?" in thread
    assert f"{first} answered, by @two:\nSeven of nine." in thread
    eventually(answer.exists, 10)
    assert answer.read_text() == "done so\n"
    eventually(lambda: swarm.task(second).response_sha256, 10)
    shown = json.loads(swarm.must("task", "show", second, "--json"))
    assert shown["response"]["matches"] is True
    assert done.parent is None

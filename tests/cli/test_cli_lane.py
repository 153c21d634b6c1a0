"""``agentctl lane`` as people and scripts use it, without a swarm and with one that listens."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_fake import FakeSupervisor, Ran

from swarm.config.places import Places
from swarm.core.model import TaskState
from swarm.desk.names import outsider_name
from swarm.errors import UsageError
from swarm.ledger import Ledger, NewTask, Task, open_ledger
from swarm.wire import control

Cli = Callable[..., Ran]


@pytest.fixture
def ledger(places: Places) -> Iterator[Ledger]:
    with open_ledger(places.ledger) as opened:
        yield opened


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCTL_LANE_NAME", "ada-laptop")


def found(ledger: Ledger, task: str) -> Task:
    one = ledger.task(task)
    assert one is not None
    return one


def test_a_claim_shows_all_that_its_holder_needs(cli: Cli, ledger: Ledger) -> None:
    first = ledger.submit(NewTask("What?", thread="talk"))
    assert cli("lane", "claim", "--as", "bob", "--json").code == 0
    assert cli("lane", "respond", first, "--fence", "1", "--as", "bob", "The cache.").code == 0
    task = ledger.submit(
        NewTask("Do \x1b[2J it", thread="talk", labels={"topic": "io"}, response_path="/r.md")
    )
    out = cli("lane", "claim").out
    assert "\x1b" not in out
    assert f"{task}  fence 1  " in out
    assert "role builder, topic=io" in out
    assert "The cache." in out
    assert "response  /r.md" in out
    assert out.rstrip().endswith(
        f"to answer: agentctl lane respond {task} --fence 1 --as ada-laptop TEXT"
    )


def test_a_claim_of_nothing_exits_1_and_a_wait_for_nothing_124(cli: Cli, ledger: Ledger) -> None:
    ran = cli("lane", "claim", "--lane", "reviews")
    assert (ran.code, ran.out) == (1, "")
    assert "no task to be had in lane reviews" in ran.err
    ran = cli("lane", "claim", "--wait", "0.01")
    assert (ran.code, ran.err.count("\n")) == (124, 1)
    ran = cli("lane", "wait", "--timeout", "0.01")
    assert (ran.code, ran.err.count("\n")) == (124, 1)
    task = ledger.submit(NewTask("x"))
    ledger.cancel(task)
    assert f"{task} is not to be had: it is cancelled" in cli("lane", "claim", "--task", task).err


def test_a_waiting_claim_refuses_a_task_that_has_ended(cli: Cli, ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    ledger.cancel(task)
    ran = cli("lane", "claim", "--task", task, "--wait", "60")
    assert ran.code == 2
    assert "is cancelled" in ran.err


def test_what_is_claimed_is_told_to_the_swarm(
    cli: Cli, ledger: Ledger, supervisor: FakeSupervisor
) -> None:
    task = ledger.submit(NewTask("x"))
    cli("lane", "claim")
    cli("lane", "renew", task, "--fence", "1")
    cli("lane", "respond", task, "--fence", "1", "done")
    assert supervisor.heard == [control.PokeLedger()] * 3
    cli("lane", "claim")
    assert len(supervisor.heard) == 3, "nothing had changed"


@pytest.mark.parametrize(
    ("options", "state", "reason"),
    [
        (["--failed", "no \x1b file"], TaskState.FAILED, "no"),
        (["--question", "Which?"], TaskState.NEEDS_HUMAN, "Which?"),
        (["--input-tokens", "5", "--output-tokens", "6", "--cost-usd", "0.5", "ok"], "done", ""),
    ],
)
def test_ways_to_answer(
    options: list[str], state: str, reason: str, cli: Cli, ledger: Ledger
) -> None:
    task = ledger.submit(NewTask("x"))
    cli("lane", "claim")
    ran = cli("lane", "respond", task, "--fence", "1", *options)
    assert ran.code == 0
    assert f"{task} is {state}" in ran.out
    assert "\x1b" not in ran.out
    one = found(ledger, task)
    assert (one.state, reason in one.reason) == (state, True)
    if state == "done":
        (attempt,) = ledger.attempts(task)
        assert (attempt.usage.tokens, attempt.cost_usd) == (11, 0.5)


def test_an_answer_from_a_file_or_from_standard_input(
    cli: Cli, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, text in enumerate(("from a file\nßü\n", "from input\n")):
        task = ledger.submit(NewTask(f"task {number}"))
        cli("lane", "claim")
        if number:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
            ran = cli("lane", "respond", task, "--fence", "1", "-")
        else:
            (tmp_path / "answer.md").write_text(text)
            ran = cli("lane", "respond", task, "--fence=1", "--from", str(tmp_path / "answer.md"))
        assert ran.code == 0
        assert found(ledger, task).answer == text.strip()


@pytest.mark.parametrize("data", [b"", b" \n", b"\xff", b"x" * 70_000, b"x" * 600_000])
def test_an_answer_that_cannot_be_taken_leaves_the_lease(
    data: bytes, cli: Cli, ledger: Ledger, tmp_path: Path
) -> None:
    task = ledger.submit(NewTask("x"))
    cli("lane", "claim")
    (tmp_path / "answer").write_bytes(data)
    ran = cli("lane", "respond", task, "--fence", "1", "--from", str(tmp_path / "answer"))
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert found(ledger, task).held


@pytest.mark.parametrize("commit", ["zz", "--x", "HEAD", "1f2e3d", "1" * 41])
def test_what_is_no_commit_leaves_the_lease(cli: Cli, ledger: Ledger, commit: str) -> None:
    task = ledger.submit(NewTask("x"))
    cli("lane", "claim")
    ran = cli("lane", "respond", task, "--fence", "1", f"--commit={commit}", "done")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "is no commit; give its id" in ran.err
    assert found(ledger, task).held


def test_usage_that_contradicts_itself(cli: Cli, ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    cli("lane", "claim")
    for options in (
        ["--failed", "a", "--question", "b"],
        ["text", "--from", "file"],
        [],
    ):
        assert cli("lane", "respond", task, "--fence", "1", *options).code == 2
    assert cli("lane", "wait", "--task", task, "--lane", "l").code == 2
    assert cli("lane", "claim", "--label", "x").code == 2
    assert cli("lane", "claim", "--lease", "0").code == 2
    assert cli("lane", "renew", task).code == 2
    assert found(ledger, task).held


def test_keeping_a_lease_ends_when_it_is_answered_and_fails_when_it_is_lost(
    cli: Cli, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ledger.submit(NewTask("a")), ledger.submit(NewTask("b"))
    for task, after in (
        (first, lambda: ledger.lane_respond(first, 1, "ada-laptop", "done")),
        (second, lambda: ledger.lane_release(second, 1, "ada-laptop")),
    ):
        assert cli("lane", "claim", "--task", task).code == 0
        slept: list[float] = []

        def sleep(seconds: float, slept: list[float] = slept, after: object = after) -> None:
            slept.append(seconds)
            if len(slept) == 2:
                assert callable(after)
                after()

        monkeypatch.setattr("swarm.cli.lane.time.sleep", sleep)
        ran = cli("lane", "renew", task, "--fence", "1", "--every", "60")
        assert slept == [60.0, 60.0]
        assert ran.out.count("is yours until") == 2
        assert ran.code == (0 if task is first else 1)


def test_waiting_for_a_task_to_take_takes_none(cli: Cli, ledger: Ledger) -> None:
    task = ledger.submit(NewTask("Look at it", lane="reviews", labels={"vendor": "openai"}))
    assert cli("lane", "wait", "--timeout", "0.01").code == 124
    offers = ["--lane", "reviews", "--label", "vendor=openai"]
    assert cli("lane", "wait", *offers).out == f"{task}  Look at it\n"
    told = json.loads(cli("lane", "wait", *offers, "--json").out)
    assert (told["version"], told["id"]) == (1, task)
    assert not found(ledger, task).held
    ledger.cancel(task)
    assert cli("lane", "wait", "--task", task).code == 3


def test_who_somebody_is_where_he_does_not_say() -> None:
    assert outsider_name("", {"USER": "ada.l"}).startswith("ada-l-")
    assert outsider_name("", {"AGENTCTL_LANE_NAME": "x", "USER": "ada"}) == "x"
    assert outsider_name("bob", {"AGENTCTL_LANE_NAME": "x"}) == "bob"
    assert outsider_name("", {"USER": "ü" * 40})
    for bad in ("a b", "../x", "0123456789abcdef", "x" * 33, "-x"):
        with pytest.raises(UsageError):
            outsider_name(bad, {})

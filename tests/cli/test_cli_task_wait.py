"""What ``agentctl task wait`` shows while it waits, and how it ends."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_fake import FakeSupervisor, Ran
from tests_support import eventually

from swarm.cli.task_wait import line_of, look
from swarm.config.places import Places
from swarm.core.model import Outcome, TaskKind
from swarm.desk.verbs import Desk
from swarm.ledger import Ledger, NewTask, open_ledger
from swarm.wire.lifeline import Finished

Cli = Callable[..., Ran]
AGENT, AGENT_ID = "swarm-builder-001", "0123456789abcdef"


@pytest.fixture
def ledger(places: Places) -> Iterator[Ledger]:
    with open_ledger(places.ledger) as opened:
        yield opened


def line(places: Places, ledger: Ledger, task: str) -> str:
    (seen,) = look(Desk(places, ledger, lambda: None), [task])
    told = re.sub(r"\d\d:\d\d:\d\d", "HH:MM:SS", line_of(seen))
    return re.sub(r"[\d.]+s ago", "Ns ago", told)


def begin(ledger: Ledger, task: str) -> int:
    claimed = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    ledger.begin(task, claimed.fence, AGENT, time.time())
    return claimed.fence


def test_a_line_says_owner_lease_last_event_and_next_step(
    places: Places, ledger: Ledger, supervisor: FakeSupervisor
) -> None:
    first = ledger.submit(NewTask("a"))
    second = ledger.submit(NewTask("b", after=(first,)))
    assert line(places, ledger, first) == (
        f"{first} queued · last: submitted Ns ago"
        " · next: the next free agent that takes role builder takes it"
    )
    assert line(places, ledger, second).startswith(f"{second} queued: waits for {first} · last: ")
    ledger.note("gate", "paused: lunch")
    assert line(places, ledger, first).startswith(f"{first} queued: paused: lunch · last:")
    begin(ledger, first)
    assert line(places, ledger, first) == (
        f"{first} running by {AGENT} until HH:MM:SS · last: begun Ns ago"
        " · next: its session ends and reports"
    )
    ledger.lane_claim("ada", task=ledger.submit(NewTask("c")))
    (held,) = ledger.outsiders()
    assert line(places, ledger, held.task).endswith(" · next: @ada answers, or the lease runs out")


def test_what_comes_next_after_a_session(
    places: Places, ledger: Ledger, supervisor: FakeSupervisor
) -> None:
    with_database = ledger._database  # type: ignore[attr-defined]
    tasks = [ledger.submit(NewTask(text)) for text in "abcde"]
    reviewer = ledger.submit(NewTask("r", kind=TaskKind.REVIEW, about=tasks[2]))

    def put(task: str, state: str) -> None:
        with with_database.writing() as db:
            db.execute("UPDATE tasks SET state = ?, reason = '' WHERE id = ?", (state, task))

    for task, state in zip(
        tasks, ("landing", "landing", "review", "review", "needs_human"), strict=True
    ):
        put(task, state)
    ends = ("it lands", "1 lands before it", f"a review: {reviewer}",
            f"a person's look: agentctl task approve {tasks[3]}, or reject")  # fmt: skip
    for task, end in zip(tasks, ends, strict=False):
        assert line(places, ledger, task).endswith(f" · next: {end}")
    assert f"next: a person's answer: agentctl task answer {tasks[4]} TEXT" in line(
        places, ledger, tasks[4]
    )
    put(reviewer, "cancelled")
    assert "a person's look" in line(places, ledger, tasks[2])


def test_a_reason_is_told_once(cli: Cli, ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    report = Finished(task, begin(ledger, task), Outcome.FAILED, reason="the disk is full")
    ledger.finish(report, AGENT)
    ran = cli("task", "wait", task)
    assert ran.code == 3
    assert (ran.out + ran.err).count("the disk is full") == 1
    assert f"{task} failed; 'agentctl task show {task}' says more" in ran.err
    quiet = cli("task", "wait", task, "--quiet")
    assert quiet.out == ""
    assert quiet.err.count("the disk is full") == 1


def test_on_a_terminal_a_live_line_stands_below(
    places: Places, ledger: Ledger, supervisor: FakeSupervisor, tmp_path: Path
) -> None:
    task = ledger.submit(NewTask("x"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "swarm.cli", "task", "wait", task],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    said = bytearray()

    def hear() -> bytes:
        os.set_blocking(ours, False)
        with contextlib.suppress(OSError):  # nothing yet, or nobody any more
            said.extend(os.read(ours, 65536))
        return bytes(said)

    with process:
        eventually(lambda: hear().count(b"the next free agent") >= 2, 20)  # a line, and a live one
        ledger.finish(Finished(task, begin(ledger, task), Outcome.SUCCEEDED), AGENT)
        eventually(lambda: b"done (answer)" in hear() or b"done (noop)" in hear(), 20)
        assert process.wait(20) == 0
    os.close(ours)

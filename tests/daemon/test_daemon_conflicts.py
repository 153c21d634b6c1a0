"""What is reported of a session that left a conflict, and that it arrives."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from swarm.coordinator import reports
from swarm.core.model import Outcome
from swarm.daemon import outbox
from swarm.daemon.concluding import Home, Witnessed, conclude
from swarm.daemon.outbox import Reported
from swarm.daemon.reporting import report
from swarm.daemon.state import Job
from swarm.sessions.model import Result, Summary
from swarm.wire import work
from swarm.wire.lifeline import Finished, Work

ONE, ASIDE = "c" * 40, "e" * 40
LEFT = Home(ONE, 1, ("refs/agentctl/salvage/a/t-1.1",), unresolved=("a.txt",), aside=ASIDE)
DONE = Witnessed(Summary(result=Result("done", False)), 0, tells_result=True)


def concluded(
    home: Home, seen: Witnessed = DONE, ended_by: Outcome | None = None, reason: str = ""
) -> Finished:
    job = Job(Work("t-1", 1, "words", "builder"), 1, "c" * 16)
    return conclude(job, seen, home, ended_by, reason, now=0.0, utc_offset=0.0)


def test_a_session_that_says_it_is_done_and_left_a_conflict_failed_for_that() -> None:
    said = concluded(LEFT)
    assert (said.outcome, said.unresolved, said.aside) == (Outcome.FAILED, ("a.txt",), ASIDE)
    saved = "saved as refs/agentctl/salvage/a/t-1.1"
    assert said.reason == f"conflicts are left in a.txt; {saved}"


@pytest.mark.parametrize(
    ("home", "seen", "ended_by"),
    [
        (LEFT, Witnessed(Summary(), 1, tells_result=True), None),
        (LEFT, DONE, Outcome.TIMED_OUT),
        (LEFT, Witnessed(DONE.summary, 0, tells_result=True, question="which?"), None),
        (Home(None, 0, unresolved=("a.txt",), problem="the disk is full"), DONE, None),
    ],
    ids=["failed", "timed out", "asks", "not brought home"],
)
def test_what_ended_for_another_reason_keeps_that_reason(
    home: Home, seen: Witnessed, ended_by: Outcome | None
) -> None:
    said = concluded(home, seen, ended_by, "over its time" if ended_by else "")
    assert (said.unresolved, said.aside) == ((), None)
    assert "conflicts are left in a.txt" in said.reason
    assert concluded(Home(ONE, 1)).outcome is Outcome.SUCCEEDED


def test_it_arrives_as_it_was_said_however_many_and_odd_the_names() -> None:
    names = tuple(f"{n}\x1b\n{'é' * 4000}" for n in range(1000))
    said = concluded(msgspec.structs.replace(LEFT, unresolved=names))
    assert (len(said.unresolved), {len(one) for one in said.unresolved}) == (50, {200})
    assert all(one.isprintable() for one in said.unresolved)
    heard = work.decode(work.encode(report(said, "a" * 16)))
    assert isinstance(heard, work.TaskFail)
    assert reports._finished(heard, said.fence) == said
    liar = msgspec.structs.replace(heard, unresolved=names, aside="x" * 9999)
    kept = reports._finished(liar, said.fence)
    assert len(kept.unresolved) == 50
    assert max(len(one) for one in (*kept.unresolved, kept.aside or "")) == 200


def test_a_report_from_before_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "outbox.jsonl")
    plain = Finished("t-1", 2, Outcome.FAILED, "conflicts are left in a.txt")
    outbox.append(path, Reported(plain))
    text = Path(path).read_text()
    assert "unresolved" not in text
    assert "aside" not in text
    (read,) = outbox.read_outbox(path)
    assert (read, read.unresolved, read.aside) == (plain, (), None)
    old = work.decode('{"type":"TASK_FAIL","task":{"id":"t-1"},"fence":2,"outcome":"failed"}')
    assert isinstance(old, work.TaskFail)
    assert reports._finished(old, 2).unresolved == ()

"""The SQLite file itself: versions, damage, full disks, several processes, speed by index."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from swarm.core.model import Outcome, TaskState
from swarm.errors import LedgerError
from swarm.ledger import NewTask, SqliteLedger, list_json, open_ledger, show_json
from swarm.ledger import database as database_module
from swarm.ledger.schema import APPLICATION_ID, SCHEMA_VERSION
from swarm.wire.lifeline import Finished


def refused(path: Path) -> str:
    with pytest.raises(LedgerError) as caught:
        open_ledger(path).close()
    text = str(caught.value)
    assert caught.value.remedy
    assert "\n" not in text
    return text


def fill(ledger: SqliteLedger) -> None:
    for _ in range(100):
        ledger.submit(NewTask("y" * 3000))


def test_a_new_ledger_is_private_and_marked(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ledger.db"
    with SqliteLedger(path) as ledger:
        ledger.submit(NewTask("x"))
        for name in os.listdir(path.parent):
            assert (path.parent / name).stat().st_mode & 0o077 == 0, name
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_it_is_all_there_after_closing(tmp_path: Path) -> None:
    with SqliteLedger(tmp_path / "ledger.db") as ledger:
        task = ledger.submit(NewTask("x"))
    with SqliteLedger(tmp_path / "ledger.db") as ledger:
        assert ledger.prompt(task) == "x"


def test_another_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    SqliteLedger(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    assert "version 99" in refused(path)
    assert path.read_bytes() == before


def test_somebody_elses_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE mine (x)")
    db.commit()
    db.close()
    before = path.read_bytes()
    assert "not a ledger" in refused(path)
    assert path.read_bytes() == before


def test_no_database_at_all_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("these are my notes, not a database\n" * 100)
    assert "not a ledger" in refused(path)
    assert path.read_text().startswith("these are my notes")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be opened" in refused(tmp_path / "file" / "ledger.db")
    (tmp_path / "folder").mkdir()
    assert "cannot be opened" in refused(tmp_path / "folder")


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    with SqliteLedger(tmp_path / "ledger.db") as ledger:
        task = ledger.submit(NewTask("x"))
        fence = ledger.claim(task, "swarm-builder-001", "a" * 16, 90.0)
        assert fence is not None
        with ledger._database.reading() as db:
            (pages,) = db.execute("PRAGMA page_count").fetchone()
            db.execute(f"PRAGMA max_page_count = {pages}")
        before = (ledger.counts(), ledger.last_event(), ledger.task(task))
        with pytest.raises(LedgerError, match="disk is full") as caught:
            ledger.submit(NewTask("y" * 200_000))
        assert "free some space" in str(caught.value)
        big = Finished(task=task, fence=1, outcome=Outcome.SUCCEEDED, result="z" * 4000)
        with pytest.raises(LedgerError, match="disk is full"):
            fill(ledger)
        with pytest.raises(LedgerError, match="disk is full"):
            ledger.finish(big, "swarm-builder-001", commits=["1" * 40] * 2000)
        assert ledger.task(task) == before[2]
        with ledger._database.reading() as db:
            db.execute("PRAGMA max_page_count = 1000000")
        ledger.finish(big, "swarm-builder-001")
        assert ledger.counts()["done"] == 1


def test_a_full_disk_while_making_it_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    monkeypatch.setattr(
        database_module, "SCHEMA", ("PRAGMA max_page_count = 3", *database_module.SCHEMA)
    )
    assert "disk is full" in refused(path)
    monkeypatch.undo()
    with SqliteLedger(path) as ledger:
        assert ledger.submit(NewTask("x"))


def test_a_locked_ledger_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.05)
    path = tmp_path / "ledger.db"
    with SqliteLedger(path) as ledger:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked by another process"):
            ledger.submit(NewTask("x"))
        assert ledger.counts()["queued"] == 0
        other.execute("ROLLBACK")
        other.close()
        ledger.submit(NewTask("x"))


def test_a_read_only_ledger_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with SqliteLedger(path) as ledger:
        with ledger._database.reading() as db:
            db.execute("PRAGMA query_only = ON")
        with pytest.raises(LedgerError, match="writable"):
            ledger.submit(NewTask("x"))


def test_claims_race_and_each_task_has_one_winner(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with SqliteLedger(path) as ledger:
        tasks = [ledger.submit(NewTask("x")) for _ in range(40)]
    won: dict[str, list[str]] = {task: [] for task in tasks}
    barrier = threading.Barrier(4)

    def contend(name: str) -> None:
        with SqliteLedger(path) as mine:
            barrier.wait()
            for task in tasks:
                if mine.claim(task, name, "a" * 16, 90.0) is not None:
                    won[task].append(name)

    threads = [threading.Thread(target=contend, args=(f"swarm-qa-00{n}",)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(winners) == 1 for winners in won.values())


def test_opened_by_many_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    barrier = threading.Barrier(6)
    failures: list[Exception] = []

    def enter() -> None:
        barrier.wait()
        try:
            with SqliteLedger(path) as mine:
                mine.submit(NewTask("x"))
        except LedgerError as error:
            failures.append(error)

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with SqliteLedger(path) as ledger:
        assert ledger.counts()["queued"] == 6


def test_a_waiter_sees_what_another_process_did(tmp_path: Path) -> None:
    with SqliteLedger(tmp_path / "l.db") as mine, SqliteLedger(tmp_path / "l.db") as other:
        seen = mine.last_event()
        task = other.submit(NewTask("x"))
        assert mine.last_event() > seen
        assert [event.task for event in mine.events(seen)] == [task]


def test_a_second_connection_of_a_process_takes_no_lock_from_the_first(tmp_path: Path) -> None:
    """Else the next process to close deletes the journal that the first one goes on reading."""
    path = tmp_path / "l.db"
    submit = (
        "import sys; from pathlib import Path; from swarm.ledger import NewTask, SqliteLedger\n"
        "with SqliteLedger(Path(sys.argv[1])) as ledger: ledger.submit(NewTask('x'))"
    )
    with SqliteLedger(path) as mine:
        SqliteLedger(path).close()
        for count in (1, 2):
            subprocess.run([sys.executable, "-c", submit, str(path)], check=True, timeout=30)
            assert len(mine.tasks()) == count


@pytest.mark.parametrize(
    ("call", "index"),
    [
        (lambda ledger: ledger.ready([1], 5), "tasks_ready"),
        (lambda ledger: ledger.claim("t-x", "swarm-a-001", "a" * 16, 9.0), "sqlite_autoindex_task"),
        (lambda ledger: ledger.next_delay(), "tasks_delayed"),
        (lambda ledger: ledger.holders(), "tasks_held"),
        (lambda ledger: ledger.waiting_queues(), "tasks_ready"),
        (lambda ledger: ledger.expire_leases(), "tasks_held"),
        (lambda ledger: ledger.write_responses(), "tasks_respond"),
        (lambda ledger: ledger.thread_of(ledger.ready([1], 1)[0].id), "tasks_thread"),
        (lambda ledger: ledger.submitted("a", "b"), "tasks_announced"),
    ],
)
def test_the_hot_calls_go_by_an_index(tmp_path: Path, call: object, index: str) -> None:
    """A claim at 50,000 queued tasks costs what it costs at ten."""
    with SqliteLedger(tmp_path / "ledger.db") as ledger:
        ledger.submit(NewTask("there is a queue", thread="one"))
        said: list[str] = []
        with ledger._database.reading() as db:
            db.set_trace_callback(said.append)
        call(ledger)  # type: ignore[operator]
        with ledger._database.reading() as db:
            db.set_trace_callback(None)
            plans = []
            for statement in said:
                if statement.lstrip().startswith(("SELECT", "UPDATE", "WITH")):
                    rows = db.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                    plans += [str(row[3]) for row in rows]
    assert any(index in plan for plan in plans), plans
    assert not any(plan.startswith("SCAN tasks") and "INDEX" not in plan for plan in plans), plans


def test_what_task_show_promises(tmp_path: Path) -> None:
    """Every field the product contract names is there; what is unknown is null."""
    with SqliteLedger(tmp_path / "ledger.db", lambda: 1_800_000_000.25) as ledger:
        task = ledger.submit(NewTask("words", component="parser", priority=3))
        ledger.claim(task, "swarm-builder-001", "a" * 16, 90.0)
        ledger.begin(task, 1, "swarm-builder-001", 1_800_000_000.5)
        shown = show_json(ledger, task, lambda task, n: tmp_path / f"{task}.{n}.jsonl")
        listed = list_json(ledger, ledger.tasks())
    assert shown["version"] == listed["version"] == 1
    assert shown["id"] == listed["tasks"][0]["id"] == task
    attempt = shown["attempts"][0]
    promised = "id state reason result role component prompt priority created_at branch commits"
    assert set(promised.split()) <= set(shown)
    fields = "n agent outcome reason exit_status session_id usage cost_usd started_at ended_at log"
    more = {"usage_estimated", "estimate", "base", "tip", "prompt_file"}
    assert {*fields.split(), *more} == set(attempt)
    assert shown["created_at"] == "2027-01-15T08:00:00.250Z"
    assert attempt["started_at"] == "2027-01-15T08:00:00.500Z"
    assert attempt["usage"] == dict.fromkeys(
        ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    )
    unknown = ("outcome", "reason", "exit_status", "session_id", "cost_usd", "ended_at")
    assert all(attempt[name] is None for name in unknown)
    assert attempt["log"].endswith(f"{task}.1.jsonl")
    assert shown["commits"] is None
    assert shown["state"] == TaskState.RUNNING

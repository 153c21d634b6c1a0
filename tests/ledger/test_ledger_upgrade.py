"""An older ledger is brought up to this version, but never under a program that still uses it."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from ledger_v2 import add_task, make_v2

from swarm.errors import LedgerError
from swarm.ledger import SqliteLedger
from swarm.ledger import database as database_module
from swarm.ledger.schema import SCHEMA_VERSION


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    db = make_v2(path)
    db.execute("PRAGMA journal_mode = WAL")
    add_task(db, "t-00000001")
    db.close()
    return path


def test_it_is_left_alone_while_a_program_of_its_version_uses_it(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "ALONE_SECONDS", 0.05)
    user = sqlite3.connect(old)
    assert user.execute("SELECT count(*) FROM tasks").fetchone() == (1,)
    with pytest.raises(LedgerError) as caught:
        SqliteLedger(old).close()
    assert "stop --drain" in str(caught.value.remedy)
    assert user.execute("PRAGMA user_version").fetchone() == (2,)
    user.execute("INSERT INTO prompts SELECT seq + 1, 'as before' FROM tasks")
    user.commit()
    user.close()
    with SqliteLedger(old) as ledger:
        assert ledger.task("t-00000001") is not None
    db = sqlite3.connect(old)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_many_that_open_it_at_once_all_get_it(old: Path) -> None:
    problems: list[LedgerError] = []
    together = threading.Barrier(6)

    def opens() -> None:
        together.wait()
        try:
            with SqliteLedger(old) as ledger:
                assert ledger.task("t-00000001") is not None
        except LedgerError as error:
            problems.append(error)

    threads = [threading.Thread(target=opens) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems

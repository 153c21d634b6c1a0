"""The SQLite file under the ledger: opening, its schema, transactions, and errors for people."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from swarm.errors import LedgerError

SCHEMA_VERSION = 4
"""``PRAGMA user_version`` of the files this program writes; it brings older ones up to it."""
APPLICATION_ID = 0x61637477
"""``PRAGMA application_id``: ``actw``, so that ``file`` and we can tell a ledger apart."""
BUSY_SECONDS = 5.0
"""How long a call waits for another process's transaction, if nothing else is said; those take
milliseconds."""

EVER = -1
"""The day of ``spending`` that holds all time; other days count from 1970 in UTC."""

SPENDING = (
    # Running totals of what attempts count for, so that a budget is not a sum over all of them.
    # Each change of an attempt's usage changes them in the same transaction (rows.recount).
    """CREATE TABLE spending (
        day INTEGER NOT NULL,
        agent TEXT NOT NULL,
        tokens INTEGER,
        usd REAL,
        PRIMARY KEY (day, agent)
    ) WITHOUT ROWID""",
    # What our agents spent on another coordinator's tasks, which are not ours to keep.
    """CREATE TABLE elsewhere (
        task TEXT NOT NULL,
        fence INTEGER NOT NULL,
        agent TEXT NOT NULL,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cost_usd REAL,
        estimate_tokens INTEGER,
        estimate_usd REAL,
        PRIMARY KEY (task, fence)
    ) WITHOUT ROWID""",
)

QUEUES = """CREATE TABLE queues (
        id INTEGER PRIMARY KEY,
        role TEXT NOT NULL,
        lane TEXT NOT NULL,
        labels TEXT NOT NULL,
        UNIQUE (role, lane, labels)
    )"""
"""Tasks that the same agents can take wait in one queue, so that what nobody can take hides
nothing.  ``labels`` is a JSON object with sorted keys."""

READY = """CREATE INDEX tasks_ready ON tasks(queue, priority DESC, seq)
        WHERE state = 'queued' AND blocked = 0 AND paused = 0"""

LANDING = (
    # What was said about a task's work, by landing, checks, reviewers and people; never changed.
    """CREATE TABLE remarks (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        task INTEGER NOT NULL REFERENCES tasks(seq),
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        author TEXT NOT NULL DEFAULT '',
        commit_id TEXT,
        verdict TEXT NOT NULL DEFAULT '',
        counts TEXT NOT NULL DEFAULT '{}',
        text TEXT NOT NULL
    )""",
    "CREATE INDEX remarks_task ON remarks(task, seq)",
    """CREATE INDEX tasks_landing ON tasks(priority DESC, seq)
        WHERE state IN ('landing', 'review')""",
    "CREATE INDEX tasks_about ON tasks(about) WHERE about IS NOT NULL",
)
PLANS = (
    """CREATE TABLE plans (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        title TEXT NOT NULL,
        state TEXT NOT NULL,
        follows INTEGER REFERENCES plans(seq),
        source TEXT NOT NULL DEFAULT '',
        reference TEXT UNIQUE,
        created_at REAL NOT NULL,
        ended_at REAL
    )""",
    "CREATE INDEX tasks_plan ON tasks(plan, seq) WHERE plan IS NOT NULL",
    "CREATE UNIQUE INDEX tasks_plan_key ON tasks(plan, plan_key) WHERE plan IS NOT NULL",
)
NOTICES = (
    # Not yet delivered: a hook that failed is tried again, over restarts too.
    """CREATE TABLE notices (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        task TEXT NOT NULL DEFAULT '',
        agent TEXT NOT NULL DEFAULT '',
        text TEXT NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        due_at REAL NOT NULL
    )""",
)
TASK_COLUMNS = (
    # Since version 4.
    "kind TEXT NOT NULL DEFAULT 'work'",
    "queue INTEGER REFERENCES queues(id)",
    "lane TEXT NOT NULL DEFAULT ''",
    "labels TEXT NOT NULL DEFAULT '{}'",
    "review TEXT",
    "merge TEXT",
    "plan INTEGER REFERENCES plans(seq)",
    "plan_key TEXT",
    "on_failed TEXT NOT NULL DEFAULT 'hold'",
    "paused INTEGER NOT NULL DEFAULT 0",
    "thread TEXT NOT NULL DEFAULT ''",
    "parent INTEGER REFERENCES tasks(seq)",
    "folder TEXT NOT NULL DEFAULT ''",
    "request_path TEXT",
    "request_sha256 TEXT",
    "response_path TEXT",
    "response_sha256 TEXT",
    # Its work: the branch's tip as the last good report had it, who approved which, what landed.
    "tip TEXT",
    "approved TEXT",
    "landed TEXT",
    "revisions INTEGER NOT NULL DEFAULT 0",
    "retries INTEGER NOT NULL DEFAULT 0",
    # The last attempt's session may be gone on with, however it ended.
    "go_on INTEGER NOT NULL DEFAULT 0",
    # Of a review: the task it judges, and the commit.
    "about INTEGER REFERENCES tasks(seq)",
    "about_commit TEXT",
)

SCHEMA = (
    QUEUES,
    """CREATE TABLE tasks (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        role TEXT NOT NULL,
        component TEXT NOT NULL,
        title TEXT NOT NULL,
        titled INTEGER NOT NULL DEFAULT 0,
        priority INTEGER NOT NULL,
        repo TEXT,
        reason TEXT NOT NULL DEFAULT '',
        result TEXT,
        answer TEXT NOT NULL DEFAULT '',
        branch TEXT,
        commits TEXT,
        blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked >= 0),
        not_before REAL,
        fence INTEGER NOT NULL DEFAULT 0,
        agent TEXT NOT NULL DEFAULT '',
        agent_id TEXT NOT NULL DEFAULT '',
        held INTEGER NOT NULL DEFAULT 0,
        lease_seconds REAL NOT NULL DEFAULT 0,
        lease_until REAL,
        lost INTEGER NOT NULL DEFAULT 0,
        sender TEXT,
        sender_ref TEXT,
        token_budget INTEGER,
        usd_budget REAL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        ended_at REAL,
        {}
    )""".format(",\n        ".join(TASK_COLUMNS)),
    # A prompt may be 256 KiB, and an UPDATE writes its whole row: it lies apart.
    "CREATE TABLE prompts (task INTEGER PRIMARY KEY REFERENCES tasks(seq), text TEXT NOT NULL)",
    READY,
    """CREATE INDEX tasks_delayed ON tasks(not_before)
        WHERE state = 'queued' AND not_before IS NOT NULL""",
    "CREATE INDEX tasks_held ON tasks(seq) WHERE held = 1",
    "CREATE INDEX tasks_state ON tasks(state)",
    """CREATE UNIQUE INDEX tasks_announced ON tasks(sender, sender_ref)
        WHERE sender IS NOT NULL""",
    """CREATE TABLE dependencies (
        task INTEGER NOT NULL REFERENCES tasks(seq),
        needs INTEGER NOT NULL REFERENCES tasks(seq),
        met INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (task, needs)
    ) WITHOUT ROWID""",
    "CREATE INDEX dependencies_needs ON dependencies(needs) WHERE met = 0",
    """CREATE TABLE attempts (
        task INTEGER NOT NULL REFERENCES tasks(seq),
        fence INTEGER NOT NULL,
        n INTEGER NOT NULL,
        agent TEXT NOT NULL,
        agent_id TEXT NOT NULL,
        outcome TEXT,
        reported INTEGER NOT NULL DEFAULT 0,
        counted INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '',
        exit_status INTEGER,
        session_id TEXT,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cache_read_tokens INTEGER,
        cache_write_tokens INTEGER,
        cost_usd REAL,
        estimate_tokens INTEGER,
        estimate_usd REAL,
        base TEXT,
        tip TEXT,
        started_at REAL,
        ended_at REAL,
        PRIMARY KEY (task, fence),
        UNIQUE (task, n)
    ) WITHOUT ROWID""",
    "CREATE INDEX attempts_at ON attempts(coalesce(started_at, ended_at))",
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        task INTEGER NOT NULL REFERENCES tasks(seq),
        kind TEXT NOT NULL,
        agent TEXT NOT NULL DEFAULT '',
        fence INTEGER NOT NULL DEFAULT 0,
        detail TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX events_task ON events(task, seq)",
    """CREATE TABLE pauses (
        scope TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        since REAL NOT NULL,
        until REAL
    ) WITHOUT ROWID""",
    "CREATE TABLE notes (key TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID",
    *SPENDING,
    *LANDING,
    *PLANS,
    *NOTICES,
)

DAY_OF = "CAST(coalesce(started_at, ended_at) / 86400 AS INTEGER)"

UPGRADES = {
    1: ("ALTER TABLE tasks ADD COLUMN titled INTEGER NOT NULL DEFAULT 0",),
    2: (
        "ALTER TABLE tasks ADD COLUMN token_budget INTEGER",
        "ALTER TABLE tasks ADD COLUMN usd_budget REAL",
        "ALTER TABLE attempts ADD COLUMN estimate_tokens INTEGER",
        "ALTER TABLE attempts ADD COLUMN estimate_usd REAL",
        *SPENDING,
        *(
            f"""INSERT INTO spending (day, agent, tokens, usd)
                SELECT {day} AS d, agent, sum(CASE WHEN coalesce(input_tokens, output_tokens)
                    IS NOT NULL THEN coalesce(input_tokens, 0) + coalesce(output_tokens, 0) END),
                    sum(cost_usd)
                FROM attempts WHERE coalesce(input_tokens, output_tokens, cost_usd) IS NOT NULL
                GROUP BY d, agent"""  # noqa: S608 - no value of anybody's
            for day in (EVER, f"coalesce({DAY_OF}, 0)")
        ),
    ),
    3: (
        QUEUES,
        *(f"ALTER TABLE tasks ADD COLUMN {column}" for column in TASK_COLUMNS),
        "ALTER TABLE attempts ADD COLUMN base TEXT",
        "ALTER TABLE attempts ADD COLUMN tip TEXT",
        "INSERT INTO queues (role, lane, labels) SELECT DISTINCT role, '', '{}' FROM tasks",
        "UPDATE tasks SET queue = (SELECT id FROM queues q WHERE q.role = tasks.role)",
        "DROP INDEX tasks_ready",
        READY,
        *LANDING,
        *PLANS,
        *NOTICES,
    ),
}
"""What makes a ledger of each older version one of the next."""


class Database:
    """One connection.  Belongs to the thread that made it; closed once."""

    def __init__(self, path: Path, patience: float | None = None) -> None:
        self.path = path
        patience = BUSY_SECONDS if patience is None else patience
        with self.explained():
            self._db = _connect(path, patience)
        try:
            with self.explained():
                _prepare(self._db, path, patience)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, with errors explained.  One statement sees one state of the file."""
        with self.explained():
            yield self._db

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """The same; every statement inside sees one state of the file."""
        with self.explained():
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed when the block ends, undone when it raises."""
        with self.explained(), _transaction(self._db):
            yield self._db

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn SQLite's errors into a :class:`~swarm.errors.LedgerError` with its remedy."""
        try:
            yield
        except sqlite3.Error as error:
            raise explain(error, self.path) from error


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE: a transaction that begins by reading cannot be refused at its first write.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk makes SQLite roll back by itself
            db.execute("ROLLBACK")
        raise


def _connect(path: Path, patience: float) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made here, not by SQLite: its -wal and -shm files take over the mode of this one.
        # One that is there is not opened: closing it again would drop the locks of every other
        # connection of this process (fcntl(2)), and the next to close would delete its -wal.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, flags, 0o600))
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise LedgerError(
            f"the ledger {path} cannot be opened for writing: {error.strerror}",
            "check the directory and its permissions, or name another home with AGENTCTL_HOME",
        ) from error
    db = sqlite3.connect(path, timeout=patience, isolation_level=None)
    db.row_factory = sqlite3.Row
    return db


def _prepare(db: sqlite3.Connection, path: Path, patience: float) -> None:
    _check_version(db, path)
    _use_wal(db, patience)
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    if _version(db) == SCHEMA_VERSION:
        return
    with _transaction(db):
        version = _version(db)
        if version == SCHEMA_VERSION:
            return  # another process made it while we waited
        steps = [UPGRADES[old] for old in range(version, SCHEMA_VERSION)] if version else [SCHEMA]
        for statement in chain.from_iterable(steps):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    # One read transaction: another process may be making the ledger this very moment.
    db.execute("BEGIN")
    try:
        _refuse_strange(db, path)
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _refuse_strange(db: sqlite3.Connection, path: Path) -> None:
    application = int(db.execute("PRAGMA application_id").fetchone()[0])
    version = _version(db)
    if application == APPLICATION_ID and version not in {*UPGRADES, SCHEMA_VERSION}:
        raise LedgerError(
            f"the ledger {path} has version {version}; this program knows {SCHEMA_VERSION}",
            "use the agentctl that wrote it, or move the file away to begin a new ledger",
        )
    made = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (application or version or made):
        raise LedgerError(
            f"{path} is a database, but not a ledger",
            "move the file away, or name another home with AGENTCTL_HOME",
        )


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _use_wal(db: sqlite3.Connection, patience: float) -> None:
    """Readers then never wait for the writer.  Switching does not heed SQLite's busy time-out."""
    end = time.monotonic() + patience
    while True:
        try:
            if str(db.execute("PRAGMA journal_mode").fetchone()[0]) == "wal":
                return
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.005)
        else:
            return


_REMEDIES = {
    sqlite3.SQLITE_NOTADB: (
        "is not a ledger (not an SQLite database)",
        "move the file away; a new ledger is begun at the next command",
    ),
    sqlite3.SQLITE_FULL: ("cannot grow: the disk is full", "free some space and try again"),
    sqlite3.SQLITE_BUSY: (
        "is held locked by another process",
        "find it with `fuser` on the file and end it, then try again",
    ),
    sqlite3.SQLITE_LOCKED: ("is held locked by another process", "try again"),
    sqlite3.SQLITE_READONLY: (
        "cannot be written",
        "make the file and its directory writable for you",
    ),
    sqlite3.SQLITE_PERM: ("cannot be opened", "make the file and its directory writable for you"),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened",
        "check that the directory exists and is writable, or set AGENTCTL_HOME",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "is damaged",
        "move it away, and save what can be read with `sqlite3 ledger.db .recover`",
    ),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "check the disk, then try again"),
}


def explain(error: sqlite3.Error, path: Path) -> LedgerError:
    """One line for people, with the remedy."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    said, remedy = _REMEDIES.get(
        code, (f"cannot be used: {error}", "run `agentctl doctor`, or move the file away")
    )
    return LedgerError(f"the ledger {path} {said}", remedy)

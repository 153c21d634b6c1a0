"""The SQLite file under the ledger: opening, its schema, transactions, and errors for people."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from swarm.errors import LedgerError
from swarm.ledger.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION, UPGRADES

BUSY_SECONDS = 5.0
"""How long a call waits for another process's transaction, if nothing else is said; those take
milliseconds."""
ALONE_SECONDS = 2.0
"""How long others may take to close an older file before it is brought up to this version."""


class Database:
    """One connection.  Belongs to the thread that made it; closed once."""

    def __init__(self, path: Path, patience: float | None = None) -> None:
        self.path = path
        with self.explained():
            self._db = _open(path, BUSY_SECONDS if patience is None else patience)

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


def _open(path: Path, patience: float) -> sqlite3.Connection:
    """A connection to a ledger of this version.

    An older file is brought up to it only while nobody else has it open: a swarm of the older
    program would fail at every call from then on, and its tasks with it.
    """
    end = time.monotonic() + min(patience, ALONE_SECONDS)
    while True:
        db = _connect(path, patience)
        try:
            if _prepare(db, path, patience):
                return db
        except BaseException:
            db.close()
            raise
        db.close()  # else two that want to upgrade it would wait for each other
        if time.monotonic() > end:
            raise LedgerError(
                f"the ledger {path} is of an older version, and a program of that version uses it",
                "let the running swarm finish: `agentctl swarm stop --drain`, then `agentctl swarm"
                " up`",
            )
        time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - nothing secret


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


def _prepare(db: sqlite3.Connection, path: Path, patience: float) -> bool:
    """Whether the file is of this version now; an older one that others have open is not."""
    _check_version(db, path)
    if 0 < _version(db) < SCHEMA_VERSION and not _is_alone(db):
        return False
    _use_wal(db, patience)
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    if _version(db) == SCHEMA_VERSION:
        return True
    with _transaction(db):
        version = _version(db)
        if version == SCHEMA_VERSION:
            return True  # another process made it while we waited
        steps = [UPGRADES[old] for old in range(version, SCHEMA_VERSION)] if version else [SCHEMA]
        for statement in chain.from_iterable(steps):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return True


def _is_alone(db: sqlite3.Connection) -> bool:
    """Whether no other connection is open: SQLite leaves WAL only then."""
    try:
        db.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


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

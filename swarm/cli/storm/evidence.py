"""Reading what a storm has left: ledger, hub, session logs, journal, home."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

from swarm.cli.demonstration.stage import Stage
from swarm.cli.hubs import git
from swarm.cli.storm.invariants import AttemptSeen, TaskSeen, Violation
from swarm.cli.storm.work import Piece
from swarm.config.places import Places
from swarm.core.model import RemarkKind, Review, TaskKind, TaskState
from swarm.errors import GitError
from swarm.ledger import Attempt, Ledger
from swarm.ledger.records import NEEDS_REVISION, Remark

_COMMIT = re.compile(rb"\b([0-9a-f]{40})\b")
_LEAVINGS = ("*.lock", "*.part", ".making-*", ".removing-*", "*.making-*", "control.sock", "*.new",
             "landing", "joining")  # fmt: skip
"""Names of what is only there while something is under way."""
CGROUPS = Path("/sys/fs/cgroup")
MAX_SHOWN = 4
"""Frames that are shown of a traceback."""
_MORE = frozenset({RemarkKind.CONFLICT, RemarkKind.CHECK, RemarkKind.REJECTION, RemarkKind.ANSWER})
"""Remarks that ask for another attempt; a review's, where it says so."""
_TRACE = "Traceback (most recent call last):\n"
_ACCEPT = "socket.accept() out of system resource"
_NO_LOOP = ("_make_self_pipe", "_close_self_pipe")
"""A process that was born when no file could be opened ends at once, and is started again."""


def hub_of(places: Places) -> Path | None:
    """The one hub of this home, ``None`` before there is one."""
    found = sorted(places.hub.glob("*.git")) if places.hub.is_dir() else []
    return found[0] if found else None


def commits_kept(hub: Path | None, besides: Sequence[str] = ()) -> frozenset[str]:
    """Every commit that a reference of the hub, or one of the commits ``besides``, reaches."""
    if hub is None:
        return frozenset()
    listed = git(hub, "rev-list", "--all", *besides)
    if listed.returncode != 0:
        raise GitError(f"{hub} cannot be read: {listed.stderr.decode(errors='replace')}", "")
    return frozenset(listed.stdout.decode().split())


def commits_announced(places: Places, tasks: Iterable[str]) -> dict[str, frozenset[str]]:
    """By task, the ids its sessions said: whatever in their streams looks like a commit's.

    The storm's tasks say no other 40 hexadecimal digits but those of ``git rev-parse HEAD``.
    """
    found = {}
    for task in tasks:
        ones: set[str] = set()
        for log in (places.logs / "sessions").glob(f"{task}.*.jsonl*"):
            ones |= {one.decode() for one in _COMMIT.findall(log.read_bytes())}
        found[task] = frozenset(ones)
    return found


def tasks_seen(
    stage: Stage,
    ledger: Ledger,
    pieces: Mapping[str, Piece],
    cancelled: Iterable[str],
    broken: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    *,
    cleaned: bool = False,
) -> list[TaskSeen]:
    """Every task of the storm with its attempts, and the files on its branch.

    ``broken``: by task, what it was after and was to be skipped for.  ``cleaned``: its branch may
    be gone, so that the commit it had at last is looked at.
    """
    by_person = set(cancelled)
    found = []
    wanted: list[tuple[str, str]] = []
    rows = [
        (task, piece, ledger.attempts(one))
        for one, piece in pieces.items()
        if (task := ledger.task(one))
    ]
    where = {
        task.id: _last_tip(attempts) if cleaned else f"refs/heads/{task.branch}"
        for task, _, attempts in rows
    }
    for task, piece, _ in rows:
        wanted += [(where[task.id], path) for path, _ in piece.files]
    held = files_of(hub_of(stage.places), wanted)
    for task, piece, tried in rows:
        attempts = tuple(
            AttemptSeen(a.n, a.fence, a.agent, a.outcome, a.started_at, a.ended_at, a.reason)
            for a in tried
        )
        files = {path: held.get((where[task.id], path)) for path, _ in piece.files}
        over = (TaskState.FAILED, TaskState.CANCELLED)
        reviews = ledger.reviews(task.id) if piece.review is Review.AGENT else []
        found.append(
            TaskSeen(
                id=task.id,
                piece=piece,
                state=task.state,
                result=task.result,
                reason=task.reason,
                lost=task.lost,
                branch=task.branch,
                cancelled=task.id in by_person,
                attempts=attempts,
                files=files,
                sent_back=asked_for_more(ledger.remarks(task.id)),
                unjudged=sum(one.state in over for one in reviews),
                retried=sum(event.kind == "retried" for event in ledger.events(0, task.id)),
                dropped=task.kind is TaskKind.REVIEW and task.state is TaskState.CANCELLED,
                broken=broken.get(task.id, ()),
            )
        )
    return found


def _last_tip(attempts: Sequence[Attempt]) -> str:
    """The commit its branch had after the last attempt of which that is known."""
    return next((one.tip for one in reversed(attempts) if one.tip), "refs/heads/")


def asked_for_more(remarks: Iterable[Remark]) -> int:
    """How often another attempt was asked for."""
    return sum(
        remark.kind in _MORE
        or (remark.kind is RemarkKind.REVIEW and remark.verdict == NEEDS_REVISION)
        for remark in remarks
    )


def files_of(
    hub: Path | None, wanted: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], str | None]:
    """What ``(reference or commit, path)`` holds in the hub, ``None`` for nothing."""
    if hub is None or not wanted:
        return dict.fromkeys(wanted)
    asked = "".join(f"{where}:{path}\n" for where, path in wanted)
    done = subprocess.run(
        ["git", f"--git-dir={hub}", "cat-file", "--batch"],
        input=asked.encode(),
        capture_output=True,
        timeout=120,
        check=True,
    )
    found: dict[tuple[str, str], str | None] = {}
    rest = done.stdout
    for key in wanted:
        head, _, rest = rest.partition(b"\n")
        words = head.split()
        if len(words) != 3 or words[1] != b"blob":
            found[key] = None
            if len(words) == 3 and words[2].isdigit():
                rest = rest[int(words[2]) + 1 :]
            continue
        size = int(words[2])
        found[key], rest = rest[:size].decode(errors="replace"), rest[size + 1 :]
    return found


def check_ledger(places: Places) -> list[Violation]:
    """``PRAGMA integrity_check`` and ``foreign_key_check`` of the ledger's file."""
    rule = "the ledger is whole"
    try:
        with closing(sqlite3.connect(f"file:{places.ledger}?mode=ro", uri=True)) as connection:
            said = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            strangers = connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.Error as error:
        return [Violation(rule, f"it cannot be read: {error}")]
    found = [Violation(rule, line) for line in said if line != "ok"]
    return found + [Violation(rule, f"{row[0]} row {row[1]} points nowhere") for row in strangers]


def check_journal(places: Places, torn: int) -> list[Violation]:
    """Every line of the journal is one JSON object, but for at most ``torn`` that were cut.

    A supervisor that is killed, or whose disk is full, may leave its last line half written.
    """
    bad = []
    for path in sorted(places.journal.glob("*.jsonl*")):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if not isinstance(entry, dict):
                bad.append(f"{path.name}:{number}: {line[:80]!r}")
    if len(bad) <= torn:
        return []
    return [Violation("the journal is readable", f"not JSON: {line}") for line in bad]


def check_leavings(stage: Stage, home_id: str) -> list[Violation]:
    """Nothing that is only there while something is under way, after the last stop."""
    rule = "nothing lies about"
    found = [
        str(path.relative_to(stage.root))
        for folder in (stage.places.home, stage.workspaces)
        for name in _LEAVINGS
        for path in folder.rglob(name)
        if "objects" not in path.parts and not _may_lie(path)
    ]
    found += [str(path.relative_to(stage.root)) for path in stage.workspaces.iterdir()]
    if home_id and CGROUPS.is_dir():
        found += [str(path) for path in CGROUPS.rglob(f"*{home_id}*") if path.is_dir()]
    return [Violation(rule, f"{name} is left") for name in sorted(set(found))]


def _may_lie(path: Path) -> bool:
    """What stays by design: a file that clean-ups lock, and locks of git's that were killed.

    The latter go when their reference is next to be moved.
    """
    dead = path.suffix == ".lock" and "hub" in path.parts and "refs" in path.parts
    return dead or path.name == "clean.lock"


def check_tracebacks(places: Places) -> list[Violation]:
    """No process of ours met an error that nobody expected; each kind of one is told once."""
    found: dict[str, str] = {}
    for path in (places.logs / "stderr.log", *sorted(places.logs.rglob("*.log"))):
        before, *blocks = (path.read_text(errors="replace") if path.exists() else "").split(_TRACE)
        for block in blocks:
            told = _ACCEPT in before[-400:]  # by asyncio, which tries again in a second
            if not told and not any(name in block for name in _NO_LOOP):
                frames, error = _core(block)
                found.setdefault(error, f"{path.name}: {error}: {frames}")
            before = block
    return [Violation("no traceback", what) for what in found.values()]


def _core(block: str) -> tuple[str, str]:
    """The innermost frames of a traceback, and its last line."""
    lines = block.strip("\n").splitlines()
    end = next((n for n, line in enumerate(lines) if not line.startswith(" ")), len(lines))
    frames = [line.strip() for line in lines[:end] if line.startswith("  File ")]
    error = lines[end] if end < len(lines) else "cut off"
    return " < ".join(reversed(frames[-MAX_SHOWN:])), error[:200]

"""The durable outbox: what a coordinator has not settled yet, on disk.

``<workspace>/.agentctl/outbox.jsonl``, one JSON object a line.  A report lies here before anybody
hears of it and stays until the coordinator answered ``SETTLED`` (rules, "Settling"); the
supervisor reads it when the daemon is dead.  Nothing is kept in memory: the file is seldom
touched, and an idle daemon should cost nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from swarm.wire.lifeline import Finished

MAX_REPORTS = 256
"""Unsettled reports kept; beyond it the oldest is dropped.  Only a coordinator that never
settles, which is none of ours, gets there."""
MAX_UNCLAIMED = 16
"""Assignments given back that are kept.  They are worth less than any report (who assigned takes
them back by itself), and anybody who may assign can make them by the hundred."""
MAX_FILE = 16 * 1024 * 1024
"""Bytes of an outbox we are willing to read."""
COMPACT_BYTES = 4 * 1024 * 1024
"""A file longer than this is written anew with what is kept of it."""
UNREAD = ".unread"
"""Beside the outbox: lines of it that nobody can make sense of, for a person to look at."""
MAX_UNREAD = 1024 * 1024


class Reported(msgspec.Struct, frozen=True, tag_field="type", tag="report"):
    """An attempt that ended."""

    finished: Finished

    @property
    def key(self) -> tuple[str, int]:
        """Task and fence, which name it to the coordinator."""
        return self.finished.task, self.finished.fence


class Unclaimed(msgspec.Struct, frozen=True, tag_field="type", tag="unclaim"):
    """An assignment given back before its session started."""

    task: str
    fence: int
    reason: str = ""
    retry_after: float = 0.0

    @property
    def key(self) -> tuple[str, int]:
        """Task and fence, which name it to the coordinator."""
        return self.task, self.fence


Entry: TypeAlias = Reported | Unclaimed

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


def kept(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """What is kept of unsettled entries, in their order: the newest of each kind."""
    found: list[Entry] = []
    reports = unclaimed = 0
    for entry in reversed(tuple(entries)):
        if isinstance(entry, Reported):
            reports += 1
            keep = reports <= MAX_REPORTS
        else:
            unclaimed += 1
            keep = unclaimed <= MAX_UNCLAIMED
        if keep:
            found.append(entry)
    return tuple(reversed(found))


def load(path: str) -> tuple[Entry, ...]:
    """Every unsettled entry, oldest first; a line that makes no sense is left out.

    No file is an empty outbox.  A torn last line is what a crash in mid-write leaves: it was
    never acknowledged to anybody.  Raises ``OSError`` when the file is there and cannot be read.
    """
    return _read(path)[0]


def recover(path: str) -> tuple[tuple[Entry, ...], str]:
    """:func:`load` for a daemon that must live with whatever it finds.

    An outbox that cannot be read at all is set aside; the second value says so to people.
    """
    try:
        return load(path), ""
    except OSError as error:
        problem = f"the outbox cannot be read: {error.strerror}"
    try:
        os.replace(path, path + UNREAD)
    except OSError:
        return (), problem
    return (), f"{problem}; it was set aside as {path}{UNREAD}"


def read_outbox(path: str | os.PathLike[str]) -> tuple[Finished, ...]:
    """The reports in an outbox, for whoever speaks for a dead daemon.  Raises ``OSError``."""
    return tuple(e.finished for e in load(os.fspath(path)) if isinstance(e, Reported))


def append(path: str, entry: Entry) -> None:
    """Add one entry; on return it is on the disk.

    Raises ``OSError`` when it is not (a full disk); the file is then as it was.
    """
    if isinstance(entry, Unclaimed) or _size(path) > COMPACT_BYTES:
        entries, nonsense = _read(path)
        after = kept((*(e for e in entries if e.key != entry.key), entry))
        if len(after) <= len(entries):
            _rewrite(path, after, nonsense)
            return
    line = _encoder.encode(entry) + b"\n"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = _whole_size(fd)
        try:
            _write_all(fd, line, size)
            os.ftruncate(fd, size + len(line))
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)
    if size == 0:
        _sync_folder(path)


def settle(path: str, task: str, fence: int) -> None:
    """Forget one entry.  Raises ``OSError``; the file is then as it was."""
    before, nonsense = _read(path)
    after = tuple(e for e in before if e.key != (task, fence))
    if len(after) != len(before):
        _rewrite(path, kept(after), nonsense)


def _read(path: str) -> tuple[tuple[Entry, ...], list[bytes]]:
    """Every unsettled entry, and every line that is none."""
    entries: dict[tuple[str, int], Entry] = {}
    nonsense = []
    for line in _whole_lines(path):
        try:
            entry = _decoder.decode(line)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            nonsense.append(line)
            continue
        entries[entry.key] = entry
    return tuple(entries.values()), nonsense


def _rewrite(path: str, entries: tuple[Entry, ...], nonsense: list[bytes]) -> None:
    if nonsense:
        _keep_aside(path + UNREAD, nonsense)
    if not entries:
        os.unlink(path)
        return
    part = f"{path}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(fd, b"".join(_encoder.encode(entry) + b"\n" for entry in entries), 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(part, path)
    _sync_folder(path)


def _keep_aside(path: str, lines: list[bytes]) -> None:
    """Perhaps entries of another version: nothing of an outbox is thrown away unread."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        room = MAX_UNREAD - os.fstat(fd).st_size
        data = b"".join(line + b"\n" for line in lines)[: max(0, room)]
        _write_all(fd, data, 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _whole_lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE).split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _whole_size(fd: int) -> int:
    """Where the next line starts: behind the last newline, so that a torn tail is overwritten."""
    size = os.fstat(fd).st_size
    if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
        return size
    data = os.pread(fd, min(size, MAX_FILE), 0)
    return data.rfind(b"\n") + 1


def _write_all(fd: int, data: bytes, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def _sync_folder(path: str) -> None:
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

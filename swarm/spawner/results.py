"""What a session left in ``out/<task>/``, kept in the task's own folder.

The out directory is the session's: it is read through descriptors, no link is followed, and only
plain files and folders are taken, up to a size and a number.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from swarm.errors import SpawnError
from swarm.spawner.folders import remove_tree
from swarm.spawner.refs import beneath

MAX_BYTES = 256 * 1024 * 1024
"""All files of one attempt together."""
MAX_FILES = 10_000
"""Files and folders of one attempt together."""
MAX_DEPTH = 32
LATEST = "latest"
"""``results/latest``: a link to the newest attempt's folder."""
_CHUNK = 256 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def keep_results(out: str, folder: str, attempt: int) -> str:
    """Copy ``out`` to ``<folder>/results/<attempt>/``, whole or not at all.

    An empty ``out`` makes no folder.  A copy that is there already is replaced.  Returns one line
    about what was left out, empty when all is there.  Raises :class:`~swarm.errors.SpawnError`
    when it cannot be written.
    """
    top, name = os.path.split(out)
    try:
        with beneath(top, name) as source:
            if not os.listdir(source):
                return ""
    except (FileNotFoundError, NotADirectoryError):
        return ""  # it left none, or a link in its place
    results = os.path.join(folder, "results")
    part = os.path.join(results, f".{attempt}.{os.getpid()}.part")
    tally = _Tally()
    try:
        os.makedirs(results, mode=0o700, exist_ok=True)
        remove_tree(part)
        os.mkdir(part, 0o700)
        with beneath(top, name) as source, beneath(part) as target:
            _copy(source, target, tally, 0)
        _put(part, os.path.join(results, str(attempt)))
        _point(results, str(attempt))
    except OSError as error:
        with suppress(OSError):
            remove_tree(part)
        raise SpawnError(
            f"results cannot be kept in {results}: {error.strerror}", "make room there"
        ) from None
    return tally.told()


def plain_file(folder: str, name: str, cap: int) -> str:
    """The text of a plain file in a session's folder, at most ``cap`` characters, stripped.

    Empty when there is none, or what has its name is a link or no file.
    """
    top, last = os.path.split(folder)
    with suppress(OSError), beneath(top, last) as fd:
        file = os.open(name, _FILE, dir_fd=fd)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            return ""
        with open(file, "rb") as opened:
            return opened.read(4 * cap).decode("utf-8", "replace")[:cap].strip()
    return ""


def forget_files(folder: str, names: Iterable[str]) -> None:
    """Remove what an earlier session left by these names, so that it is not read for a new one's.

    Raises ``OSError`` when one stays that could be read.
    """
    top, last = os.path.split(folder)
    with suppress(FileNotFoundError, NotADirectoryError), beneath(top, last) as fd:
        for name in names:
            with suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(name, dir_fd=fd)


@dataclass(slots=True)
class _Tally:
    """What was copied, and what was not."""

    size: int = 0
    number: int = 0
    skipped: list[str] = field(default_factory=list)
    """Why something was left out, once each."""

    def room(self, size: int) -> bool:
        """Whether there is room for one more file of ``size`` bytes; it is counted then."""
        if self.number >= MAX_FILES:
            return self.leave(f"more than {MAX_FILES} files")
        if self.size + size > MAX_BYTES:
            return self.leave(f"more than {MAX_BYTES // (1024 * 1024)} MB")
        self.number += 1
        self.size += size
        return True

    def leave(self, why: str) -> bool:
        """Something is left out."""
        if why not in self.skipped:
            self.skipped.append(why)
        return False

    def told(self) -> str:
        """One line for people."""
        return f"not all results are kept: {', '.join(self.skipped)}" if self.skipped else ""


def _copy(source: int, target: int, tally: _Tally, depth: int) -> None:
    for name, mode in _entries(source):
        if stat.S_ISDIR(mode):
            if depth >= MAX_DEPTH:
                tally.leave(f"folders more than {MAX_DEPTH} deep")
            elif tally.room(0):
                _copy_folder(name, source, target, tally, depth)
        elif stat.S_ISREG(mode):
            _copy_file(name, source, target, tally)
        else:
            tally.leave("what is no plain file")


def _entries(folder: int) -> Iterator[tuple[str, int]]:
    for name in sorted(os.listdir(folder)):
        with suppress(FileNotFoundError):
            yield name, os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode


@contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    """A folder below an open one, never a link."""
    fd = os.open(name, _DIRECTORY, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def _copy_folder(name: str, source: int, target: int, tally: _Tally, depth: int) -> None:
    os.mkdir(name, 0o700, dir_fd=target)
    try:
        inner = os.open(name, _DIRECTORY, dir_fd=source)
    except PermissionError:
        tally.leave("folders that cannot be read")
        return
    try:
        with _opened(name, target) as made:
            _copy(inner, made, tally, depth + 1)
    finally:
        os.close(inner)


def _copy_file(name: str, source: int, target: int, tally: _Tally) -> None:
    try:
        reading = os.open(name, _FILE, dir_fd=source)
    except PermissionError:
        tally.leave("files that cannot be read")
        return
    try:
        about = os.fstat(reading)
        if not stat.S_ISREG(about.st_mode) or not tally.room(about.st_size):
            return
        writing = os.open(name, _NEW, 0o700 if about.st_mode & 0o100 else 0o600, dir_fd=target)
        try:
            left = about.st_size
            while left > 0 and (data := os.read(reading, min(left, _CHUNK))):
                left -= len(data)
                while data:
                    data = data[os.write(writing, data) :]
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _put(part: str, place: str) -> None:
    """Rename it into its place, over what was there."""
    old = f"{part}.old"
    remove_tree(old)
    with suppress(FileNotFoundError):
        os.rename(place, old)
    os.rename(part, place)
    remove_tree(old)


def _point(results: str, name: str) -> None:
    """``latest`` names the newest; a reader sees the old one or the new one."""
    latest = os.path.join(results, LATEST)
    part = f"{latest}.{os.getpid()}.part"
    with suppress(FileNotFoundError):
        os.unlink(part)
    os.symlink(name, part)
    os.replace(part, latest)

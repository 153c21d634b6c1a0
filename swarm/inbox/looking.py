"""How a drop looks on disk: its whole tree by ``lstat``, no link followed."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from swarm.inbox.settling import Look

MAX_ENTRIES = 100_000
"""Files and folders of one drop; a task's input is no archive."""


@dataclass(frozen=True, slots=True)
class Nature:
    """What a drop is, as far as it decides whether and how it is taken in."""

    look: Look
    folder: bool
    size: int
    """Bytes of all its files."""
    files: int
    linked: bool
    """Some file of it has another name elsewhere: what is taken in must be a copy."""
    problem: str
    """Why it cannot be taken in; empty where it can."""


def nature(path: str) -> Nature | None:
    """What lies at ``path``; ``None`` when nothing does.  Raises ``OSError`` as reading does."""
    try:
        top = os.lstat(path)
    except FileNotFoundError:
        return None
    entries, size, files, newest, digest = 0, 0, 0, 0, 0
    linked, busy, problem = False, False, ""
    for inside, status in _walk(path, top):
        entries += 1
        newest = max(newest, status.st_ctime_ns)
        digest ^= hash((inside, status.st_ino, status.st_size, status.st_mtime_ns))
        if stat.S_ISREG(status.st_mode):
            files += 1
            size += status.st_size
            linked = linked or status.st_nlink > 1
            busy = busy or is_being_written(os.path.join(path, inside) if inside else path)
        problem = problem or _problem(path, inside, status)
        if entries > MAX_ENTRIES:
            problem = f"it holds more than {MAX_ENTRIES:,} files and folders"
            break
    folder = stat.S_ISDIR(top.st_mode)
    look = Look(
        mark=(entries, size, newest, digest),
        age=time.time() - newest / 1e9,
        empty=stat.S_ISREG(top.st_mode) and size == 0,
        busy=busy,
    )
    return Nature(look, folder, size, files, linked, problem)


def is_being_written(path: str) -> bool:
    """Whether some process has the file open for writing; false where that cannot be known.

    A read lease is refused then (fcntl(2)); it is given back at once.  Whoever opens the file for
    writing just meanwhile waits for that, and the kernel tells us by a signal: one that nobody
    minds, not the SIGIO that would end us.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # not ours, or a file system without leases
    finally:
        os.close(fd)
    return False


def _walk(path: str, top: os.stat_result) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry with its path inside; what vanishes meanwhile is left out."""
    yield "", top
    folders = [""] if stat.S_ISDIR(top.st_mode) else []
    while folders:
        here = folders.pop()
        with os.scandir(os.path.join(path, here)) as found:
            for entry in found:
                inside = os.path.join(here, entry.name)
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield inside, status
                if stat.S_ISDIR(status.st_mode):
                    folders.append(inside)


def _problem(path: str, inside: str, status: os.stat_result) -> str:
    where = "" if not inside else " in it"
    match stat.S_IFMT(status.st_mode):
        case stat.S_IFREG | stat.S_IFDIR:
            return ""
        case stat.S_IFLNK if not inside:
            return "it is a symbolic link"
        case stat.S_IFLNK:
            root = os.path.realpath(path)
            leads = os.path.realpath(os.path.join(root, inside))
            if leads == root or leads.startswith(root + os.sep):
                return ""
            return "a symbolic link in it leads out of it"
        case stat.S_IFIFO:
            return f"a named pipe{where} is no file"
        case stat.S_IFSOCK:
            return f"a socket{where} is no file"
        case _:
            return f"a device{where} is no file"

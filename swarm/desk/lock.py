"""Who runs the swarm of a home: the holder of the flock on ``swarm.pid``.

The lock decides, never the file or the pid in it (product, "Start"): a stale file or a reused pid
must not matter.  A process is signalled only when it has that very file open.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from swarm.config.places import Places
from swarm.sandbox.trees import stat_fields

_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds the lock; ``start`` is field 22 of ``/proc/<pid>/stat``."""

    pid: int
    start: int


def is_locked(places: Places) -> bool:
    """Whether a supervisor holds this home.  Asks for a shared lock for an instant."""
    try:
        fd = os.open(places.pid_file, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def find_holder(places: Places) -> Holder | None:
    """The process to signal, or ``None`` when the lock is free or its holder is not visible."""
    if not is_locked(places):
        return None
    for pid in [*_written(places.pid_file), *_lock_table(places.pid_file)]:
        start = start_time(pid)
        if start is not None and _has_open(pid, places.pid_file):
            return Holder(pid, start)
    return None


def send(holder: Holder, number: signal.Signals) -> bool:
    """Signal the holder if it is still the same process; false when it is gone."""
    try:
        fd = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return False
    try:
        if start_time(holder.pid) != holder.start:
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def is_frozen(holder: Holder) -> bool:
    """Whether the holder is stopped (SIGSTOP, or under a debugger): TERM would not reach it."""
    fields = stat_fields(holder.pid)
    return bool(fields) and fields[0] in (b"T", b"t")


def wait_until_free(places: Places, seconds: float) -> bool:
    """Wait at most ``seconds`` for the lock to be free; whether it is."""
    end = time.monotonic() + seconds
    while is_locked(places):
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def start_time(pid: int) -> int | None:
    """Start of a living process in clock ticks since boot; with the pid it names it for good.

    A zombie has ended: whoever adopted it may take its time to reap it.
    """
    fields = stat_fields(pid)
    return int(fields[19]) if fields and fields[0] not in b"ZX" else None


def _written(pid_file: Path) -> list[int]:
    """The first number in the file, which is the pid its holder wrote for people."""
    try:
        found = re.search(r"\d{1,9}", pid_file.read_text(errors="replace")[:4096])
    except OSError:
        return []
    return [int(found[0])] if found and int(found[0]) > 0 else []


def _lock_table(pid_file: Path) -> list[int]:
    """Holders of a flock on that inode as the kernel lists them (``/proc/locks``, proc(5))."""
    try:
        inode = pid_file.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    pattern = re.compile(rf"\d+: FLOCK\s+\w+\s+WRITE (\d+) [0-9a-f]+:[0-9a-f]+:{inode} ")
    return [int(m[1]) for line in lines if (m := pattern.match(line)) and int(m[1]) > 0]


def _has_open(pid: int, path: Path) -> bool:
    """Whether ``pid`` has ``path`` open: the pid in the file may be a stranger's by now."""
    wanted = path.stat()
    try:
        entries = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for entry in entries:
        try:
            found = os.stat(f"/proc/{pid}/fd/{entry}")
        except OSError:
            continue  # closed meanwhile
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False

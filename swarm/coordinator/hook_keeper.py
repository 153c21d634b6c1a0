"""Runs one hook's program as ``hook_keeper.py PARENT SECONDS PROGRAM…`` and ends all it started.

A program of its own, so that the time limit holds and nothing outlives the coordinator, however
that ends.  It exits as the program does, with 124 when that took too long, 127 when it cannot be
started; the end of what the program said on standard error is all it says there.  Only the
standard library's smallest part: it is started for every notice.
"""

import ctypes
import os
import select
import signal
import sys
import time

MAX_SAID = 2000
"""Bytes kept of what the program says."""
_PDEATHSIG = 1
"""``PR_SET_PDEATHSIG``, prctl(2)."""


class _Told(Exception):
    """The coordinator wants it ended."""


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    parent, seconds, argv = int(arguments[0]), float(arguments[1]), arguments[2:]
    try:
        watched = os.pidfd_open(parent)
    except OSError:
        return 1
    if os.getppid() != parent:
        return 1
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(argv, writer)
    os.close(writer)
    ended = os.pidfd_open(pid)
    said = bytearray()
    try:
        signal.signal(signal.SIGTERM, _told)
        in_time = _follow(reader, watched, ended, said, time.monotonic() + seconds)
    except _Told:
        in_time = False
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Also what the program has left behind: a group of processes is named by its first.
        for kill in (os.killpg, os.kill):
            try:
                kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
    _, status = os.waitpid(pid, 0)
    os.write(2, said)
    return os.waitstatus_to_exitcode(status) & 0xFF if in_time else 124


def _follow(reader: int, watched: int, ended: int, said: bytearray, end: float) -> bool:
    """Read until the program has ended; false when its time, or the coordinator, is over first."""
    poll = select.poll()
    for fd in (reader, watched, ended):
        poll.register(fd, select.POLLIN)
    while (left := end - time.monotonic()) > 0:
        ready = {fd for fd, _ in poll.poll(left * 1000)}
        if reader in ready:
            data = os.read(reader, 65536)
            said += data
            del said[:-MAX_SAID]
            if not data:
                poll.unregister(reader)
        elif ended in ready:
            return True
        if watched in ready:
            return False
    return False


def _become(argv: list[str], stderr: int) -> None:
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.dup2(stderr, 2)
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is the point
    except (OSError, ValueError) as error:
        os.write(2, f"{argv[0]}: {error}\n".encode(errors="replace"))
    os._exit(127)


def _told(_number: int, _frame: object) -> None:
    raise _Told


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

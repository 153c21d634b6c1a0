"""Runs a program as ``guard_program.py PARENT SECONDS PROGRAM…`` and ends all it started.

A program of its own, for processes with threads, which may not fork a :mod:`~swarm.sandbox.guard`:
the coordinator's hooks, and its git that talks to a person's source.  The time limit holds, and
nothing outlives the parent, however that ends; nor this, as a second process is there to see to
that.  It exits as the program does, with 124 when that took too long, 127 when it cannot be
started; the end of what the program said on standard error is all it says there.  Only the standard
library's smallest part: it is started for every notice and every fetch.
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
    """The parent wants it ended."""


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
    held, go = os.pipe()
    here = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        _become(argv, writer, here, held)
    os.close(writer)
    guard = _guard(pid, (reader, go))
    ended = os.pidfd_open(pid)
    said = bytearray()
    try:
        signal.signal(signal.SIGTERM, _told)
        os.write(go, b"\n")  # one that is dead breaks no pipe: ``held`` is open here too
        in_time = _follow(reader, watched, ended, said, time.monotonic() + seconds)
    except _Told:
        in_time = False
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(pid)
        os.kill(guard, signal.SIGKILL)
        os.waitpid(guard, 0)  # before the program's: then that number is another's to have
    _, status = os.waitpid(pid, 0)
    os.write(2, said)
    return os.waitstatus_to_exitcode(status) & 0xFF if in_time else 124


def _guard(pid: int, ours: tuple[int, ...]) -> int:
    """A process that ends the program's group when this one is killed; its pid.

    A killed keeper's program dies with it, but not what that has started.  ``ours`` are descriptors
    that it must not hold open.
    """
    keeper = os.pidfd_open(os.getpid())
    guard = os.fork()
    if guard == 0:
        for fd in ours:
            os.close(fd)
        poll = select.poll()
        poll.register(keeper, select.POLLIN)
        poll.poll()
        _end(pid)
        os._exit(0)
    os.close(keeper)
    return guard


def _end(pid: int) -> None:
    """The program and what it has left behind: a group of processes is named by its first."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


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


def _become(argv: list[str], stderr: int, keeper: int, held: int) -> None:
    """The program, once ``held`` says that all who would end it are there."""
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper or not os.read(held, 1):
            os._exit(1)  # it was killed before that could tell
        os.dup2(stderr, 2)
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is the point
    except (OSError, ValueError) as error:
        os.write(2, f"{argv[0]}: {error}\n".encode(errors="replace"))
    os._exit(127)


def _told(_number: int, _frame: object) -> None:
    raise _Told


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

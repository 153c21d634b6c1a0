"""A process between us and a program of a person's, which ends with us, with all it started.

::

    caller ── guard ── the program ── whatever it starts

For git that talks to a person's source: its receiving side and that repository's own hooks know
nothing of us and would live on until they are done.  They are that person's policy, so they keep
their privileges, their umask and their view of the machine, and what they leave running after a
good end is left alone; all of that a session's namespace would take from them.

The guard is a subreaper: whatever detaches itself below it stays below it.  When its parent dies
(or tells it to by ``steps.KILL_SIGNAL``) it ends everything: TERM, so that git removes its locks,
a moment of grace, then KILL.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from swarm.sandbox import kernel, trees
from swarm.sandbox.keeper import close_all_but, has_children
from swarm.sandbox.steps import KILL_SIGNAL, ORDERS, default_signals, die_with

GRACE_SECONDS = 0.5
"""Between TERM and KILL: nothing may be left two seconds after the supervisor was killed."""
_LOOK_SECONDS = 0.05
_PROGRAM = str(Path(__file__).with_name("guard_program.py"))


def guard_command(seconds: float) -> tuple[str, ...]:
    """What to put before a program's argument list in a process that has threads.

    The program is ended after ``seconds``, or by a TERM to the guard.
    """
    return (sys.executable, "-I", "-S", _PROGRAM, str(os.getpid()), str(seconds))


def keep_guard(parent: int, become: Callable[[int], NoReturn]) -> NoReturn:
    """The guard's whole life, in a child just forked from a single-threaded ``parent``.

    Every signal must be blocked.  ``become`` is called in the guard's own child with the guard's
    pid, and turns into the program.  The guard ends as the program does.
    """
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        default_signals()
        os.setpgid(0, 0)
        die_with(parent, KILL_SIGNAL)
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        kernel.set_name("agentctl-guard")
        here = os.getpid()
        pid = os.fork()
        if pid == 0:
            become(here)
        _let_go()
        _end_as(_wait(pid))
    finally:
        os._exit(1)


def _let_go() -> None:
    """Hold nothing open that somebody waits for the end of."""
    close_all_but(())
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2):
        os.dup2(null, fd)


def _wait(pid: int) -> int:
    """The wait status of the program.  One that was killed takes the others along."""
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == pid:
            if os.WIFSIGNALED(status):
                _end_all()
            return status
        if ended == 0 and signal.sigwait({signal.SIGCHLD, *ORDERS}) in ORDERS:
            _end_all()
            os._exit(1)


def _end_all() -> None:
    """Return when nothing is left below."""
    here = os.getpid()
    end = time.monotonic() + GRACE_SECONDS
    trees.signal_tree(here, signal.SIGTERM)
    while has_children():
        if time.monotonic() >= end:
            trees.signal_tree(here, signal.SIGKILL)
        # A look at /proc can miss what is forked meanwhile: look again, and at each death.
        signal.sigtimedwait({signal.SIGCHLD}, _LOOK_SECONDS)


def _end_as(status: int) -> NoReturn:
    """End with the exit status, or by the signal, that the program ended with."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # a core of ours would tell nobody anything
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)

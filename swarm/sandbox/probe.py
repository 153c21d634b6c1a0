"""What this machine can hold and hide, tried out rather than guessed: for ``doctor``, ``status``.

The result is what :func:`swarm.sandbox.launch.launch` will do on its own with no rung asked for.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from swarm.core.model import Containment
from swarm.sandbox import kernel
from swarm.sandbox.keeper import enter_namespaces, own_proc

_PID_NAMESPACE = 1
_OWN_PROC = 2
MINIMUM_ABI = 1


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What holds here."""

    containment: Containment
    """The best rung that works."""
    user_ns: bool
    """Whether it needs a user namespace: no privileges here, but the kernel lets us."""
    own_proc: bool
    """Whether a session sees only its own processes in ``/proc``."""
    landlock_abi: int
    """0: no file-system sandbox; from 6 on, signals stay inside too."""

    @property
    def sandboxed(self) -> bool:
        """Whether ``sandbox: required`` may promote."""
        return self.landlock_abi >= MINIMUM_ABI

    @property
    def problems(self) -> tuple[str, ...]:
        """One line each for what is missing, with what it means and the remedy."""
        found = []
        if self.containment is Containment.DESCENT:
            found.append(
                "no PID namespaces: a session that clears its environment and double-forks can "
                "get away; allow unprivileged user namespaces "
                "(sysctl kernel.unprivileged_userns_clone=1, "
                "kernel.apparmor_restrict_unprivileged_userns=0)"
            )
        elif not self.own_proc:
            found.append(
                "sessions see the machine's /proc: mounting another one is refused, "
                "as in a container that masks /proc"
            )
        if not self.sandboxed:
            found.append(
                "no Landlock: sessions can read what you can; use Linux 5.13 or newer with "
                "landlock in /sys/kernel/security/lsm"
            )
        return tuple(found)


def what_holds() -> Capabilities:
    """Try it in a child process; takes a few milliseconds.  The caller must be single-threaded."""
    for user_ns in (False, True):
        got = _try(user_ns)
        if got & _PID_NAMESPACE:
            return Capabilities(
                Containment.PID_NAMESPACE,
                user_ns,
                bool(got & _OWN_PROC),
                kernel.landlock_abi(),
            )
    return Capabilities(Containment.DESCENT, False, False, kernel.landlock_abi())


def _try(user_ns: bool) -> int:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _attempt(user_ns)
    except OSError:
        return 0  # no process to be had: nothing can be started at all
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _, status = os.waitpid(pid, 0)
    return max(0, os.waitstatus_to_exitcode(status))


def _attempt(user_ns: bool) -> None:
    """In a child: exits with what worked."""
    got = 0
    try:
        enter_namespaces(Containment.PID_NAMESPACE, user_ns)
        init = os.fork()
        if init == 0:
            try:
                own_proc()
                os._exit(_OWN_PROC)
            finally:
                os._exit(0)
        _, status = os.waitpid(init, 0)
        got = _PID_NAMESPACE | max(0, os.waitstatus_to_exitcode(status))
    finally:
        os._exit(got)

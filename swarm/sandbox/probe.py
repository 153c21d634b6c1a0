"""What this machine can hold, hide and limit, tried out rather than guessed.

For ``doctor`` and ``status``.  The result is what :func:`swarm.sandbox.launch.launch` will do on
its own with no rung asked for.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from swarm.core.model import Containment
from swarm.sandbox import kernel
from swarm.sandbox.cgroup_place import NOWHERE, Place
from swarm.sandbox.keeper import enter_namespaces, own_proc
from swarm.sandbox.landlock import MINIMUM_ABI, NETWORK_ABI, SCOPE_ABI

_PID_NAMESPACE = 1
_OWN_PROC = 2


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
    """0: no file-system sandbox."""
    place: Place = NOWHERE
    """Where sessions get cgroups of their own."""

    @property
    def sandboxed(self) -> bool:
        """Whether ``sandbox: required`` may promote."""
        return self.landlock_abi >= MINIMUM_ABI

    ALL_COVERED: ClassVar[Mapping[str, int]] = {
        "files": MINIMUM_ABI,
        "TCP ports": NETWORK_ABI,
        "signals": SCOPE_ABI,
        "abstract sockets": SCOPE_ABI,
    }
    """What a session can be kept from, in words for people → the Landlock ABI that can."""

    @property
    def landlock_covers(self) -> tuple[str, ...]:
        """What of it this kernel can."""
        return tuple(what for what, abi in self.ALL_COVERED.items() if self.landlock_abi >= abi)

    @property
    def limits_by(self) -> str:
        """``cgroup-v2``, ``cgroup-v1`` or ``sampling``."""
        return self.place.limits_by

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
        elif self.containment is Containment.CGROUP:
            found.append(
                "no PID namespaces: a cgroup holds sessions together, and they see the machine's "
                "/proc and sockets; allow unprivileged user namespaces "
                "(sysctl kernel.unprivileged_userns_clone=1, "
                "kernel.apparmor_restrict_unprivileged_userns=0)"
            )
        elif not self.own_proc:
            found.append(
                "sessions see the machine's /proc, as another one is refused; in a container allow "
                "it, e.g. docker run --security-opt systempaths=unconfined"
            )
        if not self.sandboxed:
            found.append(
                "no Landlock: sessions can read what you can; use Linux 5.13 or newer with "
                "landlock in /sys/kernel/security/lsm"
            )
        return tuple(found)


def what_holds(place: Place = NOWHERE) -> Capabilities:
    """Try it in a child process; takes a few milliseconds.  The caller must be single-threaded.

    ``place`` is where cgroups can be made, as ``cgroup_place`` found out.
    """
    for user_ns in (False, True):
        got = _try(user_ns)
        if got & _PID_NAMESPACE:
            return Capabilities(
                Containment.PID_NAMESPACE,
                user_ns,
                bool(got & _OWN_PROC),
                kernel.landlock_abi(),
                place,
            )
    rung = Containment.CGROUP if place.version else Containment.DESCENT
    return Capabilities(rung, False, False, kernel.landlock_abi(), place)


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

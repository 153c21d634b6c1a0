"""Ask the person's systemd for a scope of our own, with its cgroup delegated to us.

Only where a user manager runs; nothing is lost when it does not answer.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping

_ASK_SECONDS = 2.0
_MOVE_SECONDS = 1.0


def own_scope(environ: Mapping[str, str], pid: int) -> bool:
    """Whether ``pid`` is now alone in a delegated scope; takes 3 seconds at the very most."""
    if not may_ask(environ):
        return False
    runtime = environ["XDG_RUNTIME_DIR"]
    name = f"agentctl-{pid}.scope"
    try:
        asked = subprocess.run(
            call(name, pid),
            env={"PATH": environ.get("PATH", os.defpath), "XDG_RUNTIME_DIR": runtime},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    end = time.monotonic() + _MOVE_SECONDS
    while asked.returncode == 0:
        if is_in(name, pid):
            return True
        if time.monotonic() > end:
            break
        time.sleep(0.01)  # the manager answers before it has moved us
    return False


def may_ask(environ: Mapping[str, str]) -> bool:
    """Whether a user manager runs that could be asked."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return runtime.startswith("/") and os.path.exists(f"{runtime}/systemd/private")


def call(name: str, pid: int) -> tuple[str, ...]:
    """The program to run: org.freedesktop.systemd1(5), ``StartTransientUnit``."""
    return (
        *("busctl", "--user", "--quiet", "call", "org.freedesktop.systemd1"),
        *("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit"),
        *("ssa(sv)a(sa(sv))", name, "fail", "4"),
        *("PIDs", "au", "1", str(pid)),
        *("Delegate", "b", "true"),
        *("Description", "s", "agentctl swarm"),
        *("CollectMode", "s", "inactive-or-failed"),
        "0",
    )


def is_in(name: str, pid: int) -> bool:
    """Whether the process is in a cgroup of that name."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii", errors="replace") as file:
            return any(line.rstrip().endswith(f"/{name}") for line in file)
    except OSError:
        return False

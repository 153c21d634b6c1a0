"""What ``doctor`` says of this kernel: what it holds together, hides and limits for sessions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from swarm.cli.check import Check, Level
from swarm.config.places import Places
from swarm.config.roles import load_role
from swarm.config.settings import Limits, Settings
from swarm.core.model import Containment
from swarm.errors import ConfigError
from swarm.sandbox import oom
from swarm.sandbox.cgroup_place import Place, find
from swarm.sandbox.landlock import NETWORK_ABI
from swarm.sandbox.probe import Capabilities, what_holds
from swarm.sandbox.scope import may_ask

_KEPT = {"memory": "memory", "pids": "processes", "cpu": "processor time"}
_NEVER = "UDP is never covered"


def check_kernel(places: Places, settings: Settings) -> Iterator[Check]:
    """Tried out, as a session's start would do it; nothing is left of it."""
    holds = what_holds(find())
    yield from _sandbox(holds)
    yield _landlock(holds)
    yield _limits(holds.place, _limits_of(places, settings))
    yield _oom()
    yield from _networks(places, settings, holds)


def _sandbox(holds: Capabilities) -> Iterator[Check]:
    for problem in holds.problems:
        what, _, remedy = problem.partition("; ")
        yield Check("sandbox", Level.WARN, what, remedy)
    held = f"sessions are held by {holds.containment}"
    if holds.containment is Containment.PID_NAMESPACE:
        held += " in a user namespace" if holds.user_ns else " without a user namespace"
    see = "see a /proc of their own" if holds.own_proc else "see the machine's /proc"
    yield Check("sandbox", Level.OK, f"{held}, {see}")


def _landlock(holds: Capabilities) -> Check:
    if not holds.sandboxed:
        return Check(
            "landlock", Level.WARN, "none", "use Linux 5.13 or newer with landlock in its lsm list"
        )
    covers = ", ".join(holds.landlock_covers)
    missing = [what for what in Capabilities.ALL_COVERED if what not in holds.landlock_covers]
    found = f"ABI {holds.landlock_abi} covers {covers}; {_NEVER}"
    if missing:
        return Check(
            "landlock",
            Level.WARN,
            f"{found}, nor here {', '.join(missing)}",
            "use Linux 6.12 or newer for all of it",
        )
    return Check("landlock", Level.OK, found)


def _limits(place: Place, wanted: Iterable[Limits]) -> Check:
    """Who keeps the limits of a session; each that the kernel cannot keep is told."""
    if not place.version and may_ask(os.environ):
        return Check("limits", Level.OK, "kept by a cgroup that 'up' asks your systemd for")
    kept = [what for name, what in _KEPT.items() if name in place.enforces]
    sampled = [what for name, what in _KEPT.items() if name not in place.enforces]
    capped = any(limits.cpu_percent is not None for limits in wanted)
    parts = []
    if kept:
        where = next(iter(place.bases.values()))
        parts.append(f"cgroup v{place.version} in {where} keeps {', '.join(kept)}")
    if rest := [what for what in sampled if what != _KEPT["cpu"]]:
        parts.append(f"sampling keeps {', '.join(rest)}")
    if _KEPT["cpu"] in sampled:
        parts.append("processor time is not capped, sessions run at a lower priority")
    found = "; ".join(parts)
    if not sampled:
        return Check("limits", Level.OK, found)
    if "memory" not in place.enforces or capped:
        return Check(
            "limits",
            Level.WARN,
            found.replace("; ", ", "),
            "start the swarm under systemd with Delegate=yes ('agentctl swarm service' does), "
            "or as a user whose systemd runs",
        )
    return Check("limits", Level.OK, found)


def _oom() -> Check:
    told = f"sessions are taken first when memory runs out (oom_score_adj +{oom.SESSION})"
    if oom.may_protect():
        return Check("oom", Level.OK, f"{told}, the supervisor last ({oom.SUPERVISOR})")
    return Check("oom", Level.OK, f"{told}; protecting the supervisor too takes privileges")


def _limits_of(places: Places, settings: Settings) -> list[Limits]:
    """The swarm's, and those of each role of the fleet that can be read."""
    from swarm.config.roles import effective_limits

    found = [settings.limits]
    for entry in settings.agents:
        try:
            found.append(effective_limits(settings.limits, load_role(entry.role, places.roles)))
        except ConfigError:
            continue  # told by the check of programs
    return found


def _networks(places: Places, settings: Settings, holds: Capabilities) -> Iterator[Check]:
    """Roles whose list of ports this kernel cannot keep."""
    if holds.landlock_abi >= NETWORK_ABI:
        return
    for entry in settings.agents:
        try:
            role = load_role(entry.role, places.roles)
        except ConfigError:
            continue  # told by the check of programs
        if role.network is None:
            continue
        refused = role.sandbox == "required"
        yield Check(
            f"role {entry.role}",
            Level.BAD if refused else Level.WARN,
            f"its network list cannot be kept: Landlock ABI {holds.landlock_abi} knows no ports"
            + (", and it requires the sandbox: it runs no session" if refused else ""),
            "use Linux 6.7 or newer, or remove 'network' from the role",
        )

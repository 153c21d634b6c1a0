"""What an agent of a role takes and offers, as its files say it."""

from __future__ import annotations

from swarm.config.runtimes import resolve_runtime
from swarm.config.settings import Role, Settings
from swarm.core.matching import Takes, implied_labels, joined, role_takes
from swarm.errors import ConfigError


def offered_labels(role: Role, settings: Settings) -> dict[str, tuple[str, ...]]:
    """Label → values an agent of the role takes: those it names, and those its runtime implies."""
    try:
        runtime = resolve_runtime(role.runtime, settings)
    except ConfigError:
        return joined(role.labels)  # told where such an agent would start
    return joined(role.labels, implied_labels(runtime.name, runtime.adapter, role.model))


def takes_of_role(name: str, role: Role, settings: Settings) -> Takes:
    """What an agent of the role takes."""
    return role_takes((name, *role.takes), role.lanes, offered_labels(role, settings))

"""What the fleet machine knows of the configuration: numbers, all of them live on reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarm.core.budget import Amount, RoleBudget
from swarm.core.life import Terms
from swarm.core.limits import SessionLimits
from swarm.core.restart import RestartPolicy

SERVICE_BEAT_SECONDS = 5.0
"""Services beat this often whatever ``health.heartbeat_seconds`` says."""
DEMOTION_SECONDS = 20.0
"""Beside the grace: what a daemon may take to salvage, fetch and report after its session."""
NOW_SECONDS = 5.0
"""A stop without grace: what a daemon may take to empty the tree and write its report."""
SERVICE_STOP_SECONDS = 10.0
"""What a service may take to exit."""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Times in seconds; see ``swarm.yaml`` for each."""

    max_active: int = 5
    min_free_memory_mb: int = 1024
    min_free_disk_mb: int = 2048
    session_memory_mb: int | None = None
    max_load: float | None = None
    """Load average a processor."""
    stagger_seconds: float = 0.0
    sample_seconds: float = 10.0
    session_limits: SessionLimits = field(default_factory=SessionLimits)
    role_limits: Mapping[str, SessionLimits] = field(default_factory=dict)
    """Of the roles that are known; :attr:`session_limits` of the others."""
    token_budget: int | None = None
    usd_budget: float | None = None
    budget_daily: bool = False
    """Budgets begin anew at midnight UTC."""
    warn_at: float = 0.8
    """Share of a budget from which a person is told."""
    budgets: Mapping[str, RoleBudget] = field(default_factory=dict)
    """By role: what each of its agents may spend, what its sessions are taken to cost."""
    heartbeat_seconds: float = 30.0
    misses: int = 3
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    grace_seconds: float = 10.0
    persist: bool = False
    ready_seconds: float = 30.0
    """From a process to its ``Ready``; a slow machine and a far chat server fit in."""
    up_seconds: float = 60.0
    """From the order to come up to everyone ready, or the start has failed."""
    quota_probe_seconds: float = 300.0
    """Between two probes of a quota without a known end (product, "Quota")."""
    runtimes: Mapping[str, str] = field(default_factory=dict)
    """Role → the runtime it names: a quota parks one runtime."""

    @property
    def budget(self) -> Amount:
        """The whole swarm's."""
        return Amount(self.token_budget, self.usd_budget)

    @property
    def daemon_terms(self) -> Terms:
        """How long each step of a daemon's life may take."""
        return Terms(ready_seconds=self.ready_seconds, stop_seconds=self.grace_seconds)

    @property
    def service_terms(self) -> Terms:
        """The same of a service."""
        return Terms(ready_seconds=self.ready_seconds, stop_seconds=SERVICE_STOP_SECONDS)

    @property
    def leave_seconds(self) -> float:
        """What a daemon may take to leave: the session's grace, then the demotion."""
        return self.grace_seconds + DEMOTION_SECONDS

    def limits_of(self, role: str) -> SessionLimits:
        """What a session of ``role`` may use."""
        return self.role_limits.get(role, self.session_limits)

    def beat_seconds(self, *, service: bool) -> float:
        """How often a child beats."""
        return (
            max(self.heartbeat_seconds, SERVICE_BEAT_SECONDS)
            if service
            else (self.heartbeat_seconds)
        )

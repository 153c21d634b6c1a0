"""``swarm status`` as far as the supervisor knows it (product, "Commands"), as JSON data.

Tasks and usage are the ledger's, and added by whoever asks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from swarm import __version__
from swarm.core.fleet_agents import Active, Agent, Asking, Cleaning, Demoting, Promoting, Service
from swarm.core.fleet_budget import standing
from swarm.core.fleet_state import FleetState
from swarm.core.gate import Pause, slots
from swarm.core.quota import Quota
from swarm.health.sampler import Sample
from swarm.logs import timestamp
from swarm.sandbox.probe import Capabilities
from swarm.supervisor.specs import Specs


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a status is made from."""

    fleet: FleetState
    specs: Specs
    samples: Mapping[str, Sample]
    capabilities: Capabilities
    started_at: float
    """Unix seconds."""
    generation: int = 1
    """How many programs have run this swarm, this one included: upgrades, and 1."""

    def whole(self) -> dict[str, Any]:
        """The supervisor's part of ``swarm status --json``."""
        limits = self.specs.configuration.settings.limits
        return {
            "version": 1,
            "swarm": self._swarm(),
            "limits": msgspec.to_builtins(limits),
            "budget": self.budget(),
            "agents": [self.agent(one) for one in self.fleet.agents.values()],
            "services": [self._service(one) for one in self.fleet.services.values()],
        }

    def agent(self, agent: Agent) -> dict[str, Any]:
        """One agent."""
        pulse = self.fleet.pulses.get(agent.name)
        return {
            "name": agent.name,
            "agent_id": agent.agent_id or None,
            "role": agent.role,
            "state": agent.state.value,
            "since": self._time(agent.since),
            "pid": agent.life.pid,
            "restarts": agent.life.restarts,
            "next_restart_at": self._time(agent.life.next_restart_at),
            "reason": agent.reason or (self.fleet.closed(agent) if agent.idle else "") or None,
            "last_heartbeat": self._time(pulse.heard_at) if pulse is not None else None,
            **self._sample(agent.name, agent.life.pid),
            "task": _task(agent),
            "warm": agent.warm,
            "leaving": agent.leaving,
        }

    def depth(self, agent: Agent) -> dict[str, Any]:
        """One agent, in depth: where it lies and what it may do."""
        configuration = self.specs.configuration
        role = configuration.role(agent.role)
        return {
            **self.agent(agent),
            "workspace": self.specs.workspace(agent.name),
            "log": str(self.specs.places.agent_log(agent.name)),
            "runtime": role.runtime,
            "model": role.model or None,
            "sandbox": role.sandbox,
            "last_crash": agent.life.last_crash or None,
            "limits": msgspec.to_builtins(configuration.limits(agent.role)),
            "budget": self.budget(agent.name),
        }

    def budget(self, agent: str = "") -> dict[str, Any]:
        """How the swarm's budget stands, or an agent's own; null is no limit, or not known."""
        fleet = self.fleet
        found = standing(fleet, agent)
        limit, spent, shares = found.limit, found.spent, found.shares
        return {
            "window": "day" if fleet.settings.budget_daily else "total",
            "resets_at": self._time(fleet.spending_resets_at),
            "tokens": _part(limit.tokens, spent.tokens, shares.get("tokens")),
            "usd": _part(limit.usd, spent.usd, shares.get("usd")),
            "warning": found.warning or None,
        }

    def _swarm(self) -> dict[str, Any]:
        fleet, configuration = self.fleet, self.specs.configuration
        holds = self.capabilities
        stop = fleet.stop
        return {
            "pid": os.getpid(),
            "version": __version__,
            "generation": self.generation,
            "home": str(self.specs.places.home),
            "started_at": timestamp(self.started_at),
            "chat_url": self.specs.chat_url or None,
            "channel": configuration.boot.chat.channel,
            "repo": configuration.repo.source,
            "gate": self._gate(),
            "paused": self._paused(fleet.paused or fleet.all_parked()),
            "quotas": [self._quota(one) for one in fleet.quotas.values()],
            "stopping": stop.stage if stop is not None else None,
            "config": {
                "path": str(configuration.path) if configuration.path else None,
                "ok": not configuration.problems,
                "problems": list(configuration.problems),
            },
            "containment": holds.containment.value,
            "landlock": holds.landlock_abi,
            "limits_by": holds.limits_by,
            "limits_enforced": list(holds.place.enforces),
            "problems": list(holds.problems),
            "active": fleet.active,
            "wanted": dict(fleet.wanted),
            "in_use": self._in_use(),
            "disk": self._disk(),
        }

    def _in_use(self) -> list[str] | None:
        """Agents whose workspaces nobody else may touch; ``None`` until all are known."""
        fleet = self.fleet
        if not fleet.started_daemons:
            return None
        return sorted({*fleet.agents, *fleet.to_tidy, *fleet.tidying})

    def _disk(self) -> dict[str, Any]:
        """Room below the home and the workspaces, the lower; null is not known."""
        free = self.fleet.free_disk_mb
        return {
            "free_mb": None if free is None else int(free),
            "min_free_mb": self.fleet.settings.min_free_disk_mb,
            "cleaning": self.fleet.cleaning,
        }

    def _gate(self) -> dict[str, Any]:
        """Whether a session could start now, and if not, why."""
        free, reason = slots(self.fleet.gate(), self.fleet.now)
        return {"open": free > 0, "reason": reason or None}

    def _paused(self, pause: Pause | None) -> dict[str, Any] | None:
        if pause is None:
            return None
        return {"reason": pause.reason, "until": self._time(pause.until)}

    def _quota(self, quota: Quota) -> dict[str, Any]:
        return {
            "runtime": quota.runtime or None,
            "reason": quota.reason or None,
            "until": self._time(quota.shown_until),
            "probing": quota.probe is not None,
        }

    def _service(self, service: Service) -> dict[str, Any]:
        return {
            "name": service.name,
            "state": service.life.state.value,
            "since": self._time(service.life.since),
            "pid": service.life.pid,
            "restarts": service.life.restarts,
            "address": service.address or None,
            "next_restart_at": self._time(service.life.next_restart_at),
            "reason": service.reason or None,
            **self._sample(service.name, service.life.pid),
        }

    def _sample(self, name: str, pid: int | None) -> dict[str, Any]:
        sample = self.samples.get(name) if pid is not None else None
        return {
            "memory_mb": sample.memory_mb if sample is not None else None,
            "cpu_percent": sample.cpu_percent if sample is not None else None,
        }

    def _time(self, at: float | None) -> str | None:
        """The fleet's clock as RFC 3339."""
        return None if at is None else timestamp(self.fleet.epoch + at)


def _part(limit: float | None, spent: float | None, share: float | None) -> dict[str, Any]:
    rounded = None if share is None else round(share, 4)
    return {"limit": limit, "spent": spent, "share": rounded}


def _task(agent: Agent) -> dict[str, Any] | None:
    match agent.work:
        case Active(task=task, attempt=attempt, session=session):
            return {
                "id": task,
                "attempt": attempt or None,
                "session_pid": session.pid,
                "started_at": timestamp(session.started_at),
            }
        case Promoting(task=task, attempt=attempt):
            return {
                "id": task,
                "attempt": attempt or None,
                "session_pid": None,
                "started_at": None,
            }
        case Asking(task=task) | Demoting(task=task) | Cleaning(task=task):
            return {"id": task, "attempt": None, "session_pid": None, "started_at": None}
        case _:
            return None

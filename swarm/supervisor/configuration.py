"""The configuration of a running swarm: what the file said at the start, and what it says now.

What needs a restart (``chat``, ``repo``) is taken from the start for as long as the swarm runs;
the rest from the last good file.  A reload that finds problems changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from swarm.config.load import load_settings
from swarm.config.places import Places
from swarm.config.roles import effective_limits, load_role, load_roles
from swarm.config.runtimes import missing_program, resolve_runtime
from swarm.config.settings import Limits, Repo, Role, Settings
from swarm.core.budget import Amount, RoleBudget
from swarm.core.fleet_settings import FleetSettings
from swarm.core.limits import SessionLimits
from swarm.core.plan import Plan, apportion, counts, plan, reconcile_counts
from swarm.core.restart import RestartPolicy
from swarm.errors import ConfigError, UsageError

MAX_AGENTS = 5000
"""Agents of one fleet; a slip of the finger must not take a machine down."""


class Overrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the command line says beside the file."""

    n: int | None = None
    roles: dict[str, int] = {}
    source: str | None = None


@dataclass(slots=True)
class Configuration:
    """Settings and roles in force; ``problems`` are those of the last file, if it was bad."""

    places: Places
    path: Path | None
    """The file; ``None`` while there is none."""
    named: Path | None
    """The file that was asked for by name."""
    boot: Settings
    settings: Settings
    file_roles: dict[str, Role]
    """Every role in use, as of the last good reading."""
    problems: tuple[str, ...] = ()
    extra: dict[str, Role] = field(default_factory=dict)

    # -- reading ----------------------------------------------------------------------------------

    @classmethod
    def read(cls, places: Places, named: Path | None, overrides: Overrides) -> Configuration:
        """The configuration a swarm starts with.

        Raises :class:`~swarm.errors.ConfigError` with every problem of the file and of the roles
        and runtimes it uses.
        """
        if named is not None and not named.exists():
            raise ConfigError([f"there is no file {named}"], "'agentctl init' writes swarm.yaml")
        path = named or places.config
        loaded = load_settings(path if path.exists() else None)
        settings = loaded.require()
        if overrides.source is not None and settings.repo.source is None:
            repo = msgspec.structs.replace(settings.repo, source=overrides.source)
            settings = msgspec.structs.replace(settings, repo=repo)
        names = [*file_counts(settings), *overrides.roles]
        made = cls(places, loaded.path, named, settings, settings, {})
        made.file_roles = made._checked_roles(settings, names)
        return made

    def wanted(self, overrides: Overrides) -> dict[str, int]:
        """How many agents of each role to start with: the file's, or those of ``--role``.

        ``-n`` is how many in all; the numbers of the roles are their proportions then.
        Raises :class:`~swarm.errors.UsageError` for a number nobody can mean.
        """
        wanted = file_counts(self.settings)
        if overrides.roles:
            wanted = dict.fromkeys(wanted, 0) | overrides.roles
        if overrides.n is not None:
            weights = {role: n for role, n in wanted.items() if n} or wanted
            try:
                wanted = dict.fromkeys(wanted, 0) | apportion(overrides.n, weights)
            except ValueError as error:
                raise UsageError(str(error), "name roles with --role") from None
        check_count(sum(wanted.values()))
        return wanted

    def reread(self) -> tuple[Configuration, Plan]:
        """What a reload would make of it, and the difference, file to file.

        Raises :class:`~swarm.errors.ConfigError` with every problem; nothing has changed then.
        """
        path = self.named or self.places.config
        loaded = load_settings(path if path.exists() or self.named is not None else None)
        settings = loaded.require()
        if settings.repo.source is None and self.boot.repo.source is not None:
            # It came from the command line, or its change needs a restart that shows anyway.
            repo = msgspec.structs.replace(settings.repo, source=self.settings.repo.source)
            settings = msgspec.structs.replace(settings, repo=repo)
        roles = self._checked_roles(settings, [*file_counts(settings), *self.extra])
        new = replace(
            self,
            path=loaded.path,
            settings=settings,
            file_roles=roles,
            extra={name: roles[name] for name in self.extra},
            problems=(),
        )
        return new, plan(_data(self), _data(new))

    def counts_after(self, new: Configuration, running: Mapping[str, int]) -> dict[str, int]:
        """The counts after a reload; what the file did not change keeps its runtime value."""
        old_file, new_file = file_counts(self.settings), file_counts(new.settings)
        return reconcile_counts(old_file, {**dict.fromkeys(running, 0), **new_file}, running)

    def _checked_roles(self, settings: Settings, names: list[str]) -> dict[str, Role]:
        roles = load_roles(names, self.places.roles)
        problems: list[str] = []
        remedy = ""
        for name, role in roles.items():
            try:
                resolve_runtime(role.runtime, settings)
            except ConfigError as error:
                problems += [f"role {name}: {problem}" for problem in error.problems]
                remedy = error.remedy
        if problems:
            raise ConfigError(problems, remedy)
        return roles

    # -- asking -----------------------------------------------------------------------------------

    def role(self, name: str) -> Role:
        """A role; one that only ``scale`` brought in is read now.

        Raises :class:`~swarm.errors.ConfigError`.
        """
        known = self.file_roles.get(name) or self.extra.get(name)
        if known is None:
            known = load_role(name, self.places.roles)
            resolve_runtime(known.runtime, self.settings)
            self.extra[name] = self.file_roles[name] = known
        return known

    def limits(self, role: str) -> Limits:
        """The limits of one session of a role."""
        return effective_limits(self.settings.limits, self.role(role))

    @property
    def repo(self) -> Repo:
        """The repository of this run; changing it needs a restart."""
        return self.boot.repo

    def warnings(self, environ: Mapping[str, str]) -> list[str]:
        """Runtimes whose program is not there: told at ``up``, and a failed attempt later."""
        said = []
        for role in self.file_roles.values():
            missing = missing_program(resolve_runtime(role.runtime, self.settings), environ)
            if missing and missing not in said:
                said.append(missing)
        return said

    def fleet(self) -> FleetSettings:
        """The numbers the fleet machine goes by."""
        settings = self.settings
        restart = settings.restart
        return FleetSettings(
            max_active=settings.limits.max_active,
            min_free_memory_mb=settings.limits.min_free_memory_mb,
            min_free_disk_mb=settings.limits.min_free_disk_mb,
            session_memory_mb=settings.limits.memory_mb,
            max_load=settings.limits.max_load,
            stagger_seconds=settings.limits.stagger_seconds,
            sample_seconds=settings.health.sample_seconds,
            session_limits=_session_limits(settings.limits),
            role_limits={name: _session_limits(self.limits(name)) for name in self.file_roles},
            token_budget=settings.limits.token_budget,
            usd_budget=settings.limits.usd_budget,
            budget_daily=settings.limits.budget_window == "day",
            warn_at=settings.limits.warn_at,
            budgets={name: _role_budget(role) for name, role in self.file_roles.items()},
            heartbeat_seconds=settings.health.heartbeat_seconds,
            misses=settings.health.misses,
            policy=RestartPolicy(
                base_seconds=restart.base_seconds,
                cap_seconds=restart.cap_seconds,
                stable_seconds=restart.stable_seconds,
                max_restarts=restart.max_restarts,
                window_seconds=restart.window_seconds,
            ),
            grace_seconds=settings.stop.grace_seconds,
            persist=settings.persist or settings.chat.url is not None,
            quota_probe_seconds=settings.limits.quota_probe_minutes * 60,
            runtimes={name: role.runtime for name, role in self.file_roles.items()},
        )


def _role_budget(role: Role) -> RoleBudget:
    limits, estimate = role.limits, role.estimate
    return RoleBudget(
        Amount(limits.token_budget, limits.usd_budget), Amount(estimate.tokens, estimate.usd)
    )


def _session_limits(limits: Limits) -> SessionLimits:
    return SessionLimits(limits.memory_mb, limits.max_processes, limits.stall_minutes * 60)


def _data(one: Configuration) -> dict[str, Any]:
    """Settings and roles as plain data, to be compared."""
    data: dict[str, Any] = msgspec.to_builtins(one.settings)
    data["roles"] = {name: msgspec.to_builtins(role) for name, role in one.file_roles.items()}
    return data


def file_counts(settings: Settings) -> dict[str, int]:
    """The ``agents`` list as role → count."""
    return counts(msgspec.to_builtins(settings.agents))


def check_count(total: int) -> None:
    """Raise :class:`~swarm.errors.UsageError` for a fleet larger than any we start."""
    if total > MAX_AGENTS:
        raise UsageError(f"{total} agents are more than {MAX_AGENTS}", "ask for fewer")

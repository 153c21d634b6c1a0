"""What each child is born with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from swarm.config.keeping import lifetimes
from swarm.config.places import Places, expanded
from swarm.config.roles import resolve_secrets
from swarm.config.runtimes import resolve_runtime
from swarm.config.settings import Limits, Notify, Repo, Role
from swarm.config.takes import offered_labels
from swarm.core.model import Merge, Review, bare_id, split_agent_name
from swarm.sandbox.environment import scrubbed
from swarm.sessions.launching import STATE_VARIABLES
from swarm.spawner.identity import load_identity
from swarm.supervisor.configuration import Configuration
from swarm.wire import lifeline
from swarm.wire.spawn import CleanerSpec, DaemonSpec, JanitorSpec, RuntimeSpec, ServiceSpec

LEASE_SECONDS = 90.0
"""Shortest lease: three heartbeats of the default."""
MAX_ENVIRON = 64 * 1024
"""Bytes of environment handed to a daemon; variables beyond it are left out, longest first."""


@dataclass(slots=True)
class Specs:
    """Writes the spec of each child from the configuration in force."""

    places: Places
    home_id: str
    configuration: Configuration
    environ: Mapping[str, str]
    coordinator_id: str
    operator_id: str
    chat_url: str = ""
    """Where the fleet meets; the embedded server's own address once it listens."""
    chat_listen: str = ""
    """What the embedded server was given by the kernel: a restarted one listens there again."""
    api_listen: str = ""
    """The same of the HTTP interface."""
    cgroups: dict[str, str] = field(default_factory=dict)
    """Where sessions get theirs, as ``DaemonSpec.cgroups`` has it."""
    workspaces: dict[str, str] = field(default_factory=dict)
    """Agent → workspace: an agent keeps its own when ``workspace_base`` changes."""
    _badge: str = ""

    @property
    def base(self) -> Path:
        """Where new workspaces are made; :class:`~swarm.errors.UsageError` for nobody's ``~``."""
        return expanded(Path(self.configuration.settings.workspace_base), "workspace_base")

    def workspace(self, name: str) -> str:
        """The workspace of an agent."""
        return self.workspaces.setdefault(name, str(self.base / name))

    def daemon(self, name: str) -> bytes:
        """Raises :class:`~swarm.errors.SwarmError` when role or secrets cannot be read."""
        configuration = self.configuration
        split = split_agent_name(name)
        assert split is not None, name
        role_name = split[0]
        role = configuration.role(role_name)
        runtime = resolve_runtime(role.runtime, configuration.settings)
        spec = DaemonSpec(
            name=name,
            role=role_name,
            workspace=self.workspace(name),
            home=str(self.places.home),
            home_id=self.home_id,
            chat_url=self.chat_url,
            channel=configuration.boot.chat.channel,
            coordinators=self.coordinators(),
            heartbeat_seconds=configuration.settings.health.heartbeat_seconds,
            runtime=runtime,
            role_prompt=role.prompt,
            model=role.model,
            bypass_permissions=role.bypass_permissions,
            sandbox=role.sandbox,
            takes=role.takes,
            read=role.read,
            write=role.write,
            network=role.network,
            cgroups=self.cgroups,
            secrets=resolve_secrets(role_name, role, self.environ),
            environ=_capped(_of_use(self.environ, runtime)),
            badge=self.badge(),
        )
        return msgspec.json.encode(spec)

    def service(self, name: str) -> bytes:
        """``chat``, ``coordinator`` or ``api``."""
        configs = {"chat": self._chat, "api": self._api}
        config = configs.get(name, self._coordinator)()
        spec = ServiceSpec(
            name=name, home=str(self.places.home), home_id=self.home_id, config=config
        )
        return msgspec.json.encode(spec)

    def janitor(self, workspaces: tuple[str, ...]) -> bytes:
        """One pass over these workspaces."""
        spec = JanitorSpec(home=str(self.places.home), home_id=self.home_id, workspaces=workspaces)
        return msgspec.json.encode(spec)

    def cleaner(self, left: tuple[str, ...]) -> bytes:
        """One clean-up by what ``keep`` says now; ``left`` are workspaces without an agent."""
        terms = lifetimes(self.configuration.settings.keep)
        spec = CleanerSpec(
            home=str(self.places.home),
            home_id=self.home_id,
            left=left,
            workspaces=terms.workspaces,
            branches=terms.branches,
            logs=terms.logs,
            log_bytes=terms.log_bytes,
            folders=terms.folders,
        )
        return msgspec.json.encode(spec)

    def tuning(self, name: str) -> lifeline.Tuning:
        """The live settings of a daemon."""
        settings = self.configuration.settings
        split = split_agent_name(name)
        limits = self.configuration.limits(split[0]) if split else settings.limits
        return lifeline.Tuning(
            heartbeat_seconds=settings.health.heartbeat_seconds,
            coordinators=self.coordinators(),
            max_task_seconds=limits.max_task_minutes * 60,
            grace_seconds=settings.stop.grace_seconds,
            memory_mb=limits.memory_mb,
            cpu_percent=limits.cpu_percent,
            max_processes=limits.max_processes,
        )

    def badge(self) -> str:
        """What tells our daemons from guests on the embedded server; none for another server.

        Made from a key that no session can read, and the same in every life of the supervisor:
        a chat server that outlives one goes on knowing who is who.
        """
        if self.configuration.boot.chat.url is None and not self._badge:
            key = load_identity(self.places.coordinator_identity)
            self._badge = key.sign(b"agentctl chat badge " + self.home_id.encode()).hex()[:32]
        return self._badge

    def rules(self) -> lifeline.Rules:
        """The live settings of the coordinator; ``""`` is any role that is not named."""
        configuration = self.configuration
        anyone = configuration.settings.limits
        roles = {
            name: _role_rules(
                configuration.limits(name), role, offered_labels(role, configuration.settings)
            )
            for name, role in configuration.file_roles.items()
        }
        return lifeline.Rules(
            coordinators=self.coordinators(),
            announcers=self.announcers(),
            roles={"": _role_rules(anyone, Role(), {}), **roles},
            operator=self.operator_id,
            landing=_landing_rules(configuration.settings.repo, self.cgroups),
            notify=tuple(map(_notify_rule, configuration.settings.notify)),
            inbox=self._inbox_rules(),
        )

    def _inbox_rules(self) -> lifeline.InboxRules:
        inbox = self.configuration.settings.inbox
        if not inbox.enabled:
            return lifeline.InboxRules()
        path = self.places.inbox if inbox.path is None else expanded(Path(inbox.path), "inbox.path")
        return lifeline.InboxRules(
            path=str(path),
            settle_seconds=inbox.settle_seconds,
            role=inbox.role,
            component=inbox.component,
            priority=inbox.priority,
            lane=inbox.lane,
            review=None if inbox.review is None else Review(inbox.review),
        )

    def coordinators(self) -> tuple[str, ...]:
        """Whose ``ASSIGN`` is obeyed: our own, and those the configuration names."""
        named = self.configuration.settings.chat.coordinators
        return tuple(dict.fromkeys((self.coordinator_id, *map(bare_id, named))))

    def announcers(self) -> tuple[str, ...]:
        """Whose announcements are taken in; the operator's always (rules, "The operator")."""
        named = self.configuration.settings.chat.announcers
        return tuple(dict.fromkeys((self.operator_id, *map(bare_id, named))))

    def _chat(self) -> dict[str, object]:
        chat = self.configuration.boot.chat
        return {
            "listen": self.chat_listen or chat.listen,
            "channel": chat.channel,
            "trusted": [self.coordinator_id, self.operator_id],
            "badge": self.badge(),
        }

    def _api(self) -> dict[str, object]:
        api = self.configuration.boot.api
        return {"listen": self.api_listen or api.listen, "decide": api.decide}

    def _coordinator(self) -> dict[str, object]:
        configuration = self.configuration
        repo = configuration.repo
        beats = configuration.settings.health
        return {
            "chat_url": self.chat_url,
            "channel": configuration.boot.chat.channel,
            "identity": str(self.places.coordinator_identity),
            "ledger": str(self.places.ledger),
            "hub": str(self.places.hub),
            "repo": {
                "source": repo.source,
                "target": repo.target,
                "author": repo.author,
                "clone": repo.clone,
            },
            "lease_seconds": max(LEASE_SECONDS, beats.heartbeat_seconds * (beats.misses + 1)),
            "coordinators": list(self.coordinators()),
            "announcers": list(self.announcers()),
            "roles": {
                name: list(dict.fromkeys((name, *role.takes)))
                for name, role in configuration.file_roles.items()
            },
        }


def _role_rules(
    limits: Limits, role: Role, labels: dict[str, tuple[str, ...]]
) -> lifeline.RoleRules:
    return lifeline.RoleRules(
        task_token_budget=limits.task_token_budget,
        task_usd_budget=limits.task_usd_budget,
        estimate_tokens=role.estimate.tokens,
        estimate_usd=role.estimate.usd,
        lanes=role.lanes,
        labels=labels,
        review=None if role.review is None else Review(role.review),
        retries=role.retries,
        retry_seconds=role.retry_seconds,
        network=role.network,
        memory_mb=limits.memory_mb,
        max_processes=limits.max_processes,
        cpu_percent=limits.cpu_percent,
    )


def _landing_rules(repo: Repo, cgroups: dict[str, str]) -> lifeline.LandingRules:
    return lifeline.LandingRules(
        merge=Merge(repo.merge),
        checks=repo.checks,
        check_seconds=repo.check_minutes * 60,
        publish=repo.publish or "",
        review=Review(repo.review),
        max_revisions=repo.max_revisions,
        cgroups=cgroups,
    )


def _notify_rule(notify: Notify) -> lifeline.NotifyRule:
    return lifeline.NotifyRule(
        on=notify.on,
        command=notify.command or (),
        webhook=notify.webhook or "",
        timeout_seconds=notify.timeout_seconds,
    )


def _of_use(environ: Mapping[str, str], runtime: RuntimeSpec) -> dict[str, str]:
    """What a daemon may ever need of the person's environment.

    The rest is no business of its sessions, and each variable is paid once for each daemon.
    """
    wanted = {"HOME", *STATE_VARIABLES, *runtime.pass_env}
    return scrubbed(environ) | {name: environ[name] for name in wanted if name in environ}


def _capped(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, bounded: it travels in one packet with the rest of the spec."""
    kept = dict(environ)
    size = sum(len(key) + len(value) + 8 for key, value in kept.items())
    for key in sorted(kept, key=lambda k: -len(kept[k])):
        if size <= MAX_ENVIRON:
            break
        size -= len(key) + len(kept.pop(key)) + 8
    return kept

"""The typed form of ``swarm.yaml`` and of a role file (product contract, "swarm.yaml")."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of the file: unknown keys are problems, defaults are the product's."""


class AgentsEntry(_Settings, frozen=True):
    """So many agents of a role."""

    role: str
    count: Count = 1


class ChatSettings(_Settings, frozen=True):
    """Where the fleet meets."""

    url: str | None = None
    listen: str = "127.0.0.1:6667"
    channel: str = "#agents"
    coordinators: tuple[str, ...] = ()
    announcers: tuple[str, ...] = ()


class Limits(_Settings, frozen=True):
    """What the swarm may use."""

    max_active: Count = 5
    memory_mb: Annotated[int, msgspec.Meta(gt=0)] | None = None
    cpu_percent: Annotated[int, msgspec.Meta(gt=0)] | None = None
    max_processes: Annotated[int, msgspec.Meta(gt=0)] | None = 2000
    """Processes of one session's tree; a fork bomb ends there."""
    max_task_minutes: Seconds = 30
    stall_minutes: Seconds = 10
    token_budget: Count | None = None
    usd_budget: Seconds | None = None
    budget_window: Literal["total", "day"] = "total"
    task_token_budget: Count | None = None
    """Each task, all its attempts together; a role or the task itself may say otherwise."""
    task_usd_budget: Seconds | None = None
    warn_at: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.8
    min_free_memory_mb: Count = 1024
    min_free_disk_mb: Count = 2048
    """Free below the home and the workspaces; with less no session starts, and what may go goes."""
    max_load: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Load average (1 minute) a processor above which no session starts; ``None`` asks nothing."""
    quota_probe_minutes: Annotated[float, msgspec.Meta(gt=0)] = 5
    """Between two probes of a runtime whose quota ends nobody knows when."""
    stagger_seconds: Seconds = 1
    """Between two session starts while the machine is busy (:mod:`swarm.core.gate` says when)."""


class Health(_Settings, frozen=True):
    """How life is watched."""

    heartbeat_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30
    misses: Annotated[int, msgspec.Meta(ge=1)] = 3
    sample_seconds: Annotated[float, msgspec.Meta(gt=0)] = 10


class Restart(_Settings, frozen=True):
    """When a child that died may run again."""

    base_seconds: Seconds = 1
    cap_seconds: Seconds = 300
    stable_seconds: Seconds = 300
    max_restarts: Count = 5
    window_seconds: Seconds = 1800


class StopSettings(_Settings, frozen=True):
    """How long a session may take to save its work."""

    grace_seconds: Seconds = 10


class Repo(_Settings, frozen=True):
    """The repository the fleet works on."""

    source: str | None = None
    target: str = "main"
    author: str | None = None
    clone: Literal["shared", "copy"] = "shared"
    checks: tuple[str, ...] = ()
    check_minutes: Seconds = 10
    """All checks of one landing together; 0 is no limit."""
    merge: Literal["squash", "merge", "rebase", "none"] = "squash"
    """How a branch lands; ``none``: it stays a branch."""
    publish: str | None = "swarm/{target}"
    """The source's branch landed work is pushed to; ``None`` does not."""
    review: Literal["none", "agent", "human"] = "none"
    max_revisions: Count = 2


NoticeName = Literal[
    "*", "needs_human", "review", "merged", "done", "failed", "plan",
    "degraded", "quota", "budget", "disk", "publish",
]  # fmt: skip


class Notify(_Settings, frozen=True):
    """One way to tell a person: a program or an address, for some kinds of event."""

    on: tuple[NoticeName, ...] = ("needs_human", "review", "failed", "degraded")
    command: tuple[str, ...] | None = None
    """Its argv, taken as it is; what happened comes as JSON on its standard input."""
    webhook: str | None = None
    """An http(s) address that the same JSON is posted to."""
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=600)] = 30


class Inbox(_Settings, frozen=True):
    """The folder whose new files and folders become tasks."""

    enabled: bool = True
    path: str | None = None
    """``None``: ``inbox`` in the home."""
    settle_seconds: Seconds = 2
    """How long a drop must not have changed before it is taken in."""
    role: str = "builder"
    component: str = ""
    priority: Annotated[int, msgspec.Meta(ge=-100, le=100)] = 0
    lane: str = ""
    review: Literal["none", "agent", "human"] | None = None


class Keep(_Settings, frozen=True):
    """How long things of ended tasks stay: days, 0 is for ever; ``agentctl clean`` removes them."""

    workspaces_days: Seconds = 7
    """Of agents that are gone."""
    branches_days: Seconds = 30
    """Of tasks that have landed or were given up; unlanded commits go to salvage first."""
    logs_days: Seconds = 30
    """Of sessions and checks, and of agents that are gone."""
    logs_mb: Count = 2048
    """Of all sessions' logs together, the oldest go first; 0 is no limit."""
    tasks_days: Seconds = 90
    """Task directories (inputs and results)."""


class Api(_Settings, frozen=True):
    """The local HTTP interface for agents outside the fleet."""

    listen: str | None = None
    """``host:port`` of the loopback; ``None``: there is none."""
    decide: bool = False
    """Whether its clients may approve, reject and answer in the person's name."""


class Runtime(_Settings, frozen=True):
    """One agent CLI, as the file says it; defaults are filled in when it is resolved."""

    adapter: Literal["claude", "codex", "opencode", "command", "scripted"] | None = None
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    env: dict[str, str] | None = None
    pass_env: tuple[str, ...] | None = None


class Settings(_Settings, frozen=True):
    """All of ``swarm.yaml``."""

    version: Literal[1] = 1
    workspace_base: str = "~/dev/claude"
    persist: bool = False
    agents: tuple[AgentsEntry, ...] = (AgentsEntry(role="builder", count=3),)
    chat: ChatSettings = ChatSettings()
    limits: Limits = Limits()
    health: Health = Health()
    restart: Restart = Restart()
    stop: StopSettings = StopSettings()
    repo: Repo = Repo()
    runtimes: dict[str, Runtime] = {}
    notify: tuple[Notify, ...] = ()
    inbox: Inbox = Inbox()
    keep: Keep = Keep()
    api: Api = Api()


class RoleLimits(_Settings, frozen=True):
    """Limits of one role; ``None`` is the swarm's own."""

    memory_mb: Annotated[int, msgspec.Meta(gt=0)] | None = None
    cpu_percent: Annotated[int, msgspec.Meta(gt=0)] | None = None
    max_processes: Annotated[int, msgspec.Meta(gt=0)] | None = None
    max_task_minutes: Seconds | None = None
    stall_minutes: Seconds | None = None
    token_budget: Count | None = None
    """Each agent of the role, in the swarm's ``budget_window``."""
    usd_budget: Seconds | None = None
    task_token_budget: Count | None = None
    task_usd_budget: Seconds | None = None


class Estimate(_Settings, frozen=True):
    """What one session is taken to cost where its runtime reports no usage."""

    tokens: Count | None = None
    usd: Seconds | None = None


class Role(_Settings, frozen=True):
    """One role: ``roles/<role>.yaml``, with its prompt read in from ``prompt_file`` beside it."""

    description: str = ""
    runtime: str = "claude"
    model: str = ""
    prompt: str = ""
    prompt_file: str = ""
    bypass_permissions: bool = False
    sandbox: Literal["auto", "required", "off"] = "auto"
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    secrets: dict[str, str] = {}
    """Variable of the session → ``env:NAME`` or ``file:PATH`` it is taken from."""
    network: tuple[Annotated[int, msgspec.Meta(ge=1, le=65535)], ...] | None = None
    """TCP ports its sessions may connect to, where the kernel can say so; ``None``: any."""
    estimate: Estimate = Estimate()
    takes: tuple[str, ...] = ()
    """Other roles' tasks this one takes too; its own always."""
    lanes: tuple[str, ...] = ()
    """Lanes it takes tasks of besides the default one; ``"*"`` is any."""
    labels: dict[str, tuple[str, ...]] = {}
    """Label → values it takes; ``"*"`` is any."""
    review: Literal["none", "agent", "human"] | None = None
    """Who approves what it makes; ``None``: as ``repo.review``."""
    retries: Count = 0
    """How often a plain failure (failed, timed out, stalled, overflow) is tried again by itself."""
    retry_seconds: Seconds = 30
    """Until the first such try; each next one waits twice as long."""
    limits: RoleLimits = RoleLimits()

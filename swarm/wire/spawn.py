"""What the supervisor asks of the zygote, and the specs a forked child starts from.

One JSON line a message; the child's end of its lifeline travels beside a :class:`Fork` as
ancillary data (``SCM_RIGHTS``).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class RuntimeSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one agent CLI is started: an entry of ``runtimes`` with every default filled in."""

    name: str
    adapter: str
    """``claude | codex | opencode | command | scripted``."""
    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    pass_env: tuple[str, ...] = ()


class DaemonSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """All a daemon knows at birth.  Live settings follow as ``Tuning`` on the lifeline."""

    name: str
    role: str
    workspace: str
    """Absolute path ``<workspace_base>/<name>``; made by the daemon when it is not there."""
    home: str
    """Absolute ``AGENTCTL_HOME``."""
    home_id: str
    """Marks workspaces, cgroups and session environments as this home's."""
    chat_url: str
    channel: str
    coordinators: tuple[str, ...]
    heartbeat_seconds: float
    runtime: RuntimeSpec
    takes: tuple[str, ...] = ()
    """Other roles' tasks it takes too; its own always."""
    role_prompt: str = ""
    model: str = ""
    bypass_permissions: bool = False
    """The role asks for the CLI's own permission prompts to be off."""
    sandbox: str = "auto"
    """``auto``: as much as the kernel has; ``required``: no session without; ``off``."""
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: tuple[int, ...] | None = None
    """TCP ports sessions may connect to; ``None``: any."""
    cgroups: dict[str, str] = {}
    """Controller → directory in which this home's sessions get their cgroups (``unified`` among
    them for v2); empty where none can be made."""
    secrets: dict[str, str] = {}
    """Environment of the session: name → value, already resolved by the supervisor."""
    environ: dict[str, str] = {}
    """The supervisor's environment, from which ``pass_env`` and the locale are picked."""
    badge: str = ""
    """Shown to the embedded chat server, which keeps room for those who have it."""


class ServiceSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a service starts from."""

    name: str
    """``chat``, ``coordinator`` or ``api``."""
    home: str
    home_id: str
    config: dict[str, object] = {}
    """The service's own part of the settings, as JSON data; see each service's ``main``."""


class JanitorSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One pass over workspaces that are no longer wanted: salvage, then remove."""

    home: str
    home_id: str
    workspaces: tuple[str, ...]


class CleanerSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One clean-up of a home whose disk runs low: :class:`swarm.core.keep.Lifetimes`, and more."""

    home: str
    home_id: str
    left: tuple[str, ...] = ()
    """Paths of the workspaces whose agents are gone; no other is looked at."""
    workspaces: float | None = None
    """Seconds; ``None`` is for ever, here and below."""
    branches: float | None = None
    logs: float | None = None
    log_bytes: int | None = None
    folders: float | None = None


class Fork(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Fork one child; its lifeline's descriptor comes with this line."""

    id: int
    kind: str
    """``daemon | service | janitor | cleaner``."""
    spec: msgspec.Raw
    log: str = ""
    """File that standard error and output are appended to; empty: /dev/null."""


class Forked(msgspec.Struct, frozen=True, tag_field="type"):
    """The child lives, already re-parented to the supervisor or about to be."""

    id: int
    pid: int


class ForkFailed(msgspec.Struct, frozen=True, tag_field="type"):
    """The kernel refused."""

    id: int
    error: str


class ZygoteReady(msgspec.Struct, frozen=True, tag_field="type"):
    """Everything is imported and warm; forks are cheap from here."""

    pid: int


FromZygote: TypeAlias = Forked | ForkFailed | ZygoteReady

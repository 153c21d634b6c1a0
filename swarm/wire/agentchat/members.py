"""Who is connected to the server: the phases of a connection, and an agent once it is proven."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from swarm.wire.agentchat import frames
from swarm.wire.agentchat.limits import Window

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True, eq=False)
class Agent:
    """A signed-in agent; ``agent_id`` is bare."""

    agent_id: str
    name: str
    conn: int
    verified: bool
    lurking: bool
    quiet: bool
    addressed: bool = False
    """It wants no message that is addressed to others."""
    fleet: bool = False
    """It showed the badge: one of our own daemons."""
    presence: str = "online"
    status_text: str | None = None
    channels: dict[str, bool] = field(default_factory=dict)
    """Channel → whether it joined by its own ``JOIN``; if not, nobody was told it came."""
    entry: bytes = b""
    """Its place in a ``JOINED`` list, encoded once: a thousand joins do not encode a million."""

    def __post_init__(self) -> None:
        self.entry = _encode(
            {"id": f"@{self.agent_id}", "name": self.name, "verified": self.verified}
        )

    def listed(self) -> frames.Member:
        """Its place in an ``AGENTS`` list."""
        return frames.Member(
            f"@{self.agent_id}", self.name, self.presence, self.status_text, self.verified
        )


@dataclass(frozen=True, slots=True)
class Stranger:
    """Has not said who it is."""


@dataclass(frozen=True, slots=True)
class Challenged:
    """Has to prove that it holds the key."""

    name: str
    pubkey: str
    quiet: bool
    addressed: bool
    fleet: bool
    challenge_id: str
    nonce: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Proven, a rapid take-over: welcomed at ``until``."""

    agent: Agent
    until: int


@dataclass(frozen=True, slots=True)
class Present:
    """Welcomed."""

    agent: Agent


@dataclass(frozen=True, slots=True)
class Gone:
    """Dropped; the socket closes."""


Phase: TypeAlias = Stranger | Challenged | HeldBack | Present | Gone


@dataclass(slots=True, eq=False)
class Connection:
    """One socket."""

    number: int
    address: str
    came_at: int
    phase: Phase = field(default_factory=Stranger)
    heard_at: int = 0
    look_at: int | None = None
    """When the server looks at it again; a planned moment that is not this one is void."""
    frames: Window = field(default_factory=Window)


def id_of_key(pubkey: str) -> str:
    """The bare agent id of a public key: 16 hex digits over its PEM text, byte for byte."""
    return hashlib.sha256(pubkey.encode("utf-8", "replace")).hexdigest()[:16]


def is_pubkey(text: str) -> bool:
    """Whether ``text`` looks like a public key in PEM; the signature check has the last word."""
    return len(text) <= frames.MAX_PUBKEY and text.startswith("-----BEGIN PUBLIC KEY-----")

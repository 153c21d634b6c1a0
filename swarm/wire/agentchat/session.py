"""The client's half of agentchat: one connection from IDENTIFY to its end, sans-I/O.

The caller owns the socket and the clock.  It calls :meth:`ChatSession.opened` once the WebSocket
is open, :meth:`ChatSession.received` for each text message, :meth:`ChatSession.tick` when
:meth:`ChatSession.deadline` has passed, and sends what :meth:`ChatSession.outgoing` gives after
each of these.  ``now`` is Unix time in milliseconds (a monotonic clock plus an offset taken at
the start serves best).
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from swarm.core.model import bare_id
from swarm.wire.agentchat import frames
from swarm.wire.agentchat.seen import Seen

WELCOME_MS = 75_000
"""Wait for WELCOME: a rapid take-over is held back up to 60 s (protocol, "Signing in")."""
JOIN_MS = 30_000
"""Wait for JOINED."""
KEEPALIVE_MS = 240_000
"""A PING after this much silence of ours; a server drops us after 600 s."""
PONG_MS = 60_000
"""Nothing heard for so long after a PING: the peer is gone."""
MIN_RATE, MAX_RATE = 1 / 3600, 10_000.0
"""Messages a second we believe a server: what it says must not become an endless wait."""
MAX_LURK_MS = 24 * 3600 * 1000
"""Longest mute that is believed in advance; after it we see what the server says."""
_MAX_TEXT = 512  # characters of a server's message to people


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The server accepted the identity.

    ``lurk_reason`` is why messages will be refused for now, ``None`` when they will not;
    ``messages_per_second`` is what the server allows, ``None`` when it does not say (assume 1).
    """

    agent_id: str
    lurk_reason: str | None
    lurk_until: int | None
    messages_per_second: float | None


@dataclass(frozen=True, slots=True)
class Joined:
    """A member of the channel: :meth:`ChatSession.say` works from now on."""

    channel: str
    members: tuple[frames.Member, ...]
    """Empty for a quiet session, which has no use for it."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message on our channel, our own echo included.  ``sender`` is the server's word."""

    sender: str
    sender_name: str
    content: str
    msg_id: str
    ts: int
    replay: bool


@dataclass(frozen=True, slots=True)
class Came:
    """Someone joined the channel."""

    agent_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Went:
    """Someone left the channel."""

    agent_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Members:
    """The answer to :meth:`ChatSession.ask_who`."""

    channel: str
    members: tuple[frames.Member, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The server said no; ``message`` is its text, one line.  See :data:`LASTING`."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Displaced:
    """The same identity signed in elsewhere; this connection is over."""

    reason: str


@dataclass(frozen=True, slots=True)
class CannotAnswer:
    """The server asks a question for people; this connection is over."""

    question: str


@dataclass(frozen=True, slots=True)
class PeerSilent:
    """No answer to our keep-alive; this connection is over."""


ChatEvent: TypeAlias = (
    SignedIn | Joined | Said | Came | Went | Members | Refused | Displaced | CannotAnswer
    | PeerSilent
)  # fmt: skip

LASTING = frozenset(
    {"VERIFICATION_FAILED", "BANNED", "KICKED", "NOT_ALLOWED", "CHANNEL_NOT_FOUND", "NOT_INVITED",
     "INVALID_NAME", "LURK_MODE"}
)  # fmt: skip
"""Refusals that trying again soon will not change: they are shown to people."""
_NO_ENTRY = frozenset(
    {"CHANNEL_NOT_FOUND", "NOT_INVITED", "NOT_ALLOWED", "AUTH_REQUIRED", "INVALID_MSG"}
)


@dataclass(frozen=True, slots=True)
class Unopened:
    """The WebSocket is not open yet."""


@dataclass(frozen=True, slots=True)
class SigningIn:
    """IDENTIFY is sent; CHALLENGE, WELCOME or a refusal will come."""

    deadline: int
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Entering:
    """WELCOME came, JOIN is sent."""

    agent_id: str
    deadline: int


@dataclass(frozen=True, slots=True)
class InChannel:
    """Talking."""

    agent_id: str
    asked_at: int | None = None
    """When the keep-alive that nothing has answered yet was sent."""


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing more will come of this connection; close it."""


Phase: TypeAlias = Unopened | SigningIn | Entering | InChannel | Over

_members: msgspec.json.Decoder[tuple[frames.Member | str, ...]] = msgspec.json.Decoder(
    tuple[frames.Member | str, ...]
)
_limits = msgspec.json.Decoder(frames.Limits)


class ChatSession:
    """One connection's client machine.

    ``public_pem`` and ``sign`` are the identity (both ``None``: read only); ``sign`` gives the raw
    Ed25519 signature of its bytes.  ``quiet`` asks our own server for no presence notices,
    ``addressed`` for no message that is addressed to others; ``badge`` says to it that we are of
    its fleet.
    ``seen`` outlives the connection, so that a replay after a reconnect repeats nothing.
    """

    __slots__ = ("_addressed", "_badge", "_channel", "_last_sent", "_name", "_out", "_public",
                 "_quiet", "_seen", "_sign", "ours", "phase")  # fmt: skip

    def __init__(
        self,
        name: str,
        public_pem: str | None,
        sign: Callable[[bytes], bytes] | None,
        channel: str,
        *,
        quiet: bool = False,
        addressed: bool = False,
        badge: str = "",
        seen: Seen | None = None,
    ) -> None:
        self._name = name
        self._public = public_pem
        self._sign = sign
        self._channel = channel
        self._quiet = quiet
        self._addressed = addressed
        self._badge = badge
        self._seen = seen if seen is not None else Seen()
        self._out: list[str] = []
        self._last_sent = 0
        self.phase: Phase = Unopened()
        self.ours = False
        """The server is one of ours, as its WELCOME said: see :meth:`say`."""

    @property
    def joined(self) -> bool:
        """Whether :meth:`say` may be called."""
        return isinstance(self.phase, InChannel)

    @property
    def over(self) -> bool:
        """Whether the connection should be closed."""
        return isinstance(self.phase, Over)

    @property
    def agent_id(self) -> str | None:
        """Our bare id as the server gave it, once signed in."""
        match self.phase:
            case Entering(agent_id=agent_id) | InChannel(agent_id=agent_id):
                return agent_id
            case _:
                return None

    def opened(self, now: int) -> None:
        """The WebSocket is open: say who we are."""
        quiet = True if self._quiet else msgspec.UNSET
        addressed = True if self._addressed else msgspec.UNSET
        badge = self._badge or msgspec.UNSET
        self._put(frames.Identify(self._name, self._public, quiet, addressed, badge), now)
        self.phase = SigningIn(now + WELCOME_MS)

    def outgoing(self) -> list[str]:
        """Text messages to send now, in order."""
        out, self._out = self._out, []
        return out

    def say(self, content: str, now: int, to: Sequence[str] = ()) -> None:
        """Send a message to the channel; ``ValueError`` before it is joined.

        ``to`` are the bare ids of those it concerns, none or more than
        :data:`frames.MAX_ADDRESSEES` being everybody; a server that is not ours is not told.
        There the message is signed too; a server of ours vouches for its sender by ``from``, so
        the key need not be read for each message.
        Pacing is the caller's (:mod:`swarm.wire.pacing`): this sends at once.
        """
        if not self.joined:
            raise ValueError("not in the channel yet")
        content = content.encode("utf-8", "replace").decode()
        ts: int | msgspec.UnsetType = msgspec.UNSET
        sig: str | msgspec.UnsetType = msgspec.UNSET
        addressees: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
        if self.ours and 0 < len(to) <= frames.MAX_ADDRESSEES:
            addressees = msgspec.Raw(msgspec.json.encode(to))
        if self._sign is not None and not self.ours:
            ts, sig = now, _base64(self._sign(frames.message_text(self._channel, content, now)))
        self._put(frames.Say(self._channel, content, ts, sig, addressees), now)

    def ask_who(self, now: int) -> None:
        """Ask for the channel's members; :class:`Members` is the answer."""
        if self.joined:
            self._put(frames.ListAgents(self._channel), now)

    def deadline(self) -> int | None:
        """When :meth:`tick` should be called next."""
        match self.phase:
            case SigningIn(deadline=deadline) | Entering(deadline=deadline):
                return deadline
            case InChannel(asked_at=None):
                return self._last_sent + KEEPALIVE_MS
            case InChannel(asked_at=int(asked)):
                return asked + PONG_MS
            case _:
                return None

    def tick(self, now: int) -> list[ChatEvent]:
        """Time has passed: keep alive, or give up waiting.  Harmless at any moment."""
        due = self.deadline()
        if due is None or now < due:
            return []
        match self.phase:
            case InChannel(agent_id=agent_id, asked_at=None):
                self._put(frames.Ping(), now)
                self.phase = InChannel(agent_id, asked_at=now)
                return []
            case InChannel():
                self.phase = Over()
                return [PeerSilent()]
            case _:
                waited = "WELCOME" if isinstance(self.phase, SigningIn) else "JOINED"
                self.phase = Over()
                return [Refused("TIMEOUT", f"no {waited} came in time")]

    def received(self, text: str, now: int) -> list[ChatEvent]:
        """Take in one text message.

        Raises :class:`~swarm.errors.BadMessage` for what is no frame; nothing has changed then,
        and the caller may ignore it.
        """
        if isinstance(self.phase, Over):
            return []
        frame = frames.read_server_frame(text)
        if isinstance(self.phase, InChannel) and self.phase.asked_at is not None:
            self.phase = InChannel(self.phase.agent_id)  # whatever it was: the peer lives
        match frame:
            case frames.Message():
                return self._heard(frame)
            case frames.Challenge():
                return self._challenged(frame, now)
            case frames.Welcome():
                return self._welcomed(frame, now)
            case frames.Joined():
                return self._entered(frame, now)
            case frames.Agents(channel=channel) if channel == self._channel:
                return [Members(channel, _read_members(frame.list))]
            case frames.AgentJoined(channel=self._channel):
                return [Came(_id(frame.agent), _line(frame.name))]
            case frames.AgentLeft(channel=self._channel):
                return [Went(_id(frame.agent), _line(frame.name))]
            case _:
                return self._turned_away(frame)

    def _turned_away(self, frame: frames.ServerFrame | None) -> list[ChatEvent]:
        match frame:
            case frames.Error(code=code, message=message):
                return self._refused(_line(code)[:64], _line(message))
            case frames.SessionDisplaced(reason=reason):
                self.phase = Over()
                return [Displaced(_line(reason))]
            case frames.CaptchaChallenge(question=question):
                self.phase = Over()
                return [CannotAnswer(_line(question))]
            case frames.Kicked(reason=reason):
                self.phase = Over()
                return [Refused("KICKED", _line(reason))]
            case frames.Banned(reason=reason):
                self.phase = Over()
                return [Refused("BANNED", _line(reason))]
            case _:
                return []  # PONG, other channels, types we do not know

    def _challenged(self, frame: frames.Challenge, now: int) -> list[ChatEvent]:
        match self.phase:
            case SigningIn(deadline=deadline, answered=False) if self._sign is not None:
                proof = self._sign(frames.challenge_text(frame.nonce, frame.challenge_id, now))
                self._put(frames.VerifyIdentity(frame.challenge_id, _base64(proof), now), now)
                self.phase = SigningIn(deadline, answered=True)
        return []

    def _welcomed(self, frame: frames.Welcome, now: int) -> list[ChatEvent]:
        if not isinstance(self.phase, SigningIn):
            return []
        agent_id = _id(frame.agent_id)
        self._put(frames.Join(self._channel), now)
        self.phase = Entering(agent_id, now + JOIN_MS)
        lurking = frame.lurk is True
        why = frame.lurk_reason if isinstance(frame.lurk_reason, str) else ""
        until = frame.lurk_until if isinstance(frame.lurk_until, int) else None
        until = None if until is None else min(until, now + MAX_LURK_MS)
        rate = _rate(frame.limits)
        self.ours = rate is not None
        return [
            SignedIn(
                agent_id,
                (_line(why) or "this server lets this identity only read") if lurking else None,
                until if lurking else None,
                rate,
            )
        ]

    def _entered(self, frame: frames.Joined, now: int) -> list[ChatEvent]:
        if frame.channel != self._channel or not isinstance(self.phase, Entering):
            return []
        self.phase = InChannel(self.phase.agent_id)
        self._last_sent = now
        return [Joined(self._channel, () if self._quiet else _read_members(frame.agents))]

    def _heard(self, frame: frames.Message) -> list[ChatEvent]:
        if frame.to != self._channel:
            return []
        msg_id = frame.msg_id if isinstance(frame.msg_id, str) else ""
        replay = frame.replay is True
        if msg_id:
            if replay and msg_id in self._seen:
                return []
            self._seen.note(msg_id)
        sender_name = _line(frame.from_name)[:64]
        return [Said(_id(frame.sender), sender_name, frame.content, msg_id, frame.ts, replay)]

    def _refused(self, code: str, message: str) -> list[ChatEvent]:
        match self.phase:
            case SigningIn():
                self.phase = Over()
            case Entering() if code in _NO_ENTRY:
                self.phase = Over()
            case _ if code == "BANNED":
                self.phase = Over()
        return [Refused(code, message)]

    def _put(self, frame: frames.ClientFrame, now: int) -> None:
        self._out.append(frames.encode(frame))
        self._last_sent = now


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _id(text: str) -> str:
    return bare_id(text[:65])


def _line(text: str | None) -> str:
    """Hostile text as one printable line of bounded length."""
    kept = "".join(c if c.isprintable() else " " for c in (text or "")[:_MAX_TEXT])
    return " ".join(kept.split())


def _rate(limits: msgspec.Raw | msgspec.UnsetType) -> float | None:
    if isinstance(limits, msgspec.UnsetType):
        return None
    try:
        rate = _limits.decode(limits).messages_per_second
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None  # another server's limits
    return min(max(rate, MIN_RATE), MAX_RATE) if rate > 0 else None


def _read_members(raw: msgspec.Raw) -> tuple[frames.Member, ...]:
    try:
        found = _members.decode(raw)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return ()  # a list that is none says nothing; the frame around it still counts
    return tuple(m if isinstance(m, frames.Member) else frames.Member(m) for m in found)

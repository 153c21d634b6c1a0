"""Every agentchat frame we speak, one struct each, spelled as the protocol spells it.

``ts`` is Unix time in milliseconds.  Unknown types and unknown fields are ignored, so that other
speakers may say more; a frame of a known type that does not fit it is a
:class:`~swarm.errors.BadMessage`.  Additions of our own, which other servers and clients do not
notice: ``IDENTIFY.quiet`` (no presence notices about or to this agent, joined to nothing it does
not ``JOIN``), ``IDENTIFY.addressed`` with ``MSG.for`` (no message that is addressed to others),
``IDENTIFY.badge`` (the agent is of the server's own fleet) and ``WELCOME.limits`` (so that a client
need not assume a message a second, nor sign each message).
"""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from swarm.errors import BadMessage

MAX_FRAME = 2 * 1024 * 1024
"""Bytes of one frame, both ways."""
MAX_PUBKEY = 1024
"""Characters of a public key in PEM; an Ed25519 one has 113."""
CHALLENGE_MS = 60_000
"""How long a challenge may be answered."""
REPLAY = 200
"""Messages of a channel that a joiner is shown again."""
MAX_ADDRESSEES = 16
"""Agents one message is addressed to; addressed to more, it is for everybody."""


Moment: TypeAlias = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""Unix milliseconds.  JSON may hold a number of any length; what we do with one must not overflow
(a double has 53 bits, SQLite and the clocks of the kernel 63)."""


class NotJson(BadMessage):
    """A frame that is not JSON we can read at all."""


EMPTY_LIST = msgspec.Raw(b"[]")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")


def is_name(text: str) -> bool:
    """Whether ``text`` may be an agent's name: 1–32 of ``A-Z a-z 0-9 _ -``."""
    return bool(_NAME.match(text))


class _Frame(msgspec.Struct, frozen=True, tag_field="type"):
    """One frame; the tag is its ``type``."""


# -- client → server ----------------------------------------------------------------------------


class Identify(_Frame, frozen=True, tag="IDENTIFY"):
    """First frame: who I am.  Without a key the agent may only read."""

    name: str
    pubkey: str | None = None
    quiet: bool | UnsetType = UNSET
    addressed: bool | UnsetType = UNSET
    badge: str | UnsetType = UNSET


class VerifyIdentity(_Frame, frozen=True, tag="VERIFY_IDENTITY"):
    """The answer to a challenge; ``signature`` is base64 over :func:`challenge_text`."""

    challenge_id: str
    signature: str
    timestamp: Moment


class Join(_Frame, frozen=True, tag="JOIN"):
    """Make me a member."""

    channel: str


class Leave(_Frame, frozen=True, tag="LEAVE"):
    """No longer a member."""

    channel: str


class Say(_Frame, frozen=True, tag="MSG"):
    """A message to a channel; ``sig`` is base64 over :func:`message_text`."""

    to: str
    content: str
    ts: Moment | UnsetType = UNSET
    sig: str | UnsetType = UNSET
    addressees: msgspec.Raw | UnsetType = field(name="for", default=UNSET)
    """Whom it concerns, ours a list of bare ids; raw, as others may mean something else by it."""


class Ping(_Frame, frozen=True, tag="PING"):
    """I still live."""


class SetPresence(_Frame, frozen=True, tag="SET_PRESENCE"):
    """``online | away | busy | offline | listening``."""

    status: str
    status_text: str | None = None


class ListChannels(_Frame, frozen=True, tag="LIST_CHANNELS"):
    """The question which channels there are."""


class ListAgents(_Frame, frozen=True, tag="LIST_AGENTS"):
    """The question who is a member."""

    channel: str


class CreateChannel(_Frame, frozen=True, tag="CREATE_CHANNEL"):
    """Only for verified agents."""

    channel: str


class RespondingTo(_Frame, frozen=True, tag="RESPONDING_TO"):
    """A claim of the floor for one message."""

    msg_id: str
    channel: str
    started_at: Moment


# -- server → client ----------------------------------------------------------------------------


class Challenge(_Frame, frozen=True, tag="CHALLENGE", kw_only=True):
    """Prove that you hold the key."""

    ts: Moment = 0
    challenge_id: str
    nonce: str
    expires_at: Moment = 0


class Welcome(_Frame, frozen=True, tag="WELCOME", kw_only=True):
    """Signed in."""

    ts: Moment = 0
    agent_id: str
    name: str | None = None
    server: str = ""
    verified: bool = False
    lurk: bool | UnsetType = UNSET
    lurk_until: Moment | UnsetType = UNSET
    lurk_reason: str | UnsetType = UNSET
    disclaimer: str | UnsetType = UNSET
    limits: msgspec.Raw | UnsetType = UNSET
    """Ours is :class:`Limits`; another server may mean something else by it."""


class Limits(msgspec.Struct, frozen=True):
    """What our server lets this agent do."""

    messages_per_second: float


class Message(_Frame, frozen=True, tag="MSG", kw_only=True):
    """A message on a channel, one's own included: the echo is its acknowledgement."""

    ts: Moment = 0
    sender: str = field(name="from")
    from_name: str | None = None
    to: str
    content: str
    msg_id: str | UnsetType = UNSET
    verified: bool | UnsetType = UNSET
    sig: str | UnsetType = UNSET
    replay: bool | UnsetType = UNSET


class Member(msgspec.Struct, frozen=True):
    """One entry of a list of agents."""

    id: str
    name: str | None = None
    presence: str | UnsetType = UNSET
    status_text: str | UnsetType | None = UNSET
    verified: bool = False


class Joined(_Frame, frozen=True, tag="JOINED", kw_only=True):
    """``agents`` is a list of :class:`Member`, or of bare ids; raw, as most readers skip it."""

    ts: Moment = 0
    channel: str
    agents: msgspec.Raw = EMPTY_LIST


class Left(_Frame, frozen=True, tag="LEFT", kw_only=True):
    """The leaver's own acknowledgement."""

    ts: Moment = 0
    channel: str


class AgentJoined(_Frame, frozen=True, tag="AGENT_JOINED", kw_only=True):
    """Someone became a member."""

    ts: Moment = 0
    channel: str
    agent: str
    name: str | None = None
    verified: bool = False


class AgentLeft(_Frame, frozen=True, tag="AGENT_LEFT", kw_only=True):
    """Someone is no longer a member."""

    ts: Moment = 0
    channel: str
    agent: str
    name: str | None = None


class ChannelInfo(msgspec.Struct, frozen=True):
    """One entry of :class:`Channels`."""

    name: str
    agents: int = 0
    verified_only: bool | UnsetType = field(name="verifiedOnly", default=UNSET)


class Channels(_Frame, frozen=True, tag="CHANNELS", kw_only=True):
    """The answer to LIST_CHANNELS."""

    ts: Moment = 0
    list: tuple[ChannelInfo, ...]


class Agents(_Frame, frozen=True, tag="AGENTS", kw_only=True):
    """The answer to LIST_AGENTS; ``list`` is one of :class:`Member`."""

    ts: Moment = 0
    channel: str
    list: msgspec.Raw = EMPTY_LIST


class Error(_Frame, frozen=True, tag="ERROR", kw_only=True):
    """A refusal; the connection stays."""

    ts: Moment = 0
    code: str
    message: str = ""


class Pong(_Frame, frozen=True, tag="PONG", kw_only=True):
    """The answer to PING."""

    ts: Moment = 0


class SessionDisplaced(_Frame, frozen=True, tag="SESSION_DISPLACED", kw_only=True):
    """The same identity signed in elsewhere."""

    ts: Moment = 0
    reason: str = ""


class FloorClaimed(_Frame, frozen=True, tag="FLOOR_CLAIMED", kw_only=True):
    """Someone answers this message."""

    ts: Moment = 0
    msg_id: str
    channel: str
    holder: str
    started_at: Moment = 0


class Yield(_Frame, frozen=True, tag="YIELD", kw_only=True):
    """Someone else answers it already."""

    ts: Moment = 0
    msg_id: str
    channel: str
    holder: str
    holder_started_at: Moment = 0
    reason: str = ""


class CaptchaChallenge(_Frame, frozen=True, tag="CAPTCHA_CHALLENGE", kw_only=True):
    """A question for people; we say so and give up."""

    captcha_id: str = ""
    question: str = ""
    hint: str | None = None


class Kicked(_Frame, frozen=True, tag="KICKED", kw_only=True):
    """Removed by a moderator."""

    ts: Moment = 0
    reason: str | None = None


class Banned(_Frame, frozen=True, tag="BANNED", kw_only=True):
    """Removed for good by a moderator."""

    ts: Moment = 0
    reason: str | None = None


ClientFrame: TypeAlias = (
    Identify | VerifyIdentity | Join | Leave | Say | Ping | SetPresence
    | ListChannels | ListAgents | CreateChannel | RespondingTo
)  # fmt: skip
ServerFrame: TypeAlias = (
    Challenge | Welcome | Message | Joined | Left | AgentJoined | AgentLeft | Channels | Agents
    | Error | Pong | SessionDisplaced | FloorClaimed | Yield | CaptchaChallenge | Kicked | Banned
)  # fmt: skip


class _Head(msgspec.Struct):
    type: str


_encoder = msgspec.json.Encoder()
_client: msgspec.json.Decoder[ClientFrame] = msgspec.json.Decoder(ClientFrame)
_server: msgspec.json.Decoder[ServerFrame] = msgspec.json.Decoder(ServerFrame)
_head = msgspec.json.Decoder(_Head)
_CLIENT_TYPES = frozenset(
    {"IDENTIFY", "VERIFY_IDENTITY", "JOIN", "LEAVE", "MSG", "PING", "SET_PRESENCE",
     "LIST_CHANNELS", "LIST_AGENTS", "CREATE_CHANNEL", "RESPONDING_TO"}
)  # fmt: skip
_SERVER_TYPES = frozenset(
    {"CHALLENGE", "WELCOME", "MSG", "JOINED", "LEFT", "AGENT_JOINED", "AGENT_LEFT", "CHANNELS",
     "AGENTS", "ERROR", "PONG", "SESSION_DISPLACED", "FLOOR_CLAIMED", "YIELD",
     "CAPTCHA_CHALLENGE", "KICKED", "BANNED"}
)  # fmt: skip


def encode(frame: ClientFrame | ServerFrame) -> str:
    """The text of one WebSocket message; a lone surrogate in it becomes a question mark."""
    try:
        return _encoder.encode(frame).decode()
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(frame)
        whole = {k: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v
                 for k, v in plain.items()}  # fmt: skip
        return _encoder.encode(whole).decode()


def read_server_frame(text: str) -> ServerFrame | None:
    """What a server sent; ``None`` for a type we do not know.  Raises ``BadMessage``."""
    return _read(text, _server, _SERVER_TYPES)


def read_client_frame(text: str) -> ClientFrame | None:
    """What a client sent; ``None`` for a type we do not know.  Raises ``BadMessage``."""
    return _read(text, _client, _CLIENT_TYPES)


_F = TypeVar("_F")


def _read(text: str, decoder: msgspec.json.Decoder[_F], known: frozenset[str]) -> _F | None:
    if len(text) > MAX_FRAME:
        raise BadMessage(f"a frame of more than {MAX_FRAME} bytes")
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        if _type_of(text) not in known:
            return None
        raise BadMessage(f"a frame that does not fit its type: {error}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
        # RecursionError: JSON nested thousands deep.  ValueError: an integer of more digits than
        # Python converts.
        raise NotJson("a frame that is not JSON we can read") from error


def _type_of(text: str) -> str | None:
    """The ``type`` of a frame that did not decode; raises ``BadMessage`` when it has none."""
    try:
        return _head.decode(text).type
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
        raise BadMessage("a frame without a type") from error


def challenge_text(nonce: str, challenge_id: str, timestamp: int) -> bytes:
    """What VERIFY_IDENTITY signs."""
    return f"AGENTCHAT_AUTH|{nonce}|{challenge_id}|{timestamp}".encode("utf-8", "replace")


def message_text(to: str, content: str, ts: int) -> bytes:
    """What MSG signs: the compact JSON of these three, in this order, nothing escaped to ASCII."""
    return _encoder.encode({"to": to, "content": content, "ts": ts})

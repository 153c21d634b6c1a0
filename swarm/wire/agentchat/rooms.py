"""Talking on the server: channels, messages, presence and floor claims of signed-in agents."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from swarm.core.model import bare_id, is_agent_id, is_channel
from swarm.wire.agentchat import frames
from swarm.wire.agentchat.channel import Channel
from swarm.wire.agentchat.door import Refusal
from swarm.wire.agentchat.floor import Floor
from swarm.wire.agentchat.limits import Records, ServerLimits, Window, message_window
from swarm.wire.agentchat.members import Agent

LOBBY = "#general"
PRESENCES = frozenset({"online", "away", "busy", "offline", "listening"})
MAX_STATUS_TEXT = 200
_ENVELOPE = 4096  # bytes an echo may have beside its content
_MAX_FOR = 1024  # bytes of a `for` that are looked at: 16 ids need 305


@dataclass(frozen=True, slots=True)
class Send:
    """Send one text to all of these connections, in their order; encode it once."""

    to: Collection[int]
    text: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Close this connection with a WebSocket close code.  ``disconnected`` need not follow."""

    conn: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Admit:
    """A connection has signed in; a ``guest`` is nobody we know."""

    conn: int
    guest: bool


Effect: TypeAlias = Send | Drop | Admit

_list: msgspec.json.Decoder[list[object]] = msgspec.json.Decoder(list[object])


def read_addressees(raw: msgspec.Raw | msgspec.UnsetType) -> tuple[str, ...]:
    """The bare ids that ``MSG.for`` names, each once; empty when the message is for everybody.

    What is no agent id is passed over, and what is no such list means everybody: nobody misses a
    message because its sender's ``for`` makes no sense.
    """
    if isinstance(raw, msgspec.UnsetType) or len(bytes(raw)) > _MAX_FOR:
        return ()
    try:
        named = _list.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
        return ()
    ids = dict.fromkeys(bare_id(x) for x in named if isinstance(x, str) and is_agent_id(x))
    return tuple(ids) if len(ids) <= frames.MAX_ADDRESSEES else ()


def _longer(text: str, most: int) -> bool:
    """Whether ``text`` has more than ``most`` bytes in UTF-8, counted only where it is close."""
    return len(text) > most // 4 and len(text.encode("utf-8", "replace")) > most


class Rooms:
    """The channels of one server and what agents do in them; effects are appended to ``out``."""

    def __init__(
        self,
        limits: ServerLimits,
        channels: Iterable[str],
        trusted: frozenset[str],
        records: Records,
        epoch: str,
    ) -> None:
        self.out: list[Effect] = []
        self.channels: dict[str, Channel] = {
            name: Channel(name, limits) for name in (LOBBY, "#agents", *channels)
        }
        self._limits = limits
        self._trusted = trusted
        self._records = records
        self._floor = Floor(limits.floors, limits.floor)
        self.named: frozenset[str] = frozenset()
        """Bare ids that the settings name: they are no guests."""
        self.heeded: frozenset[str] | None = None
        """Whose talk may concern the fleet's agents; ``None``: anybody's, as far as is known."""
        self._window = message_window(limits.messages_per_second)
        self._fleet_window = message_window(limits.fleet_messages_per_second)
        self._guests_window = message_window(limits.guests_messages_per_second)
        self._guests = Window()
        self._epoch = epoch
        """Random part of message ids: two servers' ids never meet."""
        self._counter = 0

    def is_guest(self, agent: Agent) -> bool:
        """Whether it is neither trusted, nor of the fleet, nor named in the settings."""
        known = agent.agent_id in self._trusted or agent.agent_id in self.named
        return not (agent.fleet or (known and not agent.lurking))

    def serve(self, agent: Agent, frame: frames.ClientFrame, now: int) -> None:
        """Obey one frame of a signed-in agent.  Raises :class:`Refusal`."""
        match frame:
            case frames.Say():
                self._say(agent, frame, now)
            case frames.Join(channel=name):
                self._join(agent, self._channel(name), now)
            case frames.Leave(channel=name):
                self._leave(agent, self._channel(name), now)
                self._reply(agent, frames.Left(ts=now, channel=name))
            case frames.ListChannels():
                self._reply(agent, frames.Channels(ts=now, list=self._listed_channels()))
            case frames.ListAgents(channel=name):
                listed = [m.listed() for m in self._channel(name).members.values()]
                raw = msgspec.Raw(msgspec.json.encode(listed))
                self._reply(agent, frames.Agents(ts=now, channel=name, list=raw))
            case frames.SetPresence(status=status, status_text=text):
                if status not in PRESENCES:
                    raise Refusal("INVALID_MSG", "Invalid presence status")
                agent.presence = status
                agent.status_text = text[:MAX_STATUS_TEXT] if text else None
            case frames.CreateChannel(channel=name):
                self._create(agent, name, now)
            case frames.RespondingTo():
                self._responding(agent, frame, now)
            case _:
                raise Refusal("INVALID_MSG", "Unknown message type")

    def enter(self, agent: Agent, now: int) -> None:
        """A welcomed agent joins every public channel, unless it asked for quiet."""
        if agent.quiet:
            return  # joined to nothing it does not ask for, and nobody is told
        for channel in self.channels.values():
            if not channel.verified_only or agent.verified:
                channel.add(agent)
                agent.channels[channel.name] = False
        lobby = self.channels[LOBBY]
        if lobby.tally.admit(now, came=True):
            self._notice(lobby, f"{agent.name} came online", now)

    def part(self, agent: Agent, now: int) -> None:
        """An agent's connection is over."""
        for name in tuple(agent.channels):
            self._leave(agent, self.channels[name], now)
        self._floor.release(agent.agent_id)

    def deadline(self) -> int | None:
        """When :meth:`sum_up` has something to do."""
        moments = (c.tally.deadline for c in self.channels.values())
        return min((m for m in moments if m is not None), default=None)

    def sum_up(self, now: int) -> None:
        """Tell in one line a channel what was too much to tell one by one."""
        for channel in self.channels.values():
            moment = channel.tally.deadline
            if moment is not None and moment <= now:
                self._notice(channel, channel.tally.sum_up(now), now)

    # -- talking --------------------------------------------------------------------------------

    def _say(self, agent: Agent, frame: frames.Say, now: int) -> None:
        if agent.lurking:
            raise Refusal("LURK_MODE", "Persistent identity required to send messages")
        if agent.agent_id not in self._trusted:
            self._count(agent, now)
        if frame.to.startswith("@"):
            raise Refusal("INVALID_MSG", "No direct messages here: talk on a channel")
        channel = self._channel(frame.to)
        if channel.name not in agent.channels:
            raise Refusal("NOT_INVITED", f"Not a member of {channel.name}")
        if _longer(frame.content, self._limits.content_bytes):
            raise Refusal("INVALID_MSG", "Message too long")
        self._floor.release(agent.agent_id, channel.name)
        self._counter += 1
        message = frames.Message(
            ts=now,
            sender=f"@{agent.agent_id}",
            from_name=agent.name,
            to=channel.name,
            content=frame.content,
            msg_id=f"{now}-{self._epoch}{self._counter:x}",
            verified=agent.verified,
            sig=frame.sig
            if isinstance(frame.sig, str) and len(frame.sig) <= 128
            else msgspec.UNSET,
        )
        text = frames.encode(message)
        if _longer(text, self._limits.frame_bytes - _ENVELOPE):
            raise Refusal("INVALID_MSG", "Message too long")  # its echo would not fit a frame
        addressees = read_addressees(frame.addressees)
        chatter = self.heeded is not None and agent.agent_id not in self.heeded
        self.out.append(Send(channel.hearers(agent, addressees, chatter=chatter), text))
        replayed = frames.encode(msgspec.structs.replace(message, replay=True))
        channel.keep(replayed, agent, addressees, chatter=chatter)

    def _count(self, agent: Agent, now: int) -> None:
        """Count one message; raises :class:`Refusal` for one too many."""
        guest = self.is_guest(agent)
        count, length = self._window if guest else self._fleet_window
        if not self._records.of(agent.agent_id).messages.admit(now, length, count):
            per = f"{count} message{'s' if count > 1 else ''} per {length / 1000:g} seconds"
            per = per.replace("per 1 seconds", "per second")
            raise Refusal("RATE_LIMITED", f"Rate limit exceeded (max {per})")
        count, length = self._guests_window
        if guest and not self._guests.admit(now, length, count):
            raise Refusal("RATE_LIMITED", "Rate limit exceeded (all guests together)")

    def _join(self, agent: Agent, channel: Channel, now: int) -> None:
        if channel.verified_only and not agent.verified:
            raise Refusal("AUTH_REQUIRED", f"Channel {channel.name} requires verified identity")
        first = not agent.channels.get(channel.name, False)
        channel.add(agent)
        agent.channels[channel.name] = True
        if first and not agent.quiet:
            self._tell_came(agent, channel, now)
        joined = frames.Joined(ts=now, channel=channel.name, agents=channel.listing_for(agent))
        self.out.append(Send((agent.conn,), frames.encode(joined)))
        for text in channel.replay_for(agent):
            self.out.append(Send((agent.conn,), text))

    def _leave(self, agent: Agent, channel: Channel, now: int) -> None:
        told = agent.channels.pop(channel.name, False)
        channel.remove(agent)
        if told and not agent.quiet and channel.loud and channel.tally.admit(now, came=False):
            left = frames.AgentLeft(
                ts=now, channel=channel.name, agent=f"@{agent.agent_id}", name=agent.name
            )
            self.out.append(Send(channel.listeners(agent), frames.encode(left)))

    def _tell_came(self, agent: Agent, channel: Channel, now: int) -> None:
        listeners = channel.listeners(agent)
        if listeners and channel.tally.admit(now, came=True):
            came = frames.AgentJoined(
                ts=now,
                channel=channel.name,
                agent=f"@{agent.agent_id}",
                name=agent.name,
                verified=agent.verified,
            )
            self.out.append(Send(listeners, frames.encode(came)))

    def _create(self, agent: Agent, name: str, now: int) -> None:
        if not is_channel(name):
            raise Refusal("INVALID_MSG", "Invalid channel name")
        if not agent.verified:
            raise Refusal("AUTH_REQUIRED", "Only verified agents can create channels")
        if name in self.channels:
            raise Refusal("CHANNEL_EXISTS", f"Channel {name} already exists")
        if len(self.channels) >= self._limits.channels:
            raise Refusal("NOT_ALLOWED", "The server has as many channels as it allows")
        channel = self.channels[name] = Channel(name, self._limits)
        self._join(agent, channel, now)

    def _responding(self, agent: Agent, frame: frames.RespondingTo, now: int) -> None:
        channel = self._channel(frame.channel)
        if channel.name not in agent.channels or len(frame.msg_id) > 64:
            raise Refusal("INVALID_MSG", f"Not a message of a channel of yours: {channel.name}")
        if agent.lurking:
            raise Refusal("LURK_MODE", "Persistent identity required to answer")
        holder, loser = self._floor.claim(
            channel.name, frame.msg_id, agent.agent_id, agent.conn, frame.started_at, now
        )
        if loser is not None:
            give_way = frames.Yield(
                ts=now,
                msg_id=frame.msg_id,
                channel=channel.name,
                holder=f"@{holder.holder}",
                holder_started_at=holder.started_at,
                reason="Another agent claimed the floor earlier",
            )
            self.out.append(Send((loser.conn,), frames.encode(give_way)))
        if holder.conn == agent.conn:
            claimed = frames.FloorClaimed(
                ts=now,
                msg_id=frame.msg_id,
                channel=channel.name,
                holder=f"@{agent.agent_id}",
                started_at=holder.started_at,
            )
            self.out.append(Send(channel.listeners(agent), frames.encode(claimed)))

    # -- small things ---------------------------------------------------------------------------

    def _channel(self, name: str) -> Channel:
        channel = self.channels.get(name)
        if channel is None:
            if not is_channel(name):
                raise Refusal("INVALID_MSG", "Invalid channel name")
            raise Refusal("CHANNEL_NOT_FOUND", f"Channel {name} not found")
        return channel

    def _listed_channels(self) -> tuple[frames.ChannelInfo, ...]:
        return tuple(
            frames.ChannelInfo(c.name, len(c.members), True if c.verified_only else msgspec.UNSET)
            for c in self.channels.values()
        )

    def _notice(self, channel: Channel, content: str, now: int) -> None:
        if channel.loud and content:
            text = frames.Message(
                ts=now, sender="@server", from_name="Server", to=channel.name, content=content
            )
            self.out.append(Send(tuple(channel.loud), frames.encode(text)))

    def _reply(self, agent: Agent, frame: frames.ServerFrame) -> None:
        self.out.append(Send((agent.conn,), frames.encode(frame)))

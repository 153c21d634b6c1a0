"""What the server allows, and the counting behind it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from swarm.wire.agentchat import frames


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Every bound of the server; the defaults are the protocol's own limits.

    A guest is whoever is neither trusted, nor of the fleet (it showed the badge), nor named in
    the settings.  Times are milliseconds.
    """

    messages_per_second: float = 1
    """``MSG`` of one guest; more is answered ``RATE_LIMITED`` and dropped."""
    guests_messages_per_second: float = 1000
    """``MSG`` of all guests together."""
    fleet_messages_per_second: float = 50
    """``MSG`` of one agent of the fleet, or one that the settings name."""
    trusted_messages_per_second: float = 1000
    """What a trusted agent is told.  It is not counted at all."""
    frames_before: int = 10
    """Frames in a window before sign-in; more closes the socket (1008)."""
    frames_after: int = 60
    """Frames of a guest in a window after sign-in; more closes the socket (1008)."""
    fleet_frames: int = 2_000
    """The same of an agent of the fleet, or one that the settings name."""
    frames_window: int = 10_000
    frame_bytes: int = frames.MAX_FRAME
    content_bytes: int = frames.MAX_FRAME
    """Bytes of one ``MSG.content``; its echo has to fit a frame as well."""
    connections: int = 10_000
    """Sockets in all."""
    connections_per_address: int = 200
    arriving: int = 1_000
    """Sockets that have not signed in; beyond it the oldest of them goes, so that whoever signs
    in without delay gets in even while somebody opens as many as they can."""
    guests: int = 10_000
    """Guests signed in; the rest of ``connections`` is kept for the fleet."""
    readers: int = 10_000
    """Guests without a key, who may only read."""
    sign_in: int = frames.CHALLENGE_MS
    """A connection that has not signed in by then is dropped; a challenge expires."""
    idle: int = 600_000
    """An agent that sends no frame for so long is dropped."""
    replay: int = frames.REPLAY
    """Messages a channel's replay holds."""
    replay_bytes: int = 4 * 1024 * 1024
    """Bytes a channel's replay holds; the oldest go first."""
    channels: int = 100
    remembered: int = 10_000
    """Agents whose message count and take-overs are remembered after they left."""
    takeover_base: int = 5_000
    """How long a rapid take-over is held back; it doubles up to ``takeover_cap``.  0: never."""
    takeover_cap: int = 60_000
    takeover_rapid: int = 60_000
    """A take-over is rapid when the session it displaces is younger than this."""
    floors: int = 1_000
    """Floor claims held at once."""
    floor: int = 45_000
    notices_per_second: int = 10
    """Presence notices of one channel; what is over is told in one line a second."""


@dataclass(slots=True)
class Window:
    """Counts events in windows that begin with the first event after the last one ended."""

    began: int = -(2**62)
    count: int = 0

    def admit(self, now: int, length: int, most: int) -> bool:
        """Count one event; whether it is within ``most`` in ``length`` milliseconds."""
        if now - self.began >= length or now < self.began:
            self.began = now
            self.count = 0
        self.count += 1
        return self.count <= most


@dataclass(slots=True)
class Record:
    """What is remembered of one agent id, connected or not."""

    messages: Window = field(default_factory=Window)
    signed_in_at: int = -(2**62)
    held_back: int = 0
    """Milliseconds the last take-over was held back."""


class Records:
    """The records of at most ``most`` agents; the longest unused goes first."""

    __slots__ = ("_most", "_records")

    def __init__(self, most: int) -> None:
        self._most = most
        self._records: OrderedDict[str, Record] = OrderedDict()

    def of(self, agent_id: str) -> Record:
        """The record of one agent, new when there is none."""
        record = self._records.get(agent_id)
        if record is None:
            record = self._records[agent_id] = Record()
            if len(self._records) > self._most:
                self._records.popitem(last=False)
        else:
            self._records.move_to_end(agent_id)
        return record

    def __len__(self) -> int:
        return len(self._records)


def message_window(rate: float) -> tuple[int, int]:
    """``rate`` messages a second as (count, milliseconds): ``0.5`` is one in 2,000."""
    count = max(int(rate), 1)
    return count, int(1000 * count / rate)


def takeover_delay(record: Record, limits: ServerLimits, now: int) -> int:
    """How long a take-over is held back before its WELCOME, in milliseconds."""
    if now - record.signed_in_at >= limits.takeover_rapid:
        return 0
    return min(max(record.held_back * 2, limits.takeover_base), limits.takeover_cap)

"""A daemon that nothing has concerned yet, in as few memory pages as can be.

CPython writes to every object it so much as looks at (the reference count), so each function that
runs after the fork makes pages of the zygote's the daemon's own: the whole loop costs 2.9 MB,
this one 0.7 (measured, ``bench``).  So a daemon dozes until something concerns it: it beats, keeps
its chat connection alive or has it made anew, takes its settings, lets its clone be made, and
looks at raw bytes for its name.  Signing in and cloning are done by helper processes.  At the
first order or offer it wakes: the loop takes over what is here, and dozing is over for good.
"""

from __future__ import annotations

import os
import select
import time
from typing import Protocol

import msgspec

from swarm.daemon import claims
from swarm.daemon.chore import Chore
from swarm.daemon.line import Lifeline
from swarm.daemon.memory import Current
from swarm.daemon.outbox import Entry
from swarm.daemon.ration import Ration
from swarm.daemon.signin import Joined, frame_size, jitter, read_joined, retry_delay
from swarm.daemon.state import Held, Me
from swarm.errors import SwarmError, WireError
from swarm.wire import lifeline, work
from swarm.wire.agentchat import frames
from swarm.wire.websocket import MAX_MESSAGE, apply_mask

KEEPALIVE_SECONDS = 240.0
"""As :mod:`swarm.wire.agentchat.session`: a server drops who is silent for 600 s."""
PONG_SECONDS = 60.0
"""Nothing heard for so long after a keep-alive: the peer is gone."""
RECEIVE_BYTES = 64 * 1024
FAILING_ATTEMPTS = 5
_PING_TEXT = b'{"type":"PING"}'
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A
_MASKED = 0x80


class Settled(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a daemon finds in its workspace, told by the helper process that looked."""

    me: Me
    public_pem: str
    sandboxed: bool
    fences: dict[str, int] = {}
    unsettled: tuple[Entry, ...] = ()
    hub: str = ""
    """The hub ``repo/`` is a clone of; empty when there is none."""
    current: Current | None = None
    trouble: str = ""
    """What a person should know about it."""


class Arrival(msgspec.Struct, frozen=True, omit_defaults=True):
    """A helper's whole answer: settled in, and joined if that was as simple as it mostly is."""

    settled: Settled
    joined: Joined | None = None


class Ways(Protocol):
    """How a dozing daemon gets things done: by helper processes."""

    def arrive(self) -> tuple[int, Chore]:
        """Settle in and join; a socket (-1: none can be used), and who answers :class:`Arrival`."""
        ...

    def join(self) -> tuple[int, Chore]:
        """Join again; a socket, and who answers :class:`~swarm.daemon.signin.Joined`."""
        ...

    def clone(self, wanted: lifeline.Prepare) -> Chore:
        """Make a clone; the answer is empty."""
        ...


_arrival = msgspec.json.Decoder(Arrival)


class Doze:
    """The state of one dozing daemon; after :meth:`run` it is what the loop takes over."""

    __slots__ = (
        "_buffer", "_left", "_line", "_ration", "_ways", "beat_at", "beats", "chat", "cloning",
        "failures", "found", "greeted", "held", "hub", "joined", "ping_at", "retry_at", "signing",
        "told", "tuning", "waiting_pong", "wanted",
    )  # fmt: skip

    def __init__(self, line: Lifeline, tuning: lifeline.Tuning, ways: Ways) -> None:
        self._line = line
        self._ways = ways
        self._buffer = b""
        self._left = False
        self._ration = Ration()
        self.tuning = tuning
        self.found: Settled | None = None
        """Known from the first helper's answer on, and always after :meth:`run` was true."""
        self.hub = ""
        self.beats = 0
        self.beat_at = time.monotonic()
        self.greeted = False
        self.chat = -1
        """Descriptor of the chat socket, once one is there."""
        self.joined: Joined | None = None
        self.signing: Chore | None = None
        self.failures = 0
        self.retry_at: float | None = self.beat_at
        self.ping_at = 0.0
        self.waiting_pong = False
        self.cloning: tuple[lifeline.Prepare, Chore] | None = None
        self.wanted: lifeline.Prepare | None = None
        self.held: tuple[Held, ...] = ()
        self.told: list[lifeline.ParentLine] = []
        """Lines of the supervisor that were read and not done."""

    @property
    def pending(self) -> bytes:
        """Bytes of the chat that were read and not done."""
        return self._buffer

    def run(self) -> bool:
        """Until something concerns us, which is true; false when there is nothing left to do.

        That is when the supervisor is gone, or lets us go before we have settled in.

        Raises :class:`~swarm.errors.SwarmError` when the daemon cannot settle in at all.
        """
        while True:
            woken = self.turn()
            if woken is not None:
                return woken

    def turn(self, longest: float | None = None) -> bool | None:
        """One wait of at most ``longest`` seconds, and what came of it; ``None``: doze on."""
        awake = self._due()
        if not awake and not self._over:
            poll = select.poll()
            poll.register(self._line.fileno, self._line.interest)
            quiet_until = self._ration.again_at()
            if self.joined is not None and quiet_until is None:
                poll.register(self.chat, select.POLLIN)
            if self.signing is not None:
                poll.register(self.signing.fd, select.POLLIN)
            if self.cloning is not None:
                poll.register(self.cloning[1].fd, select.POLLIN)
            now = time.monotonic()
            wait = max(0.0, self._deadline() - now)
            if quiet_until is not None:
                wait = min(wait, max(0.0, quiet_until - now))
                self._ration.take(0, 0, now)  # it fills as time passes
            wait = wait if longest is None else min(wait, longest)
            for fd, _ in poll.poll(wait * 1000 + 0.5):
                awake = self._ready(fd) or awake
        if self._over:
            return False
        return True if awake else None

    @property
    def _over(self) -> bool:
        return self._line.lost or self._left

    # -- time ------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        at = self.beat_at
        if self.retry_at is not None:
            at = min(at, self.retry_at)
        if self.joined is not None:
            at = min(at, self.ping_at)
        for held in self.held:
            at = min(at, held.at)
        return at

    def _due(self) -> bool:
        """What time asks for; true when a held announcement's place has come."""
        now = time.monotonic()
        if now >= self.beat_at:
            self.beats += 1
            self._line.send(lifeline.Beat(seq=self.beats))
            self.beat_at = max(self.beat_at, now - 1.0) + self.tuning.heartbeat_seconds
        if self.retry_at is not None and now >= self.retry_at:
            self.retry_at = None
            try:
                arriving = self.found is None
                self.chat, self.signing = self._ways.arrive() if arriving else self._ways.join()
            except OSError as error:
                if self.found is None:
                    raise
                self._failed(error.strerror or str(error))
        if self.joined is not None and now >= self.ping_at:
            if self.waiting_pong:
                self._lost("the chat server has gone silent")
            else:
                self.waiting_pong = True
                self.ping_at = now + PONG_SECONDS
                self._send(_TEXT, _PING_TEXT)
        if self.found is None:
            return False  # whatever it is has to wait until we have settled in
        return bool(self.told) or any(now >= held.at for held in self.held)

    # -- what came -------------------------------------------------------------------------------

    def _ready(self, fd: int) -> bool:
        """Something came on ``fd``; true when it concerns us."""
        if fd == self._line.fileno:
            return self._supervisor()
        if self.signing is not None and fd == self.signing.fd:
            if self.signing.read():
                return self._signed_in()
        elif self.cloning is not None and fd == self.cloning[1].fd:
            if self.cloning[1].read():
                self._cloned()
        elif self.joined is not None and fd == self.chat:
            return self._chat()
        return False

    def _supervisor(self) -> bool:
        self._line.flush()
        for raw in self._line.receive():
            try:
                line = lifeline.from_parent(raw)
            except WireError:
                continue  # a line of another version is none for us
            if self.told:
                self.told.append(line)
            elif isinstance(line, lifeline.Tuning):
                self.tuning = line
                self.beat_at = min(self.beat_at, time.monotonic() + line.heartbeat_seconds)
            elif isinstance(line, lifeline.Prepare) and self.cloning is None:
                self.wanted = line
                self._prepare()
            elif isinstance(line, lifeline.Leave) and self.found is None:
                self._left = True
            else:
                self.told.append(line)
        return bool(self.told) and self.found is not None

    def _prepare(self) -> None:
        """Have the clone made that was asked for, once there is a workspace for it."""
        line = self.wanted
        if line is None or self.found is None or line.hub == self.hub:
            return
        try:
            self.cloning = line, self._ways.clone(line)
        except OSError:
            self.told.append(line)

    def _cloned(self) -> None:
        assert self.cloning is not None
        line, chore = self.cloning
        self.cloning = None
        try:
            chore.finish()
        except SwarmError as error:
            self._line.send(lifeline.Trouble(text=f"no clone could be made: {error}"))
            self.told.append(line)  # it is tried again, by the loop
            return
        self.hub = line.hub
        if self.greeted:
            self._line.send(lifeline.Idle(warm=True))

    def _signed_in(self) -> bool:
        """The helper has ended: joined, or not; true when there is more to do than to doze."""
        assert self.signing is not None
        signing, self.signing = self.signing, None
        if self.found is None:
            if self._arrived(_arrival.decode(signing.finish())):
                return True
        else:
            try:
                self.joined = read_joined(signing.finish())
            except SwarmError as error:
                os.close(self.chat)
                self.chat = -1
                self._failed(str(error))
                return False
        return self._greet()

    def _arrived(self, arrival: Arrival) -> bool:
        """The first helper's answer; true when the loop is needed at once."""
        self.found = found = arrival.settled
        self.hub = found.hub
        self.joined = arrival.joined
        if found.trouble:
            self._line.send(lifeline.Trouble(text=found.trouble))
        self._prepare()
        if self.joined is None:
            if self.chat >= 0:
                os.close(self.chat)
            self.chat = -1
            return True  # what keeps us out is for the loop to find out and to tell
        return False

    def _greet(self) -> bool:
        """Joined, for the first time or again."""
        assert self.joined is not None
        assert self.found is not None
        self.failures = 0
        self.waiting_pong = False
        self.ping_at = time.monotonic() + KEEPALIVE_SECONDS
        if not self.greeted:
            self.greeted = True
            self._line.send(lifeline.Ready(agent_id=self.found.me.agent_id))
            self._line.send(lifeline.ChatState(connected=True))
            self._line.send(lifeline.Idle(warm=bool(self.hub)))
        else:
            self._line.send(lifeline.ChatState(connected=True))
        self._buffer = self.joined.pending
        return self._frames()[0] or bool(self.told)

    # -- the chat --------------------------------------------------------------------------------

    def _chat(self) -> bool:
        try:
            data = os.read(self.chat, RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            data, why = b"", error.strerror or str(error)
        else:
            why = "the chat server closed the connection"
        if not data:
            self._lost(why)
            return False
        if self.waiting_pong:
            self.waiting_pong = False
            self.ping_at = time.monotonic() + KEEPALIVE_SECONDS
        self._buffer += data
        woken, seen = self._frames()
        short = len(data) < RECEIVE_BYTES
        if not self._ration.take(len(data), seen, time.monotonic(), all_read=short):
            if self.joined is not None:
                self._lost("the chat server sends more than can be read")
            return False
        return woken

    def _frames(self) -> tuple[bool, int]:
        """Look at whole frames; one that concerns us stays in the buffer with all after it.

        Returns whether there is one, and how many were looked at.
        """
        buffer, at, seen = self._buffer, 0, 0
        pong: bytes | None = None
        woken = False
        while (size := frame_size(buffer[at : at + 10])) is not None:
            kind = buffer[at]
            if kind == _CLOSE:
                self._lost("the chat server closed the connection")
                return False, seen
            if size > MAX_MESSAGE or kind not in (_TEXT, _PING, _PONG) or buffer[at + 1] & _MASKED:
                woken = True  # fragments and nonsense are the codec's
                break
            if len(buffer) < at + size:
                break
            head = 2 if size < 128 else 4 if buffer[at + 1] == 126 else 10
            payload = buffer[at + head : at + size]
            if kind == _PING:
                pong = payload[:125]
            elif kind == _TEXT and self._concerns(payload):
                woken = True
                break
            at += size
            seen += 1
        self._buffer = buffer[at:]
        if pong is not None:
            # Only the last of a batch is answered (RFC 6455, 5.5.3).
            self._send(_PONG, pong)
        return woken and self.joined is not None, seen

    def _concerns(self, payload: bytes) -> bool:
        """Whether a frame is for us; what may be ours in a while is held.

        A look at raw bytes: it may wake us for nothing, it never misses an order.  Quotes inside
        of a message are escaped, so nobody can write what the server writes: whoever says the
        name of a coordinator is not taken for one.
        """
        if b'"MSG"' not in payload:
            return b'"SESSION_DISPLACED"' in payload or b'"KICKED"' in payload
        if b'"replay":true' in payload or b'"replay": true' in payload:
            return False
        if not any(_said_by(one.encode(), payload) for one in self.tuning.coordinators):
            return False
        assert self.found is not None
        me = self.found.me
        if me.agent_id.encode() in payload or me.name.encode() in payload:
            return True
        if b"TASK_AVAILABLE" in payload:
            self._hold(payload)
        elif self.held and b"ASSIGN" in payload:
            self.held = tuple(h for h in self.held if h.task.id.encode() not in payload)
        return False

    def _hold(self, payload: bytes) -> None:
        try:
            frame = frames.read_server_frame(payload.decode())
            if not isinstance(frame, frames.Message) or frame.replay is True:
                return
            sender = frame.sender.removeprefix("@")
            message = work.decode(frame.content)
        except (WireError, UnicodeDecodeError):
            return
        if not isinstance(message, work.TaskAvailable) or sender not in self.tuning.coordinators:
            return
        assert self.found is not None
        wait = claims.place(self.found.me, message)
        if wait is None or len(self.held) >= claims.MAX_HELD:
            return
        at = time.monotonic() + wait
        self.held = (
            *(h for h in self.held if h.task.id != message.task.id),
            Held(message.task, sender, at, at + claims.HELD_SECONDS),
        )

    def _send(self, opcode: int, payload: bytes) -> None:
        """One small frame; a socket too full for it has a peer that does not read."""
        mask = os.urandom(4)
        frame = bytes((opcode, 0x80 | len(payload))) + mask + apply_mask(payload, mask)
        try:
            sent = os.write(self.chat, frame)
        except OSError:
            sent = 0
        if sent != len(frame):
            self._lost("the chat connection broke")

    def _lost(self, why: str) -> None:
        os.close(self.chat)
        self.chat = -1
        self.joined = None
        self._buffer = b""
        self._line.send(lifeline.ChatState(connected=False, reason=why))
        self._failed(why)

    def _failed(self, why: str) -> None:
        self.failures += 1
        self.retry_at = time.monotonic() + retry_delay(self.failures, jitter())
        if self.failures % FAILING_ATTEMPTS == 0:
            state = lifeline.ChatState(connected=False, attempts=self.failures, reason=why)
            self._line.send(state)


def _said_by(sender: bytes, payload: bytes) -> bool:
    """Whether the server says that a message is ``sender``'s, a bare id.

    However it spells its JSON: what is between the key and the id is looked at only where both
    are there.
    """
    if sender not in payload:
        return False
    at = payload.find(b'"from"')
    while at >= 0:
        value = payload[at + 6 : at + 64].lstrip(b" \t\r\n:")
        if value.startswith((b'"@' + sender, b'"' + sender, b'"\\')):
            return True
        at = payload.find(b'"from"', at + 6)
    return False

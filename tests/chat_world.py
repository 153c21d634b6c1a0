"""An agentchat server machine and its clients without sockets, for tests of both machines."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import defaultdict

from swarm.wire.agentchat.limits import ServerLimits
from swarm.wire.agentchat.members import id_of_key
from swarm.wire.agentchat.rooms import Drop, Send
from swarm.wire.agentchat.seen import Seen
from swarm.wire.agentchat.server import ChatServer
from swarm.wire.agentchat.session import ChatSession

START = 1_700_000_000_000


def pem(name: str) -> str:
    """A public key that only :func:`fake_verify` takes for one."""
    return f"-----BEGIN PUBLIC KEY-----\n{name}\n-----END PUBLIC KEY-----\n"


def id_of(name: str) -> str:
    return id_of_key(pem(name))


def fake_sign(name: str):
    return lambda data: hashlib.sha512(pem(name).encode() + data).digest()


def fake_verify(public: str, data: bytes, signature: bytes) -> bool:
    return hashlib.sha512(public.encode() + data).digest() == signature


class World:
    """A server, and what each connection was sent (decoded) and dropped with."""

    def __init__(self, trusted=(), channels=(), badge: str = "", **limits: object) -> None:
        counter = itertools.count()
        self.now = START
        self.server = ChatServer(
            verify=fake_verify,
            entropy=lambda n: hashlib.sha256(b"%d" % next(counter)).digest()[:n],
            limits=ServerLimits(**limits),  # type: ignore[arg-type]
            trusted=trusted,
            channels=channels,
            badge=badge,
        )
        self.inbox: dict[int, list[dict]] = defaultdict(list)
        self.dropped: dict[int, tuple[int, str]] = {}
        self.sends = 0
        self.order: list[tuple[int, ...]] = []
        """Whom each text was sent to, in the order of sending."""
        self.sessions: dict[int, ChatSession] = {}
        self.events: dict[int, list] = defaultdict(list)

    # -- raw connections ------------------------------------------------------------------------

    def connect(self, address: str = "127.0.0.1") -> int:
        number, effects = self.server.connected(address, self.now)
        self.perform(effects)
        return number

    def send(self, conn: int, frame: object) -> list[dict]:
        """Send one frame (a dict, or raw text); what this connection is sent in answer."""
        before = len(self.inbox[conn])
        text = frame if isinstance(frame, str) else json.dumps(frame)
        self.perform(self.server.received(conn, text, self.now))
        return self.inbox[conn][before:]

    def leave(self, conn: int) -> None:
        self.perform(self.server.disconnected(conn, self.now))

    def advance(self, milliseconds: int) -> None:
        """Let time pass, ticking at every deadline on the way."""
        end = self.now + milliseconds
        while (deadline := self.server.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.perform(self.server.tick(self.now))
        self.now = end
        self.perform(self.server.tick(self.now))

    def perform(self, effects) -> None:
        for effect in effects:
            match effect:
                case Send(to=to, text=text):
                    self.sends += len(to)
                    self.order.append(tuple(to))
                    for conn in to:
                        self._deliver(conn, text)
                case Drop(conn=conn, code=code, reason=reason):
                    self.dropped[conn] = (code, reason)

    def _deliver(self, conn: int, text: str) -> None:
        session = self.sessions.get(conn)
        if session is None:
            self.inbox[conn].append(json.loads(text))
        elif not session.over:
            self.events[conn] += session.received(text, self.now)

    # -- signing in -----------------------------------------------------------------------------

    def sign_in(
        self,
        name: str,
        *,
        quiet: bool = False,
        addressed: bool = False,
        badge: str = "",
        join: str | None = "#agents",
    ) -> int:
        """A raw connection that has signed in (and joined), its inbox emptied."""
        conn = self.connect()
        answers = self.prove(conn, name, quiet=quiet, addressed=addressed, badge=badge)
        assert answers[0]["type"] == "WELCOME", answers
        if join is not None:
            assert self.send(conn, {"type": "JOIN", "channel": join})[0]["type"] == "JOINED"
        self.inbox[conn].clear()
        return conn

    def prove(
        self,
        conn: int,
        name: str,
        *,
        quiet: bool = False,
        addressed: bool = False,
        badge: str = "",
    ) -> list[dict]:
        """IDENTIFY and VERIFY_IDENTITY; what the last one was answered."""
        identify = {"type": "IDENTIFY", "name": name, "pubkey": pem(name)}
        identify |= {"quiet": True} if quiet else {}
        identify |= {"addressed": True} if addressed else {}
        identify |= {"badge": badge} if badge else {}
        (challenge,) = self.send(conn, identify)
        assert challenge["type"] == "CHALLENGE", challenge
        return self.send(conn, self.proof(challenge, name))

    def proof(self, challenge: dict, name: str) -> dict:
        import base64

        text = f"AGENTCHAT_AUTH|{challenge['nonce']}|{challenge['challenge_id']}|{self.now}"
        return {
            "type": "VERIFY_IDENTITY",
            "challenge_id": challenge["challenge_id"],
            "signature": base64.b64encode(fake_sign(name)(text.encode())).decode(),
            "timestamp": self.now,
        }

    # -- client machines ------------------------------------------------------------------------

    def session(
        self, name: str, *, quiet: bool = True, addressed: bool = False, seen: Seen | None = None
    ) -> int:
        """A :class:`ChatSession` wired to the server; the number of its connection."""
        conn = self.connect()
        public, sign = pem(name), fake_sign(name)
        session = ChatSession(
            name, public, sign, "#agents", quiet=quiet, addressed=addressed, seen=seen
        )
        self.sessions[conn] = session
        session.opened(self.now)
        self.flush(conn)
        return conn

    def flush(self, conn: int) -> None:
        """Carry what the session wants sent until it wants nothing more."""
        while texts := self.sessions[conn].outgoing():
            for text in texts:
                self.perform(self.server.received(conn, text, self.now))

    def say(self, conn: int, content: str, to: tuple[str, ...] = ()) -> None:
        self.sessions[conn].say(content, self.now, to)
        self.flush(conn)

"""The doze: what it does by itself, what wakes it, and what it leaves for the loop."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
from daemon_bench import Bench, channel, daemon
from daemon_values import COORDINATOR, ME, NAME
from tests_support import eventually_async

from swarm.daemon import doze as dozing
from swarm.daemon import ration
from swarm.daemon.chore import Chore
from swarm.daemon.doze import Arrival, Doze, Settled
from swarm.daemon.line import Lifeline
from swarm.daemon.signin import Joined, frame_size
from swarm.errors import SwarmError
from swarm.wire import lifeline, work
from swarm.wire.framing import LineBuffer
from swarm.wire.lifeline import ChildLine, Leave, Prepare, Tuning
from swarm.wire.work import Assign, TaskAvailable, TaskRef, WorkMessage

TUNING = Tuning(heartbeat_seconds=30.0, coordinators=(COORDINATOR,))
OPENED = b"HTTP/1.1 101 x\r\n\r\n"


def text(payload: str, opcode: int = 0x81) -> bytes:
    data = payload.encode()
    if len(data) < 126:
        return bytes((opcode, len(data))) + data
    if len(data) < 65536:
        return bytes((opcode, 126)) + struct.pack(">H", len(data)) + data
    return bytes((opcode, 127)) + struct.pack(">Q", len(data)) + data


def said(message: WorkMessage | str, sender: str = COORDINATOR, *, replay: bool = False) -> bytes:
    content = message if isinstance(message, str) else work.encode(message)
    frame: dict[str, object] = {
        "type": "MSG",
        "ts": 1,
        "from": f"@{sender}",
        "from_name": "c",
        "to": "#agents",
        "content": content,
        "msg_id": "m",
    }
    if replay:
        frame["replay"] = True
    return text(msgspec.json.encode(frame).decode())


class Helpers:
    """Helpers that answer at once, as they are told to."""

    def __init__(self, arrival: Callable[[], Arrival]) -> None:
        self.arrival = arrival
        self.servers: list[socket.socket] = []
        self.clones: list[str] = []
        self.clone_fails = False

    def arrive(self) -> tuple[int, Chore]:
        return self._chat(), Chore(lambda: msgspec.json.encode(self.arrival()))

    def join(self) -> tuple[int, Chore]:
        return self._chat(), Chore(lambda: msgspec.json.encode(joined()))

    def clone(self, wanted: Prepare) -> Chore:
        self.clones.append(wanted.hub)

        def work() -> bytes:
            if self.clone_fails:
                raise SwarmError("no room")
            return b""

        return Chore(work)

    def _chat(self) -> int:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.servers.append(theirs)
        return ours.detach()


def joined(pending: bytes = b"") -> Joined:
    return Joined(b"k" * 16, OPENED, 0, 100.0, True, pending, time.monotonic())


class Den:
    """A doze in the test's own process; its supervisor's and its server's ends are the test's."""

    def __init__(self, arrival: Callable[[], Arrival]) -> None:
        self.supervisor, theirs = socket.socketpair()
        self.line = Lifeline(theirs.detach())
        self.helpers = Helpers(arrival)
        self.doze = Doze(self.line, TUNING, self.helpers)
        self._buffer = LineBuffer()
        self.woken: bool | None = None

    @property
    def server(self) -> socket.socket:
        return self.helpers.servers[-1]

    def arrived(self) -> Den:
        """Past its sign-in, and everybody told."""
        self.until(lambda: self.doze.greeted)
        self.said()
        return self

    def until(self, condition: Callable[[], object], within: float = 10.0) -> None:
        """Turn after turn of the doze, until something holds."""
        end = time.monotonic() + within
        while not condition():
            assert time.monotonic() < end
            self.woken = self.doze.turn(0.01)

    def settle(self, turns: int = 5) -> bool | None:
        """A few turns; whether one of them woke it."""
        for _ in range(turns):
            if (woken := self.doze.turn(0.01)) is not None:
                return woken
        return None

    def said(self) -> list[ChildLine]:
        self.supervisor.setblocking(False)
        lines: list[ChildLine] = []
        while True:
            try:
                data = self.supervisor.recv(65536)
            except BlockingIOError:
                return lines
            lines += [lifeline.from_child(raw) for raw in self._buffer.feed(data)]

    def close(self) -> None:
        self.supervisor.close()
        self.line.close()
        for server in self.helpers.servers:
            server.close()
        if self.doze.chat >= 0:
            os.close(self.doze.chat)
        for chore in (self.doze.signing, self.doze.cloning and self.doze.cloning[1]):
            if chore:
                chore.abandon()


def settled(**found: object) -> Settled:
    return Settled(ME, "pem", sandboxed=True, **found)  # type: ignore[arg-type]


@pytest.fixture
def make() -> Iterator[Callable[..., Den]]:
    dens: list[Den] = []

    def one(arrival: Callable[[], Arrival] = lambda: Arrival(settled(), joined())) -> Den:
        dens.append(Den(arrival))
        return dens[-1]

    yield one
    for den in dens:
        den.close()


Make = Callable[..., Den]


def kinds(lines: list[ChildLine]) -> list[str]:
    return [type(line).__name__ for line in lines]


def test_it_beats_settles_in_joins_and_says_so(make: Make) -> None:
    den = make(lambda: Arrival(settled(hub="/hub", trouble="careful"), joined()))
    den.until(lambda: den.doze.greeted)
    lines = den.said()
    assert kinds(lines) == ["Beat", "Trouble", "Ready", "ChatState", "Idle"]
    assert lines[-1] == lifeline.Idle(warm=True)
    assert den.settle() is None


def test_a_daemon_that_cannot_settle_in_says_why(make: Make) -> None:
    def broken() -> Arrival:
        raise SwarmError("the workspace belongs to somebody else")

    den = make(broken)
    with pytest.raises(SwarmError, match="somebody else"):
        den.until(lambda: False)


def test_one_that_could_not_join_wakes_so_that_the_loop_tells(make: Make) -> None:
    den = make(lambda: Arrival(settled()))
    den.until(lambda: den.woken)
    assert not den.doze.greeted
    assert den.doze.joined is None


def test_frames_that_concern_others_do_not_wake_it(make: Make) -> None:
    den = make().arrived()
    theirs = Assign(agentId="b" * 16, task=TaskRef("t-1"), fence=1)
    mine = Assign(agentId=ME.agent_id, task=TaskRef("t-1"), fence=1)
    den.server.sendall(said("good morning", "9" * 16) + said(theirs) + said("x" * 70_000, "9" * 16))
    den.server.sendall(said(mine, replay=True) + said(mine, sender="9" * 16))
    den.server.sendall(text('{"type":"AGENT_JOINED","agent":"%s"}' % ME.agent_id))  # noqa: UP031
    assert den.settle(20) is None
    assert den.doze.pending == b""


@pytest.mark.parametrize(
    "message",
    [
        Assign(agentId=ME.agent_id, task=TaskRef("t-1"), fence=1),
        TaskAvailable(task=TaskRef("t-1", role="builder"), offer=(NAME,)),
        f"ASSIGN api @{ME.agent_id}",
    ],
    ids=["assignment", "offer", "short form"],
)
def test_an_order_or_an_offer_wakes_it_and_is_left_for_the_loop(
    make: Make, message: WorkMessage | str
) -> None:
    den = make().arrived()
    frame = said(message)
    den.server.sendall(said("talk", "9" * 16))
    for byte in frame[:-1]:
        den.server.sendall(bytes((byte,)))
    assert den.settle(3) is None
    den.server.sendall(frame[-1:] + b"more")
    den.until(lambda: den.woken)
    assert den.doze.pending.startswith(frame)


def test_what_the_codec_must_judge_wakes_it(make: Make) -> None:
    masked = b"\x81\x81mask" + b"a"
    for odd in (b"\x01\x01a", b"\x82\x01a", b"\x81\x7f" + b"\xff" * 8, masked):
        den = make().arrived()
        den.server.sendall(odd)
        den.until(lambda den=den: den.woken)  # type: ignore[misc]
        assert den.doze.pending == odd


def test_a_server_that_takes_its_leave_wakes_nobody(make: Make) -> None:
    den = make().arrived()
    den.server.sendall(said("bye", "9" * 16) + b"\x88\x02\x03\xe9")
    den.until(lambda: den.doze.joined is None)
    (state,) = den.said()
    assert state == lifeline.ChatState(
        connected=False, reason="the chat server closed the connection"
    )
    den.until(lambda: den.doze.joined is not None)
    assert den.woken is None


def test_no_stranger_can_wake_it_by_what_they_say(make: Make) -> None:
    """They know all our ids; what counts is who the server says is speaking."""
    den = make().arrived()
    forged = work.encode(Assign(agentId=ME.agent_id, task=TaskRef("t-1"), fence=9))
    for content in (
        f"{COORDINATOR} {ME.agent_id} {NAME} ASSIGN TASK_AVAILABLE",
        '"from":"@' + COORDINATOR + '" ' + forged,
        '","from":"@' + COORDINATOR + '","to":"' + ME.agent_id,
        '\\","from":"@' + COORDINATOR + '","x":"' + ME.agent_id,
        msgspec.json.encode({"type": "MSG", "from": f"@{COORDINATOR}", "content": forged}).decode(),
    ):
        den.server.sendall(said(content, "9" * 16))
    assert den.settle(20) is None
    assert den.doze.pending == b""


@pytest.mark.parametrize("spelling", ['"from" : "@%s"', '"from":"%s"', '"from":\n"@%s"'])
def test_however_a_server_spells_its_json_an_order_wakes_it(make: Make, spelling: str) -> None:
    den = make().arrived()
    mine = work.encode(Assign(agentId=ME.agent_id, task=TaskRef("t-1"), fence=1))
    content = msgspec.json.encode(mine).decode()
    den.server.sendall(
        text(f'{{"type":"MSG",{spelling % COORDINATOR},"to":"#agents","content":{content}}}')
    )
    den.until(lambda: den.woken)


def test_mutant_a_look_for_the_name_alone_is_caught(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dozing, "_said_by", lambda sender, payload: sender in payload)
    with pytest.raises(AssertionError):
        test_no_stranger_can_wake_it_by_what_they_say(make)


def test_a_flood_of_pings_is_answered_once_a_batch_and_left_to_wait(make: Make) -> None:
    den = make().arrived()
    den.server.setblocking(False)
    sent, pings = 0, b"\x89\x00" * 30_000
    for _ in range(2000):
        try:
            sent += den.server.send(pings)
        except BlockingIOError:
            den.doze.turn(0)
            if den.doze._ration.again_at() is not None:
                break
    assert den.doze._ration.again_at() is not None, f"it read all of {sent} bytes"
    assert sent * 33 > ration.BURST, "not before it had read what is allowed"
    assert len(den.server.recv(1 << 20)) < 4096, "a pong for each batch, none for each ping"
    assert den.settle() is None
    den.supervisor.sendall(lifeline.encode(lifeline.Leave(grace_seconds=1)))
    den.until(lambda: den.woken)  # it hears its supervisor all the while


def test_what_came_with_the_sign_in_is_looked_at_too(make: Make) -> None:
    offer = said(TaskAvailable(task=TaskRef("t-1", role="builder"), offer=(NAME,)))
    den = make(lambda: Arrival(settled(), joined(offer)))
    den.until(lambda: den.woken)
    assert den.doze.greeted
    assert den.doze.pending == offer


def test_a_task_offered_to_others_is_claimed_in_its_place_unless_taken(make: Make) -> None:
    spread = TaskAvailable(task=TaskRef("t-1", role="builder"), offer=("x",), idle=10, slot_ms=50)
    den = make().arrived()
    den.server.sendall(said(spread))
    den.until(lambda: den.doze.held)
    den.until(lambda: den.woken, within=3.0)
    assert den.doze.held[0].task.id == "t-1"
    den = make().arrived()
    den.server.sendall(said(spread) + said(TaskAvailable(task=TaskRef("t-2", role="qa"))))
    den.until(lambda: den.doze.held)
    den.server.sendall(said(Assign(agentId="b" * 16, task=TaskRef("t-1"), fence=1)))
    den.until(lambda: not den.doze.held)
    assert den.settle() is None


def test_pings_are_answered(make: Make) -> None:
    den = make().arrived()
    den.server.sendall(bytes((0x89, 2)) + b"hi")
    assert den.settle() is None
    answer = den.server.recv(100)
    mask, payload = answer[2:6], answer[6:]
    assert answer[0] == 0x8A
    assert bytes(a ^ b for a, b in zip(payload, mask, strict=False)) == b"hi"


def test_a_silent_server_is_asked_and_then_left(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dozing, "KEEPALIVE_SECONDS", 0.05)
    monkeypatch.setattr(dozing, "PONG_SECONDS", 0.05)
    monkeypatch.setattr(dozing, "retry_delay", lambda *_: 0.01)
    den = make().arrived()
    first = den.server
    den.until(lambda: len(den.helpers.servers) > 1)
    assert len(first.recv(100)) == 6 + len('{"type":"PING"}')
    den.until(lambda: den.doze.joined is not None)
    states = [line for line in den.said() if isinstance(line, lifeline.ChatState)]
    assert [state.connected for state in states[:2]] == [False, True]
    assert "silent" in states[0].reason


def test_five_failures_in_a_row_are_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dozing, "retry_delay", lambda *_: 0.0)
    den = make().arrived()

    def refused() -> tuple[int, Chore]:
        def fail() -> bytes:
            raise SwarmError("refused")

        return den.helpers._chat(), Chore(fail)

    den.helpers.join = refused  # type: ignore[method-assign]
    den.server.close()
    den.until(lambda: den.doze.failures >= 5)
    states = [line for line in den.said() if isinstance(line, lifeline.ChatState)]
    assert [state.attempts for state in states if state.attempts] == [5]


def test_its_settings_and_its_clone(make: Make) -> None:
    den = make().arrived()
    den.supervisor.sendall(lifeline.encode(Tuning(0.05, ("d" * 16,))))
    den.until(lambda: den.doze.tuning.coordinators == ("d" * 16,))
    den.supervisor.sendall(lifeline.encode(Prepare("/hub")))
    den.until(lambda: den.doze.hub == "/hub")
    assert lifeline.Idle(warm=True) in den.said()
    den.supervisor.sendall(lifeline.encode(Prepare("/hub")))
    assert den.settle() is None
    assert den.helpers.clones == ["/hub"]


def test_a_clone_asked_for_before_it_has_settled_in_is_made_then(make: Make) -> None:
    den = make()
    den.supervisor.sendall(lifeline.encode(Prepare("/hub")))
    den.until(lambda: den.doze.hub == "/hub")
    assert den.settle() is None


def test_a_clone_that_fails_is_the_loops(make: Make) -> None:
    den = make().arrived()
    den.helpers.clone_fails = True
    den.supervisor.sendall(lifeline.encode(Prepare("/hub")))
    den.until(lambda: den.woken)
    assert den.doze.told == [Prepare("/hub")]
    assert "Trouble" in kinds(den.said())


def test_any_other_line_wakes_it_and_is_kept_in_order(make: Make) -> None:
    den = make().arrived()
    lines = [Leave(1.0), Tuning(9.0, ()), Prepare("/hub")]
    den.supervisor.sendall(b"no line\n" + b"".join(lifeline.encode(line) for line in lines))
    den.until(lambda: den.woken)
    assert den.doze.told == lines


def test_the_end_of_its_supervisor_is_its_own(make: Make) -> None:
    den = make().arrived()
    den.supervisor.close()
    assert den.settle() is False
    early = make(lambda: time.sleep(30) or Arrival(settled()))  # type: ignore[func-returns-value]
    early.supervisor.sendall(lifeline.encode(Leave(5.0)))
    assert early.settle() is False, "it need not settle in to leave"


def test_the_size_of_a_frame_at_every_split() -> None:
    for size in (0, 1, 125, 126, 65535, 65536):
        frame = text("x" * size)
        told = {frame_size(frame[:cut]) for cut in range(min(len(frame), 20))}
        assert told - {None} <= {len(frame)}
        assert frame_size(frame + b"next") == len(frame)


# -- in a process of its own -----------------------------------------------------------------------


async def test_it_joins_again_without_waking_and_is_found_by_the_next_offer(place: Bench) -> None:
    async with channel(place):
        port = int(place.chat_url.rpartition(":")[2])
        running = daemon(place.spec())
        boss = await running.__aenter__()
        await boss.next(lifeline.Idle)
    try:
        await boss.next(lifeline.ChatState, lambda state: not state.connected)
        async with channel(place, port=port) as seat:
            await eventually_async(
                lambda: [s.connected for s in boss.heard(lifeline.ChatState)][-1], 10.0
            )
            await seat.say(TaskAvailable(task=TaskRef("t-1", role="builder"), offer=(NAME,)))
            assert (await seat.next(work.Claim)).task.id == "t-1"
            boss.tell(Leave(1.0))
            assert await boss.exit() == 0
    finally:
        await running.__aexit__(None, None, None)


async def test_a_server_that_is_not_there_yet_and_one_with_a_name(place: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with daemon(place.spec(chat_url=f"ws://localhost:{port}")) as boss:
        await boss.next(lifeline.Hello)
        async with channel(place, port=port):
            await boss.next(lifeline.Ready)
            await boss.next(lifeline.Idle)

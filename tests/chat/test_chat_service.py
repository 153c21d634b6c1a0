"""The chat service as the zygote starts it: a child with a lifeline."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chat_sockets import foreigner

from swarm.spawner.identity import Identity
from swarm.wire import lifeline
from swarm.wire.framing import LineBuffer

CHILD = "import sys; from swarm.chat.service import main; sys.exit(main(int(sys.argv[1]), sys.argv[2].encode()))"  # noqa: E501


class Service:
    """The parent's end of one service."""

    def __init__(self, process: subprocess.Popen[str], end: socket.socket) -> None:
        self.process = process
        self.end = end
        self.buffer = LineBuffer()
        self.lines: list[lifeline.ChildLine] = []

    def until(self, kind: type) -> lifeline.ChildLine:
        while True:
            for line in self.lines:
                if isinstance(line, kind):
                    return line
            data = self.end.recv(65536)
            assert data, f"ended without {kind.__name__}; it said {self.lines}"
            self.lines += [lifeline.from_child(raw) for raw in self.buffer.feed(data)]


@contextmanager
def service(home: Path, **config: object) -> Iterator[Service]:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    spec = json.dumps({"name": "chat", "home": str(home), "home_id": "h", "config": config})
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(theirs.fileno()), spec],
        pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    theirs.close()
    try:
        yield Service(process, ours)
    finally:
        ours.close()
        process.kill()
        process.communicate()


async def test_it_serves_the_fleet_and_trusts_whom_it_is_told_to(home: Path):
    boss = Identity.create("boss")
    with service(
        home,
        listen="127.0.0.1:0",
        channel="#work",
        trusted=["@" + boss.agent_id],
        badge="the fleet's",
    ) as chat:
        hello = chat.until(lifeline.Hello)
        assert (hello.name, hello.pid) == ("chat", chat.process.pid)
        address = chat.until(lifeline.Ready).address
        assert address.startswith("ws://127.0.0.1:")
        async with foreigner(address) as client:
            client.identity = boss
            welcome = await client.sign_in()
            assert welcome["verified"] is True
            assert welcome["limits"]["messages_per_second"] == 1000
            await client.join("#work")
            for n in range(300):
                await client.say(str(n), "#work")
            await client.until("MSG", content="299")
            assert not any(f["type"] == "ERROR" for f in client.heard)
        async with foreigner(address) as client:
            welcome = await client.sign_in()
            assert welcome["limits"]["messages_per_second"] == 10
        async with foreigner(address) as client:
            rules = lifeline.Rules((), ("@" + client.identity.agent_id,))
            chat.end.sendall(lifeline.encode(rules))
            welcome = await client.sign_in()
            assert welcome["limits"]["messages_per_second"] == 50
        async with foreigner(address) as client:
            welcome = await client.sign_in(badge="the fleet's")
            assert welcome["limits"]["messages_per_second"] == 50
        chat.end.sendall(lifeline.encode(lifeline.Leave(grace_seconds=1)))
        assert chat.process.wait(20) == 0
    log = [json.loads(line) for line in (home / "logs" / "chat.log").read_text().splitlines()]
    assert log[0]["kind"] == "listening"
    assert log[0]["address"] == address


def test_it_ends_with_its_supervisor(home: Path):
    with service(home, listen="127.0.0.1:0") as chat:
        chat.until(lifeline.Ready)
        chat.end.shutdown(socket.SHUT_RDWR)
        assert chat.process.wait(20) == 0


@pytest.mark.parametrize("bad", ["nonsense", None])
def test_why_it_cannot_start_is_told(home: Path, bad: str | None):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = bad or f"127.0.0.1:{taken.getsockname()[1]}"
        with service(home, listen=listen) as chat:
            told = chat.until(lifeline.CannotStart)
            assert "cannot listen on" in told.error
            assert chat.process.wait(20) == 1


def test_beats_come_by_themselves(home: Path):
    with service(home, listen="127.0.0.1:0") as chat:
        assert chat.until(lifeline.Beat).seq == 1
        chat.process.send_signal(signal.SIGKILL)

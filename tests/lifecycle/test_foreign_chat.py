"""Our daemons on somebody else's agentchat server, and somebody else's client on ours."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import websockets.sync.client
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from swarm_support import Swarm, kill
from tests_support import eventually

from swarm.chat.server import PROTOCOL_LIMITS, ChatHost, serve_chat
from swarm.core.model import Outcome, TaskState


@contextmanager
def strict_server() -> Iterator[ChatHost]:
    """A server as a stranger runs it: the protocol's own limits, nobody trusted, on a thread."""
    started = threading.Event()
    stop = asyncio.Event()
    found: list[ChatHost] = []
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with serve_chat("127.0.0.1", 0, limits=PROTOCOL_LIMITS) as host:
            found.append(host)
            started.set()
            await stop.wait()

    def work() -> None:
        loop.run_until_complete(run())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(10)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)


class Stranger:
    """An agentchat client written from the protocol alone, with no line of ours in it."""

    def __init__(self, url: str, name: str) -> None:
        self.key = Ed25519PrivateKey.generate()
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.pem = pem.decode()
        self.agent_id = hashlib.sha256(pem).hexdigest()[:16]
        self._open = ExitStack()
        # What it never reads must not hold up its closing handshake.
        connection = websockets.sync.client.connect(url, max_queue=None)
        self.socket = self._open.enter_context(connection)
        self.send(type="IDENTIFY", name=name, pubkey=self.pem)
        challenge = self.hear("CHALLENGE")
        stamp = int(time.time() * 1000)
        text = f"AGENTCHAT_AUTH|{challenge['nonce']}|{challenge['challenge_id']}|{stamp}"
        signature = base64.b64encode(self.key.sign(text.encode())).decode()
        self.send(
            type="VERIFY_IDENTITY",
            challenge_id=challenge["challenge_id"],
            signature=signature,
            timestamp=stamp,
        )
        assert self.hear("WELCOME")["agent_id"] == f"@{self.agent_id}"
        self.send(type="JOIN", channel="#agents")
        self.hear("JOINED")

    def close(self) -> None:
        self._open.close()

    def send(self, **frame: object) -> None:
        self.socket.send(json.dumps(frame))

    def say(self, content: str) -> None:
        self.send(type="MSG", to="#agents", content=content)

    def hear(self, kind: str, within: float = 10) -> dict[str, object]:
        end = time.monotonic() + within
        while True:
            frame = json.loads(self.socket.recv(timeout=max(0.01, end - time.monotonic())))
            if frame["type"] == kind:
                return dict(frame)


@pytest.mark.slow
def test_the_fleet_works_on_a_server_that_allows_one_message_a_second(swarm: Swarm) -> None:
    """Rate limit, replay and take-over delay are lived with; each task ends exactly once."""
    with strict_server() as server:
        swarm.configure(chat={"url": server.address})
        swarm.up()
        tasks = [swarm.add(f"write f{n}.txt x\ncommit f{n}") for n in range(3)]
        assert [task.state for task in swarm.ended(tasks, within=60)] == [TaskState.DONE] * 3
        assert all([a.outcome for a in swarm.attempts(t)] == [Outcome.SUCCEEDED] for t in tasks)
        victim = swarm.agents("idle")[0]
        kill(victim["pid"])
        eventually(
            lambda: any(
                a["name"] == victim["name"] and a["state"] == "idle" and a["restarts"]
                for a in swarm.agents()
            ),
            within=30,
            say="the killed daemon signs in again after the take-over delay",
        )
        swarm.must("swarm", "stop", "--now")
        swarm.gone()


def test_a_strangers_client_talks_on_our_channel_and_announces_a_task(swarm: Swarm) -> None:
    swarm.up()
    url = swarm.status()["swarm"]["chat_url"]
    refused = Stranger(url, "stranger")
    refused.say("TASK builder: write stranger.txt x")
    assert refused.hear("MSG")["from"] == f"@{refused.agent_id}"
    accepted = Stranger(url, "friend")
    swarm.configure(chat={"announcers": [accepted.agent_id]})
    swarm.must("swarm", "reload")
    accepted.say("TASK builder api: write friend.txt x\ncommit friend")
    (task,) = eventually(lambda: json.loads(swarm.must("task", "list", "--json"))["tasks"], 10)
    (ended,) = swarm.ended([task["id"]])
    assert (ended.state, ended.component) == (TaskState.DONE, "api")
    announced = json.dumps(
        {
            "type": "TASK_AVAILABLE",
            "agentId": accepted.agent_id,
            "task": {"id": "theirs-1", "role": "builder", "prompt": "answer from afar"},
            "unknown": {"field": 1},
        }
    )
    accepted.say(announced)
    accepted.say(announced)
    eventually(lambda: len(json.loads(swarm.must("task", "list", "--json"))["tasks"]) == 2, 10)
    tasks = json.loads(swarm.must("task", "list", "--json"))["tasks"]
    swarm.ended([task["id"] for task in tasks])
    assert len(tasks) == 2
    for client in (refused, accepted):
        client.close()

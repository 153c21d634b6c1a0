"""A plain ``websockets`` client that speaks agentchat by hand: somebody else's client."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect

from swarm.spawner.identity import Identity


class Foreigner:
    """One connection; ``heard`` holds every frame that ``until`` has passed over."""

    def __init__(self, socket: ClientConnection, identity: Identity | None) -> None:
        self.socket = socket
        self.identity = identity
        self.heard: list[dict] = []

    async def send(self, frame: dict | str) -> None:
        await self.socket.send(frame if isinstance(frame, str) else json.dumps(frame))

    async def next(self, within: float = 30.0) -> dict:
        frame = json.loads(await asyncio.wait_for(self.socket.recv(), within))
        self.heard.append(frame)
        return frame

    async def until(self, kind: str, within: float = 30.0, **fields: object) -> dict:
        async with asyncio.timeout(within):
            while True:
                frame = await self.next(within)
                if frame["type"] == kind and fields.items() <= frame.items():
                    return frame

    async def sign_in(self, **more: object) -> dict:
        identity = self.identity
        identify = {"type": "IDENTIFY", "name": identity.name if identity else "reader"}
        identify["pubkey"] = identity.public_pem if identity else None
        await self.send({**identify, **more})
        if identity is not None:
            asked = await self.until("CHALLENGE")
            await self.prove(asked)
        return await self.until("WELCOME", within=70)

    async def prove(self, asked: dict, *, tamper: bool = False) -> None:
        now = int(time.time() * 1000)
        text = f"AGENTCHAT_AUTH|{asked['nonce']}|{asked['challenge_id']}|{now}{'!' * tamper}"
        signature = base64.b64encode(self.identity.sign(text.encode())).decode()
        await self.send({"type": "VERIFY_IDENTITY", "challenge_id": asked["challenge_id"],
                         "signature": signature, "timestamp": now})  # fmt: skip

    async def join(self, channel: str = "#agents") -> dict:
        await self.send({"type": "JOIN", "channel": channel})
        return await self.until("JOINED", channel=channel)

    async def say(self, content: str, channel: str = "#agents") -> None:
        await self.send({"type": "MSG", "to": channel, "content": content})


@asynccontextmanager
async def foreigner(url: str, name: str | None = "stranger") -> AsyncIterator[Foreigner]:
    """Connected, not signed in; ``name`` ``None`` has no key."""
    identity = Identity.create(name) if name is not None else None
    async with connect(url, proxy=None) as socket:
        yield Foreigner(socket, identity)

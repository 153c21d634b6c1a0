"""The baseline most fleets live with: a fresh interpreter for each agent, asyncio + websockets."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from types import TracebackType

CLIENT = """\
import asyncio, json, sys
import cryptography.hazmat.primitives.asymmetric.ed25519, yaml, websockets

async def main():
    async with websockets.connect(sys.argv[1], compression=None, ping_interval=None) as ws:
        await ws.send(json.dumps({"type": "IDENTIFY", "name": "baseline", "pubkey": None}))
        while json.loads(await ws.recv())["type"] != "WELCOME":
            pass
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


class Interpreters:
    """So many fresh interpreters, each with a WebSocket client signed in to ``url``."""

    def __init__(self, count: int, url: str) -> None:
        began = time.monotonic()
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", CLIENT, url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(count)
        ]
        waiting = {process.stdout: process for process in self.processes}
        while waiting:
            for stream in select.select(list(waiting), [], [], 120)[0]:
                stream.readline()
                del waiting[stream]
        self.seconds_to_ready = time.monotonic() - began

    @property
    def pids(self) -> list[int]:
        """Their pids."""
        return [process.pid for process in self.processes]

    def __enter__(self) -> Interpreters:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.communicate()

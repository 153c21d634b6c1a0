"""A daemon process under test: a fake supervisor on its lifeline, a chat, a hub to work on.

The daemon runs in a process of its own; everything around it runs on the test's event loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
from tests_support import eventually_async

from swarm.chat.client import ChatClient
from swarm.chat.server import serve_chat
from swarm.spawner.hub import ensure_hub
from swarm.spawner.identity import Identity
from swarm.wire import lifeline, work
from swarm.wire.agentchat.limits import ServerLimits
from swarm.wire.agentchat.session import Said
from swarm.wire.framing import LineBuffer
from swarm.wire.lifeline import ChildLine, Finished, Granted, RepoWork, Tuning, Work
from swarm.wire.spawn import DaemonSpec, RuntimeSpec
from swarm.wire.work import Assign, Settled, TaskRef, WorkMessage

NAME = "swarm-builder-001"
HOME_ID = "home1234"
SCRIPTED = (sys.executable, "-P", "-m", "swarm.sessions.scripted")
START = """
import sys
from swarm.daemon.main import main
sys.exit(main(int(sys.argv[1]), sys.stdin.buffer.read()))
"""

T = TypeVar("T")


@dataclass
class Bench:
    """The places of one test, and the coordinator everybody believes."""

    home: Path
    base: Path
    hub: str
    tip: str
    coordinator: Identity
    chat_url: str = ""

    @property
    def workspace(self) -> Path:
        return self.base / NAME

    def spec(self, **changes: object) -> DaemonSpec:
        spec = DaemonSpec(
            name=NAME,
            role="builder",
            workspace=str(self.workspace),
            home=str(self.home),
            home_id=HOME_ID,
            chat_url=self.chat_url,
            channel="#agents",
            coordinators=(self.coordinator.agent_id,),
            heartbeat_seconds=30.0,
            runtime=RuntimeSpec("scripted", "scripted", SCRIPTED),
            bypass_permissions=True,
            environ={"PATH": os.environ["PATH"], "HOME": str(self.home / "person")},
        )
        return msgspec.structs.replace(spec, **changes)

    def work(self, prompt: str, task: str = "t-1", **changes: object) -> Work:
        repo = RepoWork(self.hub, None, "main", f"swarm/{NAME}/{task}", self.tip, self.tip)
        made = Work(task, 1, prompt, "builder", title="a task", repo=repo)
        return msgspec.structs.replace(made, **changes)

    def branch(self, task: str = "t-1") -> str:
        """The tip of the task's branch in the hub."""
        ref = f"refs/heads/swarm/{NAME}/{task}"
        return git(self.hub, "rev-parse", "--verify", "-q", ref)


@contextmanager
def bench(tmp: Path) -> Iterator[Bench]:
    """An empty hub of the swarm's own, and a coordinator's identity."""
    home = tmp / "home"
    (home / "person").mkdir(parents=True)
    hub = ensure_hub(home / "hub" / "own.git", None, "main")
    yield Bench(home, tmp / "base", str(hub.path), str(hub.tip), Identity.create("coordinator"))


def git(where: str, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=where, capture_output=True, text=True, check=False, timeout=30
    )
    return done.stdout.strip()


@dataclass
class Supervisor:
    """What a supervisor sees of one daemon."""

    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    lines: list[ChildLine] = field(default_factory=list)
    ended: bool = False

    def tell(self, line: lifeline.ParentLine) -> None:
        self.writer.write(lifeline.encode(line))

    def heard(self, kind: type[T]) -> list[T]:
        return [line for line in self.lines if isinstance(line, kind)]

    async def next(
        self, kind: type[T], fits: Callable[[T], bool] = lambda _line: True, within: float = 20.0
    ) -> T:
        """The first line of a kind that fits, waited for."""
        return await eventually_async(
            lambda: next((line for line in self.heard(kind) if fits(line)), None),  # type: ignore[arg-type, return-value]
            within,
            f"{kind.__name__} among {self.lines}",
        )

    async def exit(self, within: float = 15.0) -> int:
        """The exit status, once the process has ended."""
        await eventually_async(lambda: self.process.poll() is not None, within, "exit")
        return self.process.returncode

    async def listen(self) -> None:
        buffer = LineBuffer()
        while data := await self.reader.read(65536):
            self.lines += [lifeline.from_child(raw) for raw in buffer.feed(data)]
        self.ended = True


@asynccontextmanager
async def daemon(spec: DaemonSpec, *, tune: bool = True) -> AsyncIterator[Supervisor]:
    """A daemon in a process of its own; killed when the block is left."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(theirs.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
        )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(spec))
    process.stdin.close()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    boss = Supervisor(process, reader, writer)
    listening = asyncio.ensure_future(boss.listen())
    if tune:
        boss.tell(Tuning(spec.heartbeat_seconds, spec.coordinators, grace_seconds=2.0))
    try:
        yield boss
    finally:
        writer.close()
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
        try:
            await boss.exit(within=5.0)
        except AssertionError:
            process.kill()
        process.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


@dataclass
class Channel:
    """The coordinator's seat on the channel."""

    client: ChatClient
    said: list[tuple[str, WorkMessage]] = field(default_factory=list)

    async def say(self, message: WorkMessage) -> None:
        self.client.say(work.encode(message))

    async def assign(self, agent: str, task: str = "t-1", fence: int = 1, **ref: str) -> None:
        await self.say(Assign(agentId=agent, task=TaskRef(task, **ref), fence=fence))

    async def settle(self, finished: Finished, agent: str) -> None:
        await self.say(Settled(agentId=agent, task=TaskRef(finished.task), fence=finished.fence))

    def heard(self, kind: type[T]) -> list[T]:
        return [message for _, message in self.said if isinstance(message, kind)]

    async def next(
        self, kind: type[T], fits: Callable[[T], bool] = lambda _message: True, within: float = 20.0
    ) -> T:
        return await eventually_async(
            lambda: next((m for m in self.heard(kind) if fits(m)), None),  # type: ignore[arg-type, return-value]
            within,
            f"{kind.__name__} among {self.said}",
        )

    async def listen(self) -> None:
        async for event in self.client.events():
            if isinstance(event, Said):
                try:
                    message = work.decode(event.content)
                except ValueError:
                    continue
                if message is not None:
                    self.said.append((event.sender, message))


FAST = ServerLimits(
    messages_per_second=100, frames_after=10_000, takeover_base=0, connections_per_address=1000
)


@asynccontextmanager
async def channel(
    where: Bench, limits: ServerLimits = FAST, port: int = 0
) -> AsyncIterator[Channel]:
    """The embedded server, and the coordinator on it."""
    async with (
        serve_chat("127.0.0.1", port, limits=limits) as host,
        ChatClient(host.address, where.coordinator, "#agents") as client,
    ):
        where.chat_url = host.address
        await client.joined()
        seat = Channel(client)
        listening = asyncio.ensure_future(seat.listen())
        try:
            yield seat
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def start_work(boss: Supervisor, seat: Channel, job: Work, fence: int = 1) -> str:
    """Assign, be asked, grant; the agent's id is returned once the session has started."""
    ready = await boss.next(lifeline.Ready)
    await boss.next(lifeline.Idle)
    await seat.assign(ready.agent_id, job.task, fence)
    await boss.next(lifeline.Promote, lambda p: (p.task, p.fence) == (job.task, fence))
    boss.tell(Granted(job.task, fence, job))
    return ready.agent_id

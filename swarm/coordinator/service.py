"""The coordinator's process: its lifeline and its place on the channel, joined to its shell."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from swarm.chat.client import ChatClient, Disconnected
from swarm.config.places import Places
from swarm.coordinator import messages as m
from swarm.coordinator.beside import Beside
from swarm.coordinator.hubs import Hubs, RepoSettings
from swarm.coordinator.shell import Coordinator, Item
from swarm.coordinator.state import Settings
from swarm.core.model import bare_id
from swarm.errors import BadMessage, LedgerError, SpawnError, SwarmError
from swarm.landing.client import Lander
from swarm.ledger.pruning import keep_pruned
from swarm.ledger.sqlite import open_ledger
from swarm.logs import JsonLog
from swarm.service import ServiceLifeline, run_service
from swarm.spawner.identity import load_identity
from swarm.wire import lifeline
from swarm.wire.agentchat.session import Joined, Refused, Said, SignedIn
from swarm.wire.spawn import ServiceSpec
from swarm.wire.work import decode

READY_SECONDS = 10.0
"""Without the channel by then it is ready all the same: reports still come on the lifeline, and
a long outage of somebody else's server must not count as our crash."""


class RepoConfig(msgspec.Struct, frozen=True):
    """``repo`` of :class:`Config`."""

    source: str | None = None
    target: str = "main"
    author: str | None = None
    clone: str = "shared"


class Config(msgspec.Struct, frozen=True):
    """The coordinator's part of the settings: ``ServiceSpec.config``."""

    chat_url: str
    channel: str
    identity: str
    ledger: str
    hub: str
    repo: RepoConfig = RepoConfig()
    lease_seconds: float = 90.0
    coordinators: tuple[str, ...] = ()
    announcers: tuple[str, ...] = ()
    roles: dict[str, tuple[str, ...]] = {}


def main(fd: int, spec: bytes) -> int:
    """Run the coordinator on lifeline ``fd`` until it ends; returns the exit status."""
    service = msgspec.json.decode(spec, type=ServiceSpec)

    async def run(line: ServiceLifeline) -> None:
        await serve(line, service)

    return run_service(fd, service.name, run)


async def serve(line: ServiceLifeline, service: ServiceSpec) -> None:
    """Coordinate until cancelled.  Raises :class:`~swarm.errors.SwarmError` when it cannot."""
    try:
        config = msgspec.convert(service.config, Config)
    except msgspec.ValidationError as error:
        raise SpawnError(f"the coordinator's settings make no sense: {error}") from error
    identity = load_identity(config.identity)
    settings = Settings(identity.agent_id, config.lease_seconds, config.roles)
    repo = RepoSettings(
        config.repo.source, config.repo.target, config.repo.author, config.repo.clone
    )
    places = Places(Path(service.home))
    log = JsonLog(places.service_log(service.name))
    chat = ChatClient(config.chat_url, identity, config.channel, quiet=True, addressed=True)
    with open_ledger(Path(config.ledger)) as ledger:
        clock = asyncio.get_running_loop().time
        hubs = Hubs(Path(config.hub), repo, clock)
        lander = Lander(service.home_id)
        coordinator = Coordinator(
            *(settings, ledger, hubs, line, chat, log),
            lander=lander,
            checks=places.checks,
            clock=clock,
        )
        beside = Beside(coordinator, ledger, places, log)
        coordinator.books.clear_notes()
        coordinator.put(m.RulesAre(config.coordinators, config.announcers))
        try:
            async with chat, asyncio.TaskGroup() as group:
                here = Presence(coordinator, line, identity.agent_id)
                group.create_task(coordinator.run())
                group.create_task(listen(line, coordinator, beside))
                beside.begin(group)
                group.create_task(hear(chat, coordinator, here))
                group.create_task(here.ready_anyway())
                group.create_task(
                    keep_pruned(
                        Path(config.ledger),
                        lambda dropped: log.write("pruned", events=dropped),
                        lambda error: log.write("ledger", error=error),
                    )
                )
        except* SwarmError as failed:
            raise failed.exceptions[0] from None
        finally:
            with contextlib.suppress(LedgerError):  # then the next start clears them
                coordinator.books.clear_notes()


class Presence:
    """Whether we are on the channel, and whether the supervisor was told that we are ready."""

    def __init__(self, coordinator: Coordinator, line: ServiceLifeline, agent_id: str) -> None:
        self._coordinator = coordinator
        self._line = line
        self._agent_id = agent_id
        self._told = asyncio.Event()
        self._rate = 1.0

    def signed_in(self, rate: float | None) -> None:
        """The server has told how many messages a second it takes; 1 where it says nothing."""
        self._rate = rate if rate is not None and rate > 0 else 1.0

    def here(self) -> None:
        """The channel is joined."""
        self._coordinator.trouble("chat", "")
        self._coordinator.put(m.Online(True, self._rate))
        self._ready()

    def gone(self, reason: str) -> None:
        """The connection is lost."""
        self._coordinator.trouble("chat", f"not on the channel: {reason}")
        self._coordinator.put(m.Online(False))

    async def ready_anyway(self) -> None:
        """Say that we are ready although the channel is out of reach."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._told.wait()
        except TimeoutError:
            self._ready()

    def _ready(self) -> None:
        if not self._told.is_set():
            self._told.set()
            self._line.ready(agent_id=self._agent_id)


async def listen(line: AsyncIterator[lifeline.ParentLine] | ServiceLifeline,
                 coordinator: Coordinator, beside: Beside) -> None:  # fmt: skip
    """Hand on what the supervisor says."""
    async for said in line:
        item = from_supervisor(said)
        if item is not None:
            coordinator.put(item)
        beside.heard(said)


def from_supervisor(line: lifeline.ParentLine) -> Item | None:
    """The inbox item of one lifeline message; ``None`` for what only daemons are told."""
    match line:
        case lifeline.Snapshot() | lifeline.Used():
            return line
        case lifeline.AgentIs(agent=fact):
            return m.AgentChanged(fact)
        case lifeline.AgentGone(name=name):
            return m.AgentLeft(name)
        case lifeline.Slots(free=free, reason=reason):
            return m.SlotsAre(free, reason)
        case lifeline.Renew(task=task, fence=fence):
            return m.Renewed(task, fence)
        case lifeline.Begun(agent=agent, started=started):
            return m.Started(agent, started.task, started.fence, started.at)
        case lifeline.Lost(agent=agent, task=task, fence=fence, reason=reason, counts=counts):
            return m.HolderLost(agent, task, fence, reason, counts)
        case lifeline.Reported(agent=agent, finished=finished):
            return m.HandedOver(agent, finished)
        case lifeline.Poke():
            return m.Poked()
        case lifeline.Rules(coordinators=coordinators, announcers=announcers, roles=roles):
            accepted = tuple(map(bare_id, coordinators)), tuple(map(bare_id, announcers))
            return m.RulesAre(*accepted, roles, bare_id(line.operator), line.landing)
        case _:
            return None


async def hear(chat: ChatClient, coordinator: Coordinator, here: Presence) -> None:
    """Hand on what is said on the channel; what is none of ours, or makes no sense, is dropped."""
    async for event in chat.events():
        match event:
            case Said(sender=sender) if sender != chat.agent_id:
                item = from_channel(event)
                if item is not None:
                    coordinator.put(item)
            case Joined():
                here.here()
            case Disconnected(reason=reason):
                here.gone(reason)
            case SignedIn(lurk_reason=None, messages_per_second=rate):
                here.signed_in(rate)
            case SignedIn(lurk_reason=str(reason), messages_per_second=rate):
                here.signed_in(rate)
                coordinator.trouble("chat", f"the chat server lets us only read: {reason}")
            case Refused(code="LURK_MODE", message=message):
                coordinator.trouble("chat", f"the chat server lets us only read: {message}")
            case _:
                pass


def from_channel(said: Said) -> m.Heard | m.Garbled | None:
    """The work message in a chat message, if it is one."""
    try:
        message = decode(said.content)
    except BadMessage as error:
        return None if said.replay else m.Garbled(said.sender, str(error)[:200])
    if message is None:
        return None
    return m.Heard(said.sender, message, said.msg_id, said.replay, said.ts / 1000)

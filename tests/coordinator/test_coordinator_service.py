"""The coordinator as it runs: real ledger, real git, real chat, real lifeline."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from spawner_support import make_source, sh_git
from tests_support import eventually_async

from swarm.chat.client import ChatClient
from swarm.chat.server import FLEET_LIMITS, serve_chat
from swarm.coordinator import messages as m
from swarm.coordinator.hubs import Hubs, RepoSettings
from swarm.coordinator.service import serve
from swarm.coordinator.shell import Coordinator
from swarm.coordinator.state import Settings
from swarm.core.model import AgentState, Outcome, TaskState
from swarm.errors import LedgerError, SwarmError
from swarm.ledger import NewTask, Settlement, SqliteLedger
from swarm.logs import JsonLog
from swarm.service import _run
from swarm.spawner.identity import Identity, save_identity
from swarm.wire import lifeline
from swarm.wire.agentchat.session import Said
from swarm.wire.framing import LineBuffer
from swarm.wire.lifeline import AgentFact, Finished
from swarm.wire.spawn import ServiceSpec
from swarm.wire.work import (
    Assign,
    Claim,
    Rejected,
    Settled,
    TaskAvailable,
    TaskDone,
    TaskRef,
    decode,
    encode,
)

ME, AGENT_ID = "c" * 16, "a" * 16
AGENT = AgentFact("swarm-builder-001", AGENT_ID, "builder", AgentState.IDLE, 1.0)


class Ear:
    """Stands in for lifeline and channel at once, and remembers."""

    def __init__(self) -> None:
        self.lines: list[lifeline.ChildLine] = []
        self.said: list[Any] = []
        self.to: list[tuple[str, ...]] = []
        self.unsaid: list[str] = []

    def send(self, line: lifeline.ChildLine) -> None:
        self.lines.append(line)

    def __aiter__(self) -> AsyncIterator[lifeline.ParentLine]:
        raise AssertionError("the shell is fed by whoever listens")

    def say(
        self, content: str, *, key: str = "", priority: int = 3, to: tuple[str, ...] = ()
    ) -> None:
        self.said.append(decode(content))
        self.to.append(to)

    def flush(self) -> None: ...

    def unsay(self, key: str) -> None:
        self.unsaid.append(key)

    def of(self, kind: type) -> list[Any]:
        return [one for one in [*self.lines, *self.said] if isinstance(one, kind)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with SqliteLedger(tmp_path / "ledger.db") as made:
        yield made


@asynccontextmanager
async def coordinating(
    tmp_path: Path, ledger: SqliteLedger, source: str | None = None
) -> AsyncIterator[tuple[Coordinator, Ear]]:
    ear = Ear()
    hubs = Hubs(tmp_path / "hub", RepoSettings(source))
    settings = Settings(ME, 90.0, {"builder": ()})
    log = JsonLog(tmp_path / "coordinator.log")
    clock = asyncio.get_running_loop().time
    coordinator = Coordinator(settings, ledger, hubs, ear, ear, log, clock=clock)
    running = asyncio.create_task(coordinator.run())
    coordinator.put(m.Online(True))
    coordinator.put(lifeline.Snapshot(agents=(AGENT,)))
    coordinator.put(m.SlotsAre(2))
    try:
        yield coordinator, ear
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def done(task: str, commits: int = 0) -> m.Heard:
    report = TaskDone(task=TaskRef(id=task), fence=1, outcome="succeeded", commits=commits)
    return m.Heard(AGENT_ID, report)


async def assigned(coordinator: Coordinator, ear: Ear, task: str) -> lifeline.Work:
    coordinator.put(m.Poked())
    await eventually_async(lambda: ear.of(TaskAvailable))
    coordinator.put(m.Heard(AGENT_ID, Claim(task=TaskRef(id=task))))
    await eventually_async(lambda: ear.of(Assign))
    (line,) = ear.of(lifeline.Assigned)
    return line.work


async def test_from_the_ledger_to_done(tmp_path: Path, ledger: SqliteLedger) -> None:
    source = make_source(tmp_path / "source")
    async with coordinating(tmp_path, ledger, str(source)) as (coordinator, ear):
        await eventually_async(lambda: ear.of(lifeline.HubReady))
        task = ledger.submit(NewTask("do it"))
        work = await assigned(coordinator, ear, task)
        assert work.repo is not None
        assert work.repo.start == sh_git(source, "rev-parse", "main")
        assert (work.prompt, work.attempt) == ("do it", 1)
        started = m.Started(AGENT.name, task, 1, 5.0)
        coordinator.put(started)
        used = lifeline.Spent(task=task, fence=1, usage=lifeline.Usage(3, 4), session_id="s")
        coordinator.put(lifeline.Used(spent=used))
        coordinator.put(done(task))
        await eventually_async(lambda: ear.of(Settled))
    (attempt,) = ledger.attempts(task)
    assert (attempt.outcome, attempt.started_at, attempt.session_id) == ("succeeded", 5.0, "s")
    assert attempt.usage.input_tokens == 3


async def test_every_commit_of_a_report_is_listed(tmp_path: Path, ledger: SqliteLedger) -> None:
    source = make_source(tmp_path / "source")
    async with coordinating(tmp_path, ledger, str(source)) as (coordinator, ear):
        task = ledger.submit(NewTask("do it"))
        work = await assigned(coordinator, ear, task)
        assert work.repo is not None
        sh_git(source, "checkout", "-q", "-b", "side")
        for name in ("one", "two"):
            sh_git(source, "commit", "-q", "--allow-empty", "-m", name)
        ids = sh_git(source, "rev-list", "--reverse", "main..side").split()
        sh_git(work.repo.hub, "fetch", "-q", str(source), f"side:refs/heads/{work.repo.branch}")
        coordinator.put(done(task, commits=2))
        await eventually_async(lambda: ear.of(Settled))
    found = ledger.task(task)
    assert found is not None
    assert found.commits == tuple(ids)


async def test_a_repository_that_is_not_there_is_told_and_tried_again(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    source = tmp_path / "later"
    async with coordinating(tmp_path, ledger, str(source)) as (coordinator, ear):
        trouble = await eventually_async(lambda: ear.of(lifeline.Trouble))
        assert "later" in trouble[0].text
        task = ledger.submit(NewTask("do it"))
        coordinator.put(m.Poked())
        await eventually_async(lambda: ear.of(TaskAvailable))
        coordinator.put(m.Heard(AGENT_ID, Claim(task=TaskRef(id=task))))
        await eventually_async(lambda: "later" in (ledger.reason(task) or ""))
        assert ledger.task(task).state is TaskState.QUEUED  # type: ignore[union-attr]
        make_source(source)
        await eventually_async(lambda: len(ear.of(TaskAvailable)) > 1)
        coordinator.put(m.Heard(AGENT_ID, Claim(task=TaskRef(id=task))))
        await eventually_async(lambda: ear.of(Assign))
        assert ear.of(lifeline.Trouble)[-1].text == ""


async def test_a_repository_that_was_away_for_a_while_is_trouble_no_longer(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    source, away = tmp_path / "source", tmp_path / "away"
    make_source(source)
    async with coordinating(tmp_path, ledger, str(source)) as (coordinator, ear):
        await eventually_async(lambda: ear.of(lifeline.HubReady))
        source.rename(away)
        task = ledger.submit(NewTask("do it"))
        coordinator.put(m.Poked())
        await eventually_async(lambda: ear.of(TaskAvailable))
        coordinator.put(m.Heard(AGENT_ID, Claim(task=TaskRef(id=task))))
        trouble = await eventually_async(lambda: ear.of(lifeline.Trouble))
        assert "source" in trouble[-1].text
        away.rename(source)
        await eventually_async(lambda: len(ear.of(TaskAvailable)) > 1)
        coordinator.put(m.Heard(AGENT_ID, Claim(task=TaskRef(id=task))))
        await eventually_async(lambda: ear.of(Assign))
        assert ear.of(lifeline.Trouble)[-1].text == ""


async def test_what_the_ledger_cannot_take_now_is_asked_again_and_not_settled_before(
    tmp_path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: nothing is lost, nobody is told that it is settled, and people see why."""
    async with coordinating(tmp_path, ledger) as (coordinator, ear):
        task = ledger.submit(NewTask("do it"))
        await assigned(coordinator, ear, task)
        finish: Callable[..., Settlement] = ledger.finish
        refusals = 1

        def full(*words: Any, **more: Any) -> Settlement:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise LedgerError("the ledger cannot grow: the disk is full", "free some space")
            return finish(*words, **more)

        monkeypatch.setattr(ledger, "finish", full)
        coordinator.put(done(task))
        trouble = await eventually_async(lambda: ear.of(lifeline.Trouble))
        assert "disk is full" in trouble[-1].text
        assert ear.of(Settled) == []
        await eventually_async(lambda: ear.of(Settled), within=10.0)
        assert ear.of(lifeline.Trouble)[-1].text == ""
    assert ledger.counts()["done"] == 1


async def test_a_claim_the_ledger_cannot_take_is_rejected(
    tmp_path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with coordinating(tmp_path, ledger) as (coordinator, ear):
        task = ledger.submit(NewTask("do it"))
        coordinator.put(m.Poked())
        await eventually_async(lambda: ear.of(TaskAvailable))
        with monkeypatch.context() as patch:

            def full(*_words: Any) -> None:
                raise LedgerError("the disk is full", "free some space")

            patch.setattr(ledger, "claim", full)
            coordinator.put(m.Heard(AGENT_ID, Claim(task=TaskRef(id=task))))
            await eventually_async(lambda: ear.of(lifeline.Trouble))
        await eventually_async(lambda: ear.of(Rejected))
        assert len(ear.of(TaskAvailable)) == 1, "offered again at once: that would spin"
        await eventually_async(lambda: len(ear.of(TaskAvailable)) > 1)
    assert ledger.counts()["queued"] == 1


# -- the whole service


class Parent:
    """The supervisor's end of the lifeline, in a test's hands."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.fd = theirs.detach()
        self.heard: list[lifeline.ChildLine] = []
        self._buffer = LineBuffer()

    def say(self, *lines: lifeline.ParentLine) -> None:
        for line in lines:
            self.ours.send(lifeline.encode(line))

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self.ours, 65536):
            self.heard += [lifeline.from_child(raw) for raw in self._buffer.feed(data)]

    def of(self, kind: type) -> list[Any]:
        return [line for line in self.heard if isinstance(line, kind)]


def specification(home: Path, me: Identity, address: str, announcer: str) -> bytes:
    save_identity(me, home / "coordinator.json")
    config = {
        "chat_url": address,
        "channel": "#agents",
        "identity": str(home / "coordinator.json"),
        "ledger": str(home / "ledger.db"),
        "hub": str(home / "hub"),
        "repo": {"source": None, "target": "main", "author": None, "clone": "shared"},
        "lease_seconds": 90,
        "coordinators": [me.agent_id],
        "announcers": [announcer],
        "roles": {"builder": ["builder"]},
    }
    spec = ServiceSpec(name="coordinator", home=str(home), home_id="h", config=config)
    return msgspec.json.encode(spec)


async def test_a_whole_task_over_real_chat(home: Path) -> None:
    """Announced on the channel, taken in, offered, claimed, assigned, reported, settled."""
    me, agent, person = Identity.create("c"), Identity.create("a"), Identity.create("p")
    parent, heard = Parent(), list[Said]()
    fact = AgentFact("swarm-builder-001", agent.agent_id, "builder", AgentState.IDLE, 1.0)
    async with serve_chat("127.0.0.1", 0, limits=FLEET_LIMITS) as host:
        spec = msgspec.json.decode(
            specification(home, me, host.address, person.agent_id), type=ServiceSpec
        )
        service = asyncio.create_task(
            _run(parent.fd, "coordinator", lambda line: serve(line, spec))
        )
        listening = asyncio.create_task(parent.listen())
        async with (
            ChatClient(host.address, agent, "#agents") as worker,
            ChatClient(host.address, person, "#agents") as announcer,
        ):
            hearing = asyncio.create_task(collect(worker, heard))
            announcer.ignore_events()
            (ready,) = await eventually_async(lambda: parent.of(lifeline.Ready))
            assert ready.agent_id == me.agent_id
            parent.say(lifeline.Snapshot(agents=(fact,)), lifeline.Slots(free=1))
            await announcer.tell("TASK builder parser: mend it")
            offer = await hears(heard, TaskAvailable)
            claim = Claim(agentId=agent.agent_id, task=TaskRef(id=offer.task.id))
            worker.say(encode(claim), key="claim")
            assign = await hears(heard, Assign)
            (assigned,) = parent.of(lifeline.Assigned)
            assert assigned.work.prompt == "mend it"
            finished = Finished(task=offer.task.id, fence=assign.fence, outcome=Outcome.SUCCEEDED)
            parent.say(lifeline.Reported(agent=fact.name, finished=finished))
            report = TaskDone(task=TaskRef(id=offer.task.id), fence=assign.fence)
            worker.say(encode(report), key="report")
            settled = await hears(heard, Settled)
            assert (settled.agentId, settled.stale) == (agent.agent_id, False)
            parent.say(lifeline.Leave(grace_seconds=1.0))
            assert await asyncio.wait_for(service, 30) == 0
            hearing.cancel()
        parent.ours.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(listening, hearing, return_exceptions=True)
        parent.ours.close()
    with SqliteLedger(home / "ledger.db") as ledger:
        assert ledger.counts()["done"] == 1
        assert ledger.notes() == {}


async def collect(client: ChatClient, into: list[Said]) -> None:
    async for event in client.events():
        match event:
            case Said():
                into.append(event)


async def hears(heard: list[Said], kind: type) -> Any:
    def found() -> Any:
        return next((w for s in heard if isinstance(w := decode(s.content), kind)), None)

    return await eventually_async(found, within=10.0)


@pytest.mark.parametrize("broken", ["ledger", "identity", "config"])
async def test_what_keeps_it_from_starting_is_one_line(home: Path, broken: str) -> None:
    me = Identity.create("c")
    raw = specification(home, me, "ws://127.0.0.1:9", "f" * 16)
    spec = msgspec.json.decode(raw, type=ServiceSpec)
    if broken == "ledger":
        (home / "ledger.db").write_text("not a ledger at all " * 40)
    elif broken == "identity":
        (home / "coordinator.json").write_text("{}")
    else:
        spec = ServiceSpec(name="coordinator", home=str(home), home_id="h", config={"channel": 7})
    with pytest.raises(SwarmError) as caught:
        await serve(None, spec)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)

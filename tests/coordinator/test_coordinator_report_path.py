"""A report on its way from a session's end to the ledger, cut off at every step of it.

The daemon's machine, its outbox on disk, the coordinator's machine and the ledger are the real
ones; between them stand a supervisor and a chat that forward, or do not.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path

import pytest
from coordinator_world import ME, Agent, World
from daemon_values import BEGAN

from swarm.coordinator import messages as m
from swarm.core.model import AgentState, Outcome, TaskState, Usage
from swarm.daemon import machine, outbox
from swarm.daemon.outbox import Reported
from swarm.daemon.state import (
    ChatUp,
    Daemon,
    Effect,
    Event,
    Heard,
    Me,
    Record,
    Recorded,
    Say,
    Secured,
    SessionOver,
    Settle,
    Tell,
    Told,
)
from swarm.ledger import NewTask
from swarm.wire.lifeline import Denied, Ended, Finished, Granted, Tuning, Work
from swarm.wire.work import Assign, Settled, WorkMessage

STEPS = ("on disk", "on the lifeline", "on the channel", "settled", "never")
"""Before which of these the daemon dies."""
TUNING = Tuning(heartbeat_seconds=30.0, coordinators=(ME,))


class Dead(Exception):
    """The daemon was killed."""


class Journey:
    """One attempt from its assignment to whatever comes of it."""

    def __init__(self, folder: Path, *, dies: str, chat: bool, coordinator: bool) -> None:
        self.path = str(folder / "outbox.jsonl")
        self.world = World()
        self.agent: Agent = self.world.agent()
        self.task = self.world.ledger.submit(NewTask("do it"))
        self.world.do(m.Poked())
        self.dies = dies
        self.armed = False
        """Whether it may die yet."""
        self.chat = chat
        """Whether the chat server is there."""
        self.coordinator = coordinator
        """Whether the coordinator is there."""
        self.kept: list[Finished] = []
        """Reports the supervisor keeps for a coordinator that starts again."""
        self.daemon = self._born()

    def _born(self) -> Daemon:
        me = Me(self.agent.name, self.agent.agent_id, "builder")
        return machine.begin(me, TUNING, fences={}, unsettled=outbox.recover(self.path)[0],
                             hub="", recovering=False, now=0.0)  # fmt: skip

    # -- the daemon's shell -----------------------------------------------------------------------

    def happens(self, *events: Event) -> None:
        for event in events:
            self.daemon, effects = machine.step(self.daemon, event, 1.0)
            for effect in effects:
                self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Record(entry=entry):
                self._reach("on disk")
                outbox.append(self.path, entry)
                self.happens(Recorded(entry.key))
            case Tell(line=Ended(finished=finished)):
                self._reach("on the lifeline")
                self.told(finished)
            case Say(message=message):
                self._reach("on the channel")
                self.says(message)
            case Settle(task=task, fence=fence):
                self._reach("settled")
                outbox.settle(self.path, task, fence)
            case _:
                pass

    def _reach(self, step: str) -> None:
        if self.armed and step == self.dies:
            raise Dead

    # -- what carries it --------------------------------------------------------------------------

    def told(self, finished: Finished) -> None:
        """The supervisor hears it, and tells the coordinator past the chat."""
        self.kept.append(finished)
        if self.coordinator:
            self.world.do(m.HandedOver(self.agent.name, finished))

    def says(self, message: WorkMessage) -> None:
        """The channel, and the coordinator's answer on it."""
        if not (self.chat and self.coordinator):
            return
        before = len(self.world.said)
        self.world.hear(self.agent, message)
        for answer in self.world.said[before:]:
            if isinstance(answer, Settled) and answer.agentId == self.agent.agent_id:
                self.happens(Heard(ME, answer))

    # -- its course -------------------------------------------------------------------------------

    def assigned(self) -> None:
        self.world.claim(self.agent, self.task)
        self.world.prepare()
        (assign,) = [a for a in self.world.said if isinstance(a, Assign)]
        self.happens(ChatUp(), Heard(ME, assign))
        self.world.promote(self.agent)

    def runs(self) -> None:
        """To the moment before its report is written."""
        self.assigned()
        self.happens(Told(Granted(self.task, 1, Work(self.task, 1, "do it", "builder"))))
        self.happens(BEGAN)
        self.world.begin(self.agent)
        self.happens(SessionOver())

    def over(self, *, supervisor: bool) -> None:
        """The rest of the fleet notices: a dead daemon, a dead coordinator, a dead supervisor."""
        found = outbox.read_outbox(self.path)
        dead = self.dies != "never"
        if not supervisor:
            self.world.becomes(self.agent, AgentState.STARTING)
            self.kept = list(found)
        elif dead:
            held = (self.agent.task, self.agent.fence)
            report = next((one for one in found if (one.task, one.fence) == held), None)
            if report is not None:
                self.told(report)
            elif held[0] and self.coordinator:
                self.world.do(m.HolderLost(self.agent.name, *held, "its daemon died", counts=True))
            self.world.becomes(self.agent, AgentState.BACKOFF)
        else:
            self.world.becomes(self.agent, AgentState.IDLE)
        if not (self.coordinator and supervisor):
            self.coordinator = True
            self.world.boot(self.kept)
        self.chat = True
        if dead or not supervisor:
            self.dies = "never"
            self.daemon = self._born()
        self.world.becomes(self.agent, AgentState.IDLE)
        self.happens(ChatUp())


FINISHED = {"outcome": Outcome.SUCCEEDED, "result": "done", "usage": Usage(7, 3), "cost_usd": 0.5}


@pytest.mark.parametrize("dies", STEPS)
def test_a_report_survives_whatever_dies_and_counts_once(tmp_path: Path, dies: str) -> None:
    """The daemon at each step, with the chat, the coordinator and the supervisor there or not."""
    for n, (chat, coordinator, supervisor) in enumerate(itertools.product((True, False), repeat=3)):
        place = tmp_path / str(n)
        place.mkdir()
        journey = Journey(place, dies=dies, chat=chat, coordinator=coordinator)
        try:
            what = f"{dies}, chat {chat}, coordinator {coordinator}, supervisor {supervisor}"
            journey.runs()
            finished = Finished(journey.task, 1, **FINISHED)  # type: ignore[arg-type]
            journey.armed = True
            with suppress(Dead):
                journey.happens(Secured(finished))
            written = dies != "on disk"
            journey.over(supervisor=supervisor)
            _check(journey, written, what)
        finally:
            journey.world.close()


def _check(journey: Journey, written: bool, what: str) -> None:
    task = journey.world.ledger.task(journey.task)
    assert task is not None
    attempts = journey.world.ledger.attempts(journey.task)
    assert outbox.load(journey.path) == (), f"settled in the end: {what}"
    assert journey.daemon.unsettled == (), what
    if written:
        assert task.state is TaskState.DONE, what
        assert [a.outcome for a in attempts] == [Outcome.SUCCEEDED], what
        used = journey.world.ledger.usage()
        assert (used.usage.input_tokens, used.usage.output_tokens) == (7, 3), what
        assert used.cost_usd == 0.5, what
    else:
        assert task.state in (TaskState.QUEUED, TaskState.RUNNING), f"it waits again: {what}"
        assert [a.outcome for a in attempts if a.fence == 1] == [Outcome.LOST], what
        assert task.lost <= 1, what


@pytest.mark.parametrize("dies", ["on disk", "on the channel", "settled", "never"])
def test_an_assignment_given_back_waits_again_uncounted(tmp_path: Path, dies: str) -> None:
    for n, (chat, coordinator, supervisor) in enumerate(itertools.product((True, False), repeat=3)):
        place = tmp_path / str(n)
        place.mkdir()
        journey = Journey(place, dies="never", chat=chat, coordinator=True)
        try:
            what = f"{dies}, chat {chat}, coordinator {coordinator}, supervisor {supervisor}"
            journey.assigned()
            journey.dies, journey.coordinator, journey.armed = dies, coordinator, True
            with suppress(Dead):
                journey.happens(Told(Denied(journey.task, 1, "no memory", 1.0)))
            journey.over(supervisor=supervisor)
            task = journey.world.ledger.task(journey.task)
            assert task is not None
            assert task.state is TaskState.QUEUED or task.fence > 1, what
            assert task.lost == 0, what
            assert outbox.load(journey.path) == (), what
        finally:
            journey.world.close()


def test_mutant_an_outbox_emptied_before_it_is_settled_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted bug: a report is forgotten as soon as it was written."""
    real = outbox.append

    def forgets(path: str, entry: outbox.Entry) -> None:
        real(path, entry)
        if isinstance(entry, Reported):
            outbox.settle(path, *entry.key)

    monkeypatch.setattr(outbox, "append", forgets)
    with pytest.raises(AssertionError):
        test_a_report_survives_whatever_dies_and_counts_once(tmp_path, "on the lifeline")

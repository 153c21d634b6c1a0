"""What holds for a daemon whatever happens, and the bugs each property is there to catch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from daemon_values import BEGAN, COORDINATOR, HUB, ME, TUNING, fresh_daemon, work_of
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from swarm.core.model import Outcome, Usage
from swarm.daemon import attempt, between, machine, orders
from swarm.daemon.outbox import Entry, Reported
from swarm.daemon.state import (
    ChatClosed,
    ChatDown,
    ChatUp,
    CloneFailed,
    CloneMade,
    CloseChat,
    Daemon,
    Effect,
    Event,
    Exit,
    Gone,
    Heard,
    Idle,
    Job,
    Kill,
    Launch,
    LaunchFailed,
    LifelineLost,
    MakeClone,
    Record,
    Recorded,
    RecordFailed,
    Recovered,
    SaveFences,
    Secure,
    Secured,
    SessionOver,
    SessionSpent,
    SessionSpoke,
    SessionStuck,
    Settle,
    Tell,
    Tick,
    Told,
)
from swarm.wire import lifeline
from swarm.wire.lifeline import Denied, EndSession, Finished, Granted, Leave, Prepare
from swarm.wire.work import Assign, Settled, TaskAvailable, TaskRef

TASKS = st.sampled_from(["t-1", "t-2", "t-3"])
FENCES = st.integers(0, 6)
SENDERS = st.sampled_from([COORDINATOR, COORDINATOR, COORDINATOR, "9" * 16])
AGENTS = st.sampled_from([ME.agent_id, ME.agent_id, "b" * 16])
HUBS = st.sampled_from([HUB, "/other.git"])


class DaemonLife(RuleBasedStateMachine):
    """A shell around the machine that does what it is told, in any order the world allows."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.daemon: Daemon = fresh_daemon(
            hub="", recovering=True, tuning=replace_tuning(max_task_seconds=200.0)
        )
        self.session: Job | None = None
        self.began = False
        self.killed = False
        self.asked: set[tuple[str, int]] = set()
        self.granted: set[tuple[str, int]] = set()
        self.launched: dict[str, int] = {}
        self.owed: set[tuple[str, int]] = set()
        """Attempts whose session began and whose report is not on disk yet."""
        self.disk: dict[tuple[str, int], Entry] = {}
        self.fences_on_disk: dict[str, int] = {}
        self.cloning: MakeClone | None = None
        self.securing: Secure | None = None
        self.closing = False
        self.exited = False
        self.lifeline = True
        self.disk_full = False

    # -- the shell --

    def feed(self, event: Event) -> None:
        if self.exited:
            return
        self.daemon, effects = machine.step(self.daemon, event, self.now)
        for effect in effects:
            self.perform(effect)

    def perform(self, effect: Effect) -> None:
        match effect:
            case Tell(lifeline.Promote(task=task, fence=fence)):
                assert self.fences_on_disk.get(task) == fence, "asked before the fence was kept"
                self.asked.add((task, fence))
            case Tell(lifeline.Ended(finished=done)):
                assert (done.task, done.fence) in self.disk, "told before it was written down"
            case Tell(lifeline.Idle()):
                assert self.session is None, "idle with a session"
                assert not self.owed, f"idle, and nothing durable is known of {self.owed}"
            case Launch(job):
                assert self.session is None, "two sessions at once"
                assert job.key in self.granted, "a session nobody allowed"
                assert self.cloning is None, "a session in a clone that is being made"
                assert self.securing is None
                again = self.launched.get(job.work.task, 0)
                assert again <= job.fence, "a session under an older fence"
                self.launched[job.work.task] = job.fence
                self.session, self.began, self.killed = job, False, False
            case Kill():
                self.killed = True
            case Secure() as secure:
                assert self.session is None, "secured under a running session"
                self.securing = secure
            case Record(entry):
                if self.disk_full:
                    self.feed(RecordFailed(entry.key, "full"))
                else:
                    self.disk[entry.key] = entry
                    if isinstance(entry, Reported):
                        self.owed.discard(entry.key)
                    self.feed(Recorded(entry.key))
            case Settle(task, fence):
                self.disk.pop((task, fence), None)
            case SaveFences(fences):
                self.fences_on_disk = dict(fences)
            case _:
                self.perform_rarer(effect)

    def perform_rarer(self, effect: Effect) -> None:
        match effect:
            case MakeClone() as clone:
                assert self.cloning is None, "two clones at once"
                assert self.session is None, "a clone made under a running session"
                self.cloning = clone
            case CloseChat():
                self.closing = True
            case Exit():
                self.exited = True
                if self.lifeline:
                    assert self.session is None, "left its session behind"
                    assert not self.owed, "left without a durable report"
            case _:
                pass

    # -- the world --

    @initialize(ready=st.sampled_from([True, True, True, False]))
    def begins(self, ready: bool) -> None:
        if ready:
            self.feed(Recovered())
            self.feed(ChatUp())

    @rule(seconds=st.sampled_from([0.0, 0.1, 2.0, 6.0, 40.0, 300.0]))
    def time(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(3):
            self.feed(Tick())

    @rule(up=st.booleans())
    def chat(self, up: bool) -> None:
        self.feed(ChatUp() if up else ChatDown("lost"))

    @rule()
    def recovered(self) -> None:
        self.feed(Recovered())

    @rule(sender=SENDERS, agent=AGENTS, task=TASKS, fence=FENCES, replay=st.booleans())
    def assign(self, sender: str, agent: str, task: str, fence: int, replay: bool) -> None:
        before = len(self.asked)
        message = Assign(agentId=agent, task=TaskRef(task, prompt="p"), fence=fence)
        self.feed(Heard(sender, message, replay and fence > 4))
        if sender != COORDINATOR or agent != ME.agent_id:
            assert len(self.asked) == before, "obeyed one it should not"

    @rule(task=TASKS, fence=FENCES)
    def promote(self, task: str, fence: int) -> None:
        """All of a promotion at once, so that a walk gets to sessions often."""
        self.assign(COORDINATOR, ME.agent_id, task, fence, False)
        key = (task, fence or self.daemon.fences.get(task, 0))
        if key in self.asked:
            self.granted.add(key)
            self.feed(Told(Granted(*key, work_of(task))))
        if self.cloning is not None:
            self.clone(True)
        if self.session is not None and not self.began:
            self.starts("began")

    @rule(task=TASKS, offered=st.booleans())
    def announce(self, task: str, offered: bool) -> None:
        offer = (ME.name,) if offered else ()
        message = TaskAvailable(task=TaskRef(task, role="builder"), offer=offer, idle=20)
        self.feed(Heard(COORDINATOR, message))

    @precondition(lambda self: self.asked)
    @rule(
        allow=st.sampled_from([True, True, True, False]),
        hub=st.sampled_from([HUB, HUB, "/other.git", None]),
        data=st.data(),
    )
    def answer(self, allow: bool, hub: str | None, data: st.DataObject) -> None:
        task, fence = data.draw(st.sampled_from(sorted(self.asked)))
        if allow:
            self.granted.add((task, fence))
            self.feed(Told(Granted(task, fence, work_of(task, hub=hub))))
        else:
            self.feed(Told(Denied(task, fence, "paused")))

    @rule(hub=HUBS)
    def prepare(self, hub: str) -> None:
        self.feed(Told(Prepare(hub)))

    @precondition(lambda self: self.cloning is not None)
    @rule(works=st.sampled_from([True, True, False]))
    def clone(self, works: bool) -> None:
        assert self.cloning is not None
        hub, self.cloning = self.cloning.hub, None
        self.feed(CloneMade(hub) if works else CloneFailed(hub, "no"))

    @precondition(lambda self: self.session is not None and not self.began)
    @rule(kind=st.sampled_from(["began", "began", "missing", "spoiled", "full"]))
    def starts(self, kind: str) -> None:
        assert self.session is not None
        if kind == "began":
            self.began = True
            self.owed.add(self.session.key)
            self.feed(BEGAN)
        else:
            self.feed(LaunchFailed("no", unprepared=kind == "spoiled", ours=kind == "full"))
            if self.session is not None:
                self.session = None
                self.feed(SessionOver())

    @precondition(lambda self: self.session is not None)
    @rule(
        event=st.sampled_from(
            [SessionSpoke("x"), SessionStuck(), SessionSpent(Usage(1, 1), None, "s")]
        )
    )
    def session_news(self, event: Event) -> None:
        self.feed(event)

    @precondition(lambda self: self.session is not None)
    @rule()
    def session_ends(self) -> None:
        self.session = None
        self.feed(SessionOver())

    @precondition(lambda self: self.securing is not None)
    @rule()
    def secured(self) -> None:
        assert self.securing is not None
        secure, self.securing = self.securing, None
        self.feed(Secured(Finished(*secure.job.key, secure.ended_by or Outcome.SUCCEEDED)))

    @rule(sender=SENDERS, task=TASKS, fence=FENCES, replay=st.booleans())
    def settle(self, sender: str, task: str, fence: int, replay: bool) -> None:
        before = dict(self.disk)
        message = Settled(agentId=ME.agent_id, task=TaskRef(task), fence=fence)
        self.feed(Heard(sender, message, replay))
        gone = set(before) - set(self.disk)
        assert gone <= {(task, fence)}, "settled another attempt's"
        assert sender == COORDINATOR or not gone, "settled by a stranger"

    @rule(task=TASKS, fence=FENCES, outcome=st.sampled_from(Outcome))
    def end(self, task: str, fence: int, outcome: Outcome) -> None:
        self.feed(Told(EndSession(task, fence, outcome, "asked", 5.0)))

    @rule(full=st.booleans())
    def disk_fills(self, full: bool) -> None:
        self.disk_full = full

    @precondition(lambda self: self.now > 60)
    @rule(grace=st.sampled_from([0.0, 5.0]), drain=st.booleans())
    def leave(self, grace: float, drain: bool) -> None:
        self.feed(Told(Leave(grace, drain)))

    @precondition(lambda self: self.closing)
    @rule()
    def chat_closed(self) -> None:
        self.feed(ChatClosed())

    @precondition(lambda self: self.now > 300 and not self.exited)
    @rule()
    def supervisor_dies(self) -> None:
        self.lifeline = False
        self.feed(LifelineLost())
        assert self.exited, "outlives its supervisor"
        assert self.killed, "its session outlives its supervisor"

    # -- what must hold at any moment --

    @invariant()
    def reports_are_kept_until_settled(self) -> None:
        mirrored = {entry.key for entry in self.daemon.unsettled}
        written = {key for key, entry in self.disk.items() if isinstance(entry, Reported)}
        assert written <= mirrored, "forgets a report that nobody settled"

    @invariant()
    def a_session_is_always_known(self) -> None:
        if self.session is not None and not self.exited:
            assert between.holding(self.daemon.phase) == self.session.key

    @invariant()
    def there_is_always_a_next_look(self) -> None:
        at = machine.deadline(self.daemon)
        if isinstance(self.daemon.phase, Gone):
            assert at is None
        else:
            assert at is not None

    @invariant()
    def a_stopped_daemon_gets_to_its_end(self) -> None:
        """Once asked to leave, with a world that answers, it exits."""
        if self.daemon.leave is None or self.exited or self.daemon.leave.drain:
            return
        daemon, now, left = self.daemon, self.now, 0
        pending: list[Event] = []
        if self.session is not None:
            pending.append(SessionOver())
        if self.securing is not None:
            pending.append(Secured(Finished(*self.securing.job.key, Outcome.LOST)))
        for _ in range(40):
            event = pending.pop(0) if pending else Tick()
            now += 1.0
            daemon, effects = machine.step(daemon, event, now)
            for effect in effects:
                match effect:
                    case Record(entry):
                        pending.append(Recorded(entry.key))
                    case Secure(job=job):
                        pending.append(Secured(Finished(*job.key, Outcome.LOST)))
                    case CloseChat():
                        pending.append(ChatClosed())
                    case Exit():
                        left += 1
            if daemon.phase.__class__.__name__ == "Starting":
                pending.append(Recovered())
            if left:
                return
        raise AssertionError(f"never leaves: {daemon.phase}")


def replace_tuning(**fields: float) -> lifeline.Tuning:
    import msgspec

    return msgspec.structs.replace(TUNING, **fields)


HUNT = (Phase.explicit, Phase.generate)
"""A planted bug need not be shrunk, only found."""
LEAN = settings(max_examples=250, stateful_step_count=30, deadline=None)


def test_a_daemons_life() -> None:
    run_state_machine_as_test(DaemonLife, settings=LEAN)


# -- bugs planted on purpose ---------------------------------------------------------------------


def obeys_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = orders.heard

    def wrong(daemon: Daemon, event: Heard, now: float) -> Any:
        return heard(daemon, replace(event, sender=COORDINATOR), now)

    monkeypatch.setattr(orders, "heard", wrong)


def takes_a_second_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "_unable", lambda _daemon: "")


def starts_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    assigned = orders._assigned

    def wrong(daemon: Daemon, sender: str, message: Assign, now: float) -> Any:
        after, effects = assigned(daemon, sender, message, now)
        if not any(isinstance(e, Tell) for e in effects):
            return after, effects
        line = Granted(message.task.id, after.fences[message.task.id], work_of(message.task.id))
        after, more = attempt.granted(after, line, now)
        return after, effects + more

    monkeypatch.setattr(orders, "_assigned", wrong)


def forgets_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(daemon: Daemon, _finished: Finished, _title: str) -> Any:
        return between.rest(daemon, 0.0)

    monkeypatch.setattr(attempt, "_record", wrong)


def reports_before_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(daemon: Daemon, finished: Finished, _title: str) -> Any:
        daemon, effects = between.rest(daemon, 0.0)
        return daemon, (Tell(lifeline.Ended(finished)), *effects, Record(Reported(finished)))

    monkeypatch.setattr(attempt, "_record", wrong)


def gives_up_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = attempt.recorded

    def wrong(daemon: Daemon, event: Recorded | RecordFailed, now: float) -> Any:
        return recorded(daemon, Recorded(event.key), now)

    monkeypatch.setattr(attempt, "recorded", wrong)


def settles_any_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(daemon: Daemon, message: Settled, _now: float) -> Any:
        gone = [e for e in daemon.unsettled if e.key[0] == message.task.id]
        rest = tuple(e for e in daemon.unsettled if e not in gone)
        return replace(daemon, unsettled=rest), tuple(Settle(*e.key) for e in gone)

    monkeypatch.setattr(orders, "_settled", wrong)


def survives_its_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    decide = machine._decide

    def wrong(daemon: Daemon, event: Event, now: float) -> Any:
        if isinstance(event, LifelineLost) and not isinstance(daemon.phase, Idle):
            return daemon, ()
        return decide(daemon, event, now)

    monkeypatch.setattr(machine, "_decide", wrong)


def obeys_old_fences(monkeypatch: pytest.MonkeyPatch) -> None:
    assigned = orders._assigned

    def wrong(daemon: Daemon, sender: str, message: Assign, now: float) -> Any:
        return assigned(replace(daemon, fences={}), sender, message, now)

    monkeypatch.setattr(orders, "_assigned", wrong)


def never_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(between, "close", lambda daemon, _now: (daemon, ()))


def launches_while_cloning(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(daemon: Daemon, job: Job, *, again: bool) -> Any:
        return replace(daemon, phase=attempt.Launching(job, again)), (Launch(job),)

    monkeypatch.setattr(attempt, "_prepare", wrong)


@pytest.mark.parametrize(
    "plant",
    [
        obeys_strangers,
        takes_a_second_task,
        starts_without_asking,
        forgets_the_report,
        reports_before_it_is_durable,
        gives_up_on_a_full_disk,
        settles_any_fence,
        survives_its_supervisor,
        obeys_old_fences,
        never_kills,
        launches_while_cloning,
    ],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_bug_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    hunt = settings(
        max_examples=1000,
        stateful_step_count=40,
        deadline=None,
        database=None,
        phases=HUNT,
        derandomize=True,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(DaemonLife, settings=hunt)

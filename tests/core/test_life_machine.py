"""A child's life against an adversarial shell, and the bugs this must catch.

The shell answers a spawn late, with an error, or after a stop; processes die when they like;
people change their minds.  The model knows only what a person knows: what was asked for last,
which process lives, and how often it was restarted.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
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
from mutants import mutant

from swarm.core import life as real
from swarm.core import restart
from swarm.core.restart import UNREADY_SECONDS, RestartPolicy

POLICIES = (
    RestartPolicy(),
    RestartPolicy(max_restarts=2, window_seconds=100, stable_seconds=40),
    RestartPolicy(base_seconds=0, max_restarts=3, window_seconds=50),
    RestartPolicy(base_seconds=4, cap_seconds=10, max_restarts=0),
    RestartPolicy(base_seconds=0, max_restarts=0, stable_seconds=0),
)
GAPS = st.sampled_from([0.0, 0.03, 0.5, 1.0, 3.0, 11.0, 31.0, 70.0, 301.0])


class Adversary(RuleBasedStateMachine):
    """The shell and the people, and what must hold whatever they do."""

    L: ModuleType = real
    """The machine under test."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.asked_at: float | None = None
        self.hastened = False
        self.live: int | None = None
        self.pids = 0
        self.want = False
        self.end_asked = False
        self.ready_at: float | None = None
        self.term_at: float | None = None
        self.killed = False
        self.spawned_at = 0.0
        self.condemned = False
        self.streak = 0
        self.charged: list[float] = []

    @initialize(policy=st.sampled_from(POLICIES))
    def begin(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self.life = self.L.Life("a", policy)

    def do(self, event: Any, jitter: float = 0.0) -> None:
        self.life, effects = self.L.step(self.life, event, self.now, jitter)
        for effect in effects:
            self.perform(effect)

    def perform(self, effect: Any) -> None:
        match effect:
            case self.L.Spawn():
                assert self.live is None, "two processes for one child"
                assert self.asked_at is None, "two spawns outstanding"
                assert self.want, "started against orders"
                self.asked_at, self.hastened = self.now, False
            case self.L.HastenSpawn():
                assert self.asked_at is not None, "hastened a spawn nobody owes"
                self.hastened = True
            case self.L.Signal(pid=pid, signal=signal):
                assert pid == self.live, "signalled a process that is not ours"
                if signal == "TERM":
                    assert self.term_at is None, "told to exit twice"
                self.term_at = self.now if self.term_at is None else self.term_at
                self.killed |= signal == "KILL"

    # -- what people ask

    @rule()
    def start(self) -> None:
        degraded = isinstance(self.life.phase, self.L.Degraded)
        fresh = isinstance(self.life.phase, self.L.Stopped)
        self.want = True
        if fresh or (self.end_asked and self.live):
            self.forget()
        self.do(self.L.StartRequested())
        assert isinstance(self.life.phase, self.L.Degraded) == degraded

    @rule(grace=st.sampled_from([None, 0.0, 3.0]))
    def stop(self, grace: float | None) -> None:
        self.want = False
        self.end_asked = self.live is not None
        self.do(self.L.StopRequested(grace))
        if grace == 0.0 and self.live:
            assert self.killed, "no grace, and not killed"

    @rule()
    def restart(self) -> None:
        self.want = True
        self.end_asked = self.live is not None
        self.forget()
        self.do(self.L.RestartRequested())
        assert self.life.restarts == 0
        assert self.live or self.asked_at is not None, "a restart that starts nothing"

    @rule(policy=st.sampled_from(POLICIES))
    def reload(self, policy: RestartPolicy) -> None:
        before = self.life.state
        self.do(self.L.PolicyChanged(policy))
        self.policy = policy
        self.charged = self.charged[-policy.max_restarts :] if policy.max_restarts else []
        assert self.life.state == before

    def forget(self) -> None:
        self.streak, self.charged = 0, []

    # -- what the shell does

    @precondition(lambda self: self.asked_at is not None)
    @rule()
    def spawned(self) -> None:
        self.asked_at = None
        self.pids += 1
        self.live, self.spawned_at = self.pids, self.now
        self.ready_at, self.term_at, self.killed = None, None, False
        self.condemned, self.end_asked = False, not self.want
        self.do(self.L.Spawned(self.live))

    @precondition(lambda self: self.asked_at is not None)
    @rule(jitter=st.floats(0, 1))
    def spawn_failed(self, jitter: float) -> None:
        self.asked_at = None
        charged = self.want
        before = self.life.history
        self.do(self.L.SpawnFailed("no memory"), jitter)
        self.check_down(charged, None, before)

    @precondition(lambda self: self.live)
    @rule()
    def ready(self) -> None:
        if self.ready_at is None and self.term_at is None:
            self.ready_at = self.now
        self.do(self.L.Ready())

    @precondition(lambda self: self.live)
    @rule()
    def unresponsive(self) -> None:
        self.condemned = self.condemned or self.term_at is None
        self.ran = self.now - self.ready_at if self.ready_at is not None else None
        self.do(self.L.Unresponsive("silent"))
        assert self.term_at is not None, "an unresponsive child was left alone"

    @precondition(lambda self: self.live)
    @rule(status=st.sampled_from([0, 1, -9]), jitter=st.floats(0, 1))
    def exit(self, status: int, jitter: float) -> None:
        ran = self.now - self.ready_at if self.ready_at is not None else None
        if self.condemned:
            ran = self.ran
        self.live = None
        before = self.life.history
        charged = not self.end_asked
        self.end_asked = False
        self.do(self.L.Exited(status), jitter)
        self.check_down(charged, ran, before)

    @rule(gap=GAPS)
    def tick(self, gap: float) -> None:
        self.now += gap
        starting = isinstance(self.life.phase, self.L.Starting)
        late = self.now >= self.spawned_at + self.life.terms.ready_seconds
        if starting and late:
            self.condemned, self.ran = True, None
        self.do(self.L.Tick())
        if starting and late:
            assert self.term_at is not None, "a missed readiness deadline went unnoticed"

    @precondition(lambda self: self.want)
    @rule(times=st.integers(2, 8))
    def crash_often(self, times: int) -> None:
        """The way to degraded, which chance alone seldom finds."""
        for _ in range(times):
            if self.live:
                self.exit(1, 0.0)
            elif self.asked_at is not None:
                self.spawned()
            elif (at := self.life.next_restart_at) is not None:
                self.tick(at - self.now)

    # -- what must hold

    def check_down(self, charged: bool, ran: float | None, before: Any) -> None:
        """After an end: an asked one costs nothing, any other passes the policy."""
        if not charged:
            asked = self.life.history in (before, real.History(), self.L.History())
            assert asked, "an exit that was asked for was charged"
            assert not isinstance(self.life.phase, self.L.Backoff | self.L.Degraded)
            return
        policy = self.policy
        self.charged = [at for at in self.charged if at > self.now - policy.window_seconds]
        full = policy.max_restarts and len(self.charged) >= policy.max_restarts
        if ran is not None and ran >= policy.stable_seconds:
            self.streak = 0
        if full:
            assert isinstance(self.life.phase, self.L.Degraded), "restarted beyond its limit"
            return
        assert isinstance(self.life.phase, self.L.Backoff | self.L.Spawning), "gave up too early"
        delay = min(policy.cap_seconds, policy.base_seconds * 2**self.streak)
        floor = UNREADY_SECONDS if ran is None else 0.0
        most = max(min(policy.cap_seconds, delay * 1.1), floor)
        until = self.life.next_restart_at
        wait = 0.0 if until is None else until - self.now
        assert max(delay, floor) - 1e-6 <= wait <= most + 1e-6, "the wrong backoff"
        self.streak += 1
        if policy.max_restarts:
            self.charged.append(self.now)

    @invariant()
    def last_word_wins(self) -> None:
        phase = self.life.phase
        if self.want:
            assert not isinstance(phase, self.L.Stopped), "down against orders"
            assert getattr(phase, "wanted", True)
            assert getattr(phase, "then", None) is not self.L.Then.STOP
        else:
            runs = self.L.Starting | self.L.Running | self.L.Backoff | self.L.Degraded
            assert not isinstance(phase, runs), "running against orders"
            assert not getattr(phase, "wanted", False)

    @invariant()
    def spawning_iff_asked(self) -> None:
        assert isinstance(self.life.phase, self.L.Spawning) == (self.asked_at is not None)
        assert self.life.pid == self.live

    @invariant()
    def nothing_is_forgotten(self) -> None:
        phase = self.life.phase
        if not isinstance(phase, self.L.Stopped | self.L.Running | self.L.Degraded):
            assert self.L.deadline(phase) is not None, "nobody will look at it again"

    @invariant()
    def time_is_kept(self) -> None:
        """A tick leaves no deadline due, and whatever was due has happened."""
        starting = isinstance(self.life.phase, self.L.Starting)
        self.do(self.L.Tick())
        if starting and self.term_at is not None:
            self.condemned, self.ran = True, None
        at = self.L.deadline(self.life.phase)
        assert at is None or at > self.now, "still due after a tick"
        terms = self.life.terms
        if self.asked_at is not None and self.now >= self.asked_at + terms.spawn_seconds:
            assert self.hastened, "an overdue spawn went unnoticed"
        late = self.term_at is not None and self.now >= self.term_at + terms.stop_seconds
        if late and self.live:
            assert self.killed, "TERM was not followed by KILL"

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.life.history.granted) <= max(p.max_restarts for p in POLICIES)


def check(life: ModuleType, examples: int, *phases: Phase) -> None:
    run_state_machine_as_test(
        type("Adversary", (Adversary,), {"L": life}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            derandomize=True,
            database=None,
            phases=phases,
        ),
    )


def test_a_life_keeps_its_rules_whatever_the_shell_does() -> None:
    check(real, 150, Phase.generate, Phase.shrink)


CRASH = "return _crash(life, reason, _ran(life.phase, now), now, jitter, shared)"
BUGS = {
    "exit 0 counts as finished": (
        CRASH,
        f"return _to(life, Stopped(), now) if status == 0 else {CRASH.removeprefix('return ')}",
    ),
    "a missed readiness deadline is free": (
        'g} s"\n            return _end(life, pid, now, Then.CRASH,',
        'g} s"\n            return _end(life, pid, now, Then.START,',
    ),
    "missed heartbeats are free": (
        "return _end(life, pid, now, Then.CRASH, reason, seconds)",
        "return _end(life, pid, now, Then.START, reason, seconds)",
    ),
    "a spawn has no deadline": (
        "case Stopped() | Running() | Degraded():",
        "case Stopped() | Running() | Degraded() | Spawning():",
    ),
    "a stop during a spawn is forgotten": (
        "replace(spawning, wanted=False, grace=asked.grace)",
        "spawning",
    ),
    "an asked exit is charged": (
        "case Stopping(then=Then.STOP), Exited():\n            return _to(life, Stopped(), now)",
        "case Stopping(then=Then.STOP), Exited():\n            return _crash(life, '', 1, now, 0)",
    ),
    "an asked restart is charged": (
        "case Stopping(then=Then.START), Exited():\n            return _start(life, now)",
        "case Stopping(then=Then.START), Exited():\n            return _crash(life, '', 1, now, 0)",
    ),
    "an asked restart keeps the counters": (
        "life = replace(life, history=History(), reason=reason)",
        "life = replace(life, reason=reason)",
    ),
    "the second signal is TERM again": (
        'return _to(life, again, now, Signal(life.name, phase.pid, "KILL"))',
        'return _to(life, again, now, Signal(life.name, phase.pid, "TERM"))',
    ),
    "a start does not wait for the old process": (
        "return _to(again, replace(stopping, then=Then.START), now)",
        "return _start(again, now)",
    ),
    "a stop leaves backoff alone": (
        "case Stopped() | Backoff() | Degraded():\n            return _to(life, Stopped(), now)",
        "case Stopped() | Backoff() | Degraded():\n            return life, ()",
    ),
    "a start revives a degraded child": (
        "case Stopped():\n            return _start(replace(life, history",
        "case Stopped() | Degraded():\n            return _start(replace(life, history",
    ),
    "a restart leaves a degraded child down": (
        "case Stopped() | Backoff() | Degraded():\n            return _start(life, now)",
        (
            "case Stopped() | Backoff():\n            return _start(life, now)\n"
            "        case Degraded():\n            return life, ()"
        ),
    ),
    "the kill deadline stays due": (
        "again = replace(phase, kill_at=now + KILL_AGAIN_SECONDS)",
        "again = phase",
    ),
    "every run counts as stable": (
        "return now - phase.since if isinstance(phase, Running) else None",
        "return 1e9",
    ),
    "what was asked last is lost in a stop": (
        "hurried = replace(stopping, then=Then.STOP, reason=asked.reason)",
        "hurried = replace(stopping, reason=asked.reason)",
    ),
    "a stop with no grace waits": (
        "    if grace <= 0:\n        return _kill(life, phase, now)\n",
        "",
    ),
    "restarts at once after a spawn that failed": (
        "life.policy, life.history, now, ran=ran, jitter=jitter, shared=shared is not None",
        "life.policy, life.history, now, ran=ran or 0.0, jitter=jitter, shared=shared is not None",
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug: str) -> None:
    with mutant(real, *BUGS[bug]) as planted, pytest.raises(AssertionError):
        check(planted, 400, Phase.generate)


def test_the_policy_the_machine_uses_is_the_one_under_test() -> None:
    assert real.judge is restart.judge

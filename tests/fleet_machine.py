"""The fleet against an adversary: a shell that answers late, children that die at any moment.

The adversary keeps books of its own (who has a process, who was granted what, what the coordinator
was told) and checks every effect against them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import hypothesis.strategies as st
from fleet_plays import OUR_COORDINATOR, Report, Work, session
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core.fleet import Fleet
from swarm.core.fleet_settings import FleetSettings
from swarm.core.life import HastenSpawn, RestartPolicy, Signal, Spawn
from swarm.core.limits import SessionLimits, Use
from swarm.core.model import Outcome

PICK = st.integers(0, 10**6)
FOREIGN = "f" * 16
RUNTIMES = {"builder": "claude", "qa": "codex"}


class FleetMachine(RuleBasedStateMachine):
    """Rules are what may happen; ``_check`` is what must hold of each effect."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        settings = FleetSettings(
            max_active=2,
            session_limits=SessionLimits(memory_mb=100),
            policy=RestartPolicy(base_seconds=0, max_restarts=4),
            heartbeat_seconds=10,
            up_seconds=1e6,
            quota_probe_seconds=10.0,
            runtimes=RUNTIMES,
        )
        self.fleet = Fleet(
            settings,
            services=("chat", "coordinator"),
            wanted={"builder": 3, "qa": 1},
            coordinator_id=OUR_COORDINATOR,
        )
        self.pids = 0
        self.asked: list[str] = []
        self.alive: dict[str, int] = {}
        self.ready: set[str] = set()
        self.granted: dict[str, tuple[str, int]] = {}  # and not told to the coordinator yet
        self.running: set[str] = set()  # sessions, by agent
        self.demoting: set[str] = set()
        self.asking: dict[str, tuple[str, int]] = {}
        self.cleaning: dict[str, fx.CleanTree] = {}
        self.assigned: dict[tuple[str, int], str] = {}
        self.late: dict[str, str] = {}
        self.told: dict[tuple[str, int], int] = {}
        self.view: dict[str, e.Fact] = {}
        self.tidying: fx.Tidy | None = None
        self.cleaner = False
        self.parked: set[str] = set()  # scopes of quotas
        self.probing: dict[str, int] = {}
        self.paused = False
        self.tasks = 0
        self.replies: dict[int, int] = {}
        self.ordered: set[str] = set()  # agents a person stopped or restarted
        self.stopping = False
        self.do(e.Up())

    @initialize(up=st.booleans())
    def begins(self, up: bool) -> None:
        """Half of the stories begin with a fleet that is up."""
        while up and self.asked:
            self.everyone_comes_up()

    # -- the shell's books ------------------------------------------------------------------------

    def do(self, event: e.Event) -> None:
        for effect in self.fleet.handle(event, self.now, 0.5):
            self._check(effect)

    def _check(self, effect: fx.Effect) -> None:
        self._check_lives(effect)
        self._check_work(effect)
        self._check_tidying(effect)
        self._check_told(effect)

    def _check_lives(self, effect: fx.Effect) -> None:
        match effect:
            case Spawn(name=name):
                assert name not in self.asked, "a second spawn while one is outstanding"
                assert name not in self.alive, "two processes for one child"
                assert name not in self.cleaning, "started where an old session may still write"
                self.asked.append(name)
            case Signal(name=name, pid=pid):
                assert self.alive.get(name) == pid, "signalled a process that is not the child's"
            case HastenSpawn(name=name):
                assert name in self.asked
            case fx.TellLeave(name=name):
                if not (self.stopping or name in self.ordered or name in ("chat", "coordinator")):
                    busy = name in self.granted or name in self.asking or name in self.demoting
                    assert not busy, "scaling stopped a busy agent"
                if name == "coordinator":
                    held = self.granted.keys() & self.alive.keys()
                    assert not held, "the coordinator left before the last report"
            case _:
                pass

    def _check_work(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Grant(name=name, task=task, fence=fence, work=work):
                assert self.asking.pop(name, None) == (task, fence), "granted what nobody asked for"
                if work is not None:
                    assert self.assigned.get((task, fence)) == name, "granted without assignment"
                    assert "coordinator" in self.alive
                active = len(self.granted) + 1
                assert active <= self.fleet.settings.max_active, "more active than max_active"
                assert not self.stopping, "granted on the way down"
                runtime = self.runtime(name)
                assert f"quota:{runtime}" not in self.parked, "granted in spite of the quota"
                assert name not in self.probing, "granted while it probes"
                self.granted[name] = (task, fence)
            case fx.Deny(name=name, task=task, fence=fence):
                if self.asking.get(name) == (task, fence):
                    del self.asking[name]
            case fx.TellEndSession(name=name, task=task, fence=fence):
                assert self.granted.get(name) == (task, fence), "ended another's session"
            case fx.TellProbe(name=name, id=number):
                assert name in self.ready, "probed by nobody"
                busy = name in self.granted or name in self.asking or name in self.demoting
                assert not busy, "probed by one who is busy"
                assert name not in self.probing, "two probes in one daemon"
                assert not self.stopping, "probed on the way down"
                assert not self.paused, "probed although a person has paused it"
                assert f"quota:{self.runtime(name)}" in self.parked, "probed what is not parked"
                self.probing[name] = number
            case fx.KeepPause(scope=scope) if scope.startswith("quota"):
                self.parked.add(scope)
            case fx.DropPause(scope=scope):
                self.parked.discard(scope)
            case _:
                pass

    def _check_tidying(self, effect: fx.Effect) -> None:
        match effect:
            case fx.CleanTree(name=name):
                assert name not in self.cleaning
                assert name not in self.alive
                self.cleaning[name] = effect
            case fx.Tidy():
                assert self.tidying is None, "two janitors at once"
                assert not (effect.rest and self.cleaner), "the janitor came to a clean-up"
                assert not set(effect.names) & self.alive.keys(), "tidied a live agent's workspace"
                self.tidying = effect
            case fx.CleanUp():
                assert not self.cleaner, "two clean-ups at once"
                assert not self.stopping, "a clean-up on the way down"
                nobody = not any(self.fleet.wanted.values())  # scaled to none while it came up
                assert self.fleet.agents or nobody, "a clean-up before anybody knows its workspace"
                self.cleaner = True
            case _:
                pass

    def _check_told(self, effect: fx.Effect) -> None:
        match effect:
            case (
                fx.TellLost(task=task, fence=fence)
                | fx.TellReported(report=Report(task=task, fence=fence))
            ):
                self.told[task, fence] = self.told.get((task, fence), 0) + 1
                assert self.told[task, fence] == 1, "one attempt told twice"
                holder = self.granted.get(effect.name)
                assert holder != (task, fence) or effect.name not in self.cleaning, "told too early"
            case fx.TellSlots(free=free):
                assert not (self.stopping and free), "slots offered on the way down"
            case fx.TellSnapshot(facts=facts):
                self.view = {fact.name: fact for fact in facts}
            case fx.TellAgent(fact=fact):
                self.view[fact.name] = fact
            case fx.TellGone(name=name):
                assert name in self.view, "gone twice"
                del self.view[name]
            case fx.Settled(ok=False):
                self.stopping = True  # a start that failed ends itself
            case fx.Reply(reply=reply) | fx.Refuse(reply=reply) if reply:
                self.replies[reply] += 1
                assert self.replies[reply] == 1, "one command answered twice"
            case _:
                pass

    def runtime(self, name: str) -> str:
        """What its daemon runs."""
        return RUNTIMES["qa" if "-qa-" in name else "builder"]

    def _reply(self) -> int:
        number = len(self.replies) + 1
        self.replies[number] = 0
        return number

    def _pick(self, pool: object, pick: int) -> str | None:
        names = sorted(pool)  # type: ignore[call-overload]
        return names[pick % len(names)] if names else None

    def _daemons(self) -> set[str]:
        return {name for name in self.ready if name.startswith("swarm-")}

    # -- children ---------------------------------------------------------------------------------

    @precondition(lambda self: self.asked)
    @rule(pick=PICK, works=st.integers(0, 5))
    def spawn_answered(self, pick: int, works: int) -> None:
        name = self.asked.pop(pick % len(self.asked))
        if works:
            self.pids += 1
            self.alive[name] = self.pids
            self.do(e.Spawned(name, self.pids))
        else:
            self.do(e.SpawnFailed(name, "no memory"))

    @rule(pick=PICK)
    def becomes_ready(self, pick: int) -> None:
        name = self._pick(self.alive.keys() - self.ready, pick)
        if name is not None:
            self.ready.add(name)
            self.do(e.ChildReady(name, f"id-{name}"))
            self.do(e.ChildBeat(name))

    @rule()
    def everyone_comes_up(self) -> None:
        while self.asked:
            self.spawn_answered(0, 1)
        for name in sorted(self.alive.keys() - self.ready):
            self.becomes_ready_now(name)

    def becomes_ready_now(self, name: str) -> None:
        self.ready.add(name)
        self.do(e.ChildReady(name, f"id-{name}"))
        self.do(e.ChildBeat(name))

    @rule(pick=PICK, status=st.sampled_from([0, 1, -9]))
    def dies(self, pick: int, status: int) -> None:
        name = self._pick(self.alive, pick)
        if name is not None:
            self._exit(name, status)

    @precondition(lambda self: self.late and "coordinator" in self.alive)
    @rule()
    def coordinator_dies_with_assignments_out(self) -> None:
        self._exit("coordinator", -9)

    def _exit(self, name: str, status: int) -> None:
        del self.alive[name]
        self.ready.discard(name)
        self.asking.pop(name, None)
        self.demoting.discard(name)
        self.running.discard(name)
        self.ordered.discard(name)
        probed = self.probing.pop(name, None) is not None
        if name == "coordinator":
            self.view = {}
            self.assigned.clear()
        self.do(e.Exited(name, status))
        if probed or name in self.granted:
            assert name in self.cleaning, "a daemon died with a task and its tree was left alone"

    @precondition(lambda self: self.cleaning)
    @rule(pick=PICK, found=st.booleans())
    def tree_cleaned(self, pick: int, found: bool) -> None:
        name = self._pick(self.cleaning, pick)
        assert name is not None
        effect = self.cleaning.pop(name)
        key = (effect.task, effect.fence)
        held = self.granted.pop(name, None) is not None  # else it was probing a quota
        linked = self.fleet.linked and held
        before = self.told.get(key, 0)
        self.do(e.TreeCleaned(name, *key, Report(*key) if found and held else None))
        assert held or key not in self.told, "a probe was told as a task"
        if linked:
            assert self.told.get(key, 0) == before + 1, "nobody heard what became of the task"

    @rule(pick=PICK)
    def garbles(self, pick: int) -> None:
        name = self._pick(self.alive, pick)
        if name is not None:
            self.do(e.ChildGarbled(name, "nonsense"))

    # -- work -------------------------------------------------------------------------------------

    @precondition(lambda self: self.fleet.linked)
    @rule(pick=PICK, ask_first=st.booleans(), ask=st.booleans())
    def a_task_is_given(self, pick: int, ask_first: bool, ask: bool) -> None:
        idle = [n for n, f in self.view.items() if f.state.value == "idle"]
        name = self._pick(idle, pick)
        if name is None or name in self.asking or name in self.granted or name in self.demoting:
            return
        assert name in self.alive, "told idle, but it has no process"
        self.tasks += 1
        task = f"t-{self.tasks}"
        if ask and ask_first:
            self.asks(name, task, OUR_COORDINATOR)
        self.assigned[task, 1] = name
        if not ask:
            self.late[name] = task
        self.do(e.WorkAssigned(name, 1, Work(task)))
        if ask and not ask_first:
            self.asks(name, task, OUR_COORDINATOR)

    @rule(pick=PICK)
    def asks_late(self, pick: int) -> None:
        """It may have died, or the coordinator, between the assignment and the question."""
        name = self._pick(self.late.keys() & self._daemons(), pick)
        if name is None or name in self.asking or name in self.granted or name in self.demoting:
            return
        self.asks(name, self.late.pop(name), OUR_COORDINATOR)

    @rule(pick=PICK, other=st.booleans())
    def asks_for_what_is_not_its(self, pick: int, other: bool) -> None:
        name = self._pick(self._daemons(), pick)
        if name is None or name in self.asking or name in self.granted or name in self.demoting:
            return
        self.tasks += 1
        stolen = next((task for (task, _f), agent in self.assigned.items() if agent != name), "t-x")
        if other:
            self.asks(name, f"x-{self.tasks}", FOREIGN)
        else:
            self.asks(name, stolen, OUR_COORDINATOR)

    def asks(self, name: str, task: str, coordinator: str) -> None:
        self.asking[name] = (task, 1)
        self.do(e.PromotionAsked(name, task, 1, coordinator))

    @rule(pick=PICK)
    def session_starts(self, pick: int) -> None:
        name = self._pick(self.granted.keys() & self.ready - self.running, pick)
        if name is not None:
            self.running.add(name)
            self.do(e.SessionStarted(name, *self.granted[name], session()))

    @rule(pick=PICK, idle=st.booleans(), quota=st.sampled_from([None, 0.0, 5.0]))
    def session_ends(self, pick: int, idle: bool, quota: float | None = None) -> None:
        """``quota``: it hit its own, for an unknown time (0) or so many seconds."""
        name = self._pick(self.running & self.ready, pick)
        if name is None:
            return
        self.running.discard(name)
        key = self.granted.pop(name)
        self.demoting.add(name)
        linked = self.fleet.linked
        report = Report(*key)
        if quota is not None:
            report = Report(*key, Outcome.QUOTA, retry_at=self.now + quota if quota else None)
        self.do(e.SessionEnded(name, report))
        assert quota is None or f"quota:{self.runtime(name)}" in self.parked
        assert not linked or self.told.get(key) == 1
        if idle:
            self.goes_idle(0)

    @rule(pick=PICK, outcome=st.sampled_from(Outcome))
    def probe_ends(self, pick: int, outcome: Outcome) -> None:
        name = self._pick(self.probing.keys() & self.ready, pick)
        if name is not None:
            self.do(e.Probed(name, self.probing.pop(name), outcome))

    @rule(pick=PICK)
    def goes_idle(self, pick: int) -> None:
        name = self._pick(self.demoting & self.ready, pick)
        if name is not None:
            self.demoting.discard(name)
            self.do(e.DaemonIdle(name, warm=True))

    @rule(pick=PICK, over=st.booleans())
    def session_is_looked_at(self, pick: int, over: bool) -> None:
        name = self._pick(self.running & self.alive.keys(), pick)
        if name is not None:
            use = Use(memory_mb=200.0 if over else 1.0)
            self.do(e.SessionUse(name, *self.granted[name], use))

    @rule(silent=st.booleans())
    def many_die(self, silent: bool) -> None:
        """All that have a process, at one moment."""
        for name in sorted(self.alive):
            if not silent or name.startswith("swarm-"):
                self._exit(name, -9)

    @rule(pick=PICK)
    def lease_is_revoked(self, pick: int) -> None:
        name = self._pick(self.granted, pick)
        if name is not None:
            self.do(e.WorkRevoked(name, *self.granted[name], Outcome.CANCELLED, "cancelled"))

    # -- people and time --------------------------------------------------------------------------

    @rule(builders=st.integers(0, 4), qa=st.integers(0, 2))
    def scale(self, builders: int, qa: int) -> None:
        taken = frozenset(self.tidying.names if self.tidying else ())
        wanted = {"builder": builders, "qa": qa}
        self.do(e.ScaleAsked(self._reply(), roles=wanted, taken=taken))

    @rule(limit=st.integers(0, 3))
    def reload(self, limit: int) -> None:
        settings = self.fleet.settings
        new = FleetSettings(
            max_active=limit,
            session_limits=settings.session_limits,
            policy=settings.policy,
            heartbeat_seconds=settings.heartbeat_seconds,
            up_seconds=settings.up_seconds,
            quota_probe_seconds=settings.quota_probe_seconds,
            runtimes=RUNTIMES,
        )
        self.do(e.Reloaded(self._reply(), new))

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.paused = paused
        self.do(e.PauseAsked(self._reply()) if paused else e.ResumeAsked(self._reply()))
        assert paused or not self.parked, "resumed, and still parked"

    @rule(pick=PICK, restart=st.booleans())
    def order(self, pick: int, restart: bool) -> None:
        name = self._pick(self.fleet.agents, pick)
        if name is not None:
            self.ordered.add(name)
            kind = e.AgentRestartAsked if restart else e.AgentStopAsked
            self.do(kind(self._reply(), name))

    @rule(dt=st.sampled_from([0.1, 1.0, 6.0, 40.0]), silent=st.booleans())
    def time_passes(self, dt: float, silent: bool) -> None:
        self.now += dt
        for name in sorted(self.ready):
            if not silent or not name.startswith("swarm-builder"):
                self.do(e.ChildBeat(name, *self.granted.get(name, ("", 0))))
        self.do(e.Tick())

    @precondition(lambda self: self.tidying is not None)
    @rule()
    def tidied(self) -> None:
        names, self.tidying = self.tidying.names, None  # type: ignore[union-attr]
        self.do(e.Tidied(names))

    @rule(free=st.sampled_from([0.0, 1e6, None]))
    def disk_is(self, free: float | None) -> None:
        self.do(e.MemoryIs(1e6, free_disk_mb=free))

    @precondition(lambda self: self.cleaner)
    @rule(free=st.sampled_from([0.0, 1e6, None]))
    def cleaned_up(self, free: float | None) -> None:
        self.cleaner = False
        self.do(e.CleanedUp(1, free_disk_mb=free))

    @precondition(lambda self: not self.stopping)
    @rule(chance=st.integers(0, 9), now=st.booleans(), drain=st.sampled_from([None, 0.0, 5.0]))
    def stop(self, chance: int, now: bool, drain: float | None) -> None:
        if chance == 0:
            self.stopping = True
            self.do(e.StopAsked(self._reply(), now, drain))

    # -- what always holds ------------------------------------------------------------------------

    @invariant()
    def active_is_what_was_granted(self) -> None:
        assert self.fleet.active == len(self.granted)

    @invariant()
    def told_is_what_is(self) -> None:
        if self.fleet.linked:
            for name in self.view:
                assert name in self.alive or name in self.cleaning, f"{name} is gone, nobody told"

    @invariant()
    def no_deadline_is_due_after_a_tick(self) -> None:
        self.do(e.Tick())
        at = self.fleet.deadline()
        assert at is None or at > self.now, "a deadline that is due again at once"

    @invariant()
    def nobody_alive_is_forgotten(self) -> None:
        for name in self.alive:
            life = self.fleet.life_of(name)
            assert life is not None, f"{name} lives outside of the fleet"
            if life.pid is None:
                assert name in self.cleaning, f"{name} lives and the fleet thinks it is down"

    def teardown(self) -> None:
        """Whatever has happened: a stop ends, with everyone told and nothing left."""
        if not self.stopping:
            self.stopping = True
            self.do(e.StopAsked(self._reply()))
        for _ in range(400):
            if self.fleet.ended:
                break
            self._help_along()
        assert self.fleet.ended, "the stop does not end"
        assert not self.alive
        assert not self.asked
        assert not self.cleaning
        unanswered = [number for number, times in self.replies.items() if not times]
        assert not unanswered, f"commands without an answer: {unanswered}"

    def _help_along(self) -> None:
        """The world does its part, slowly: nobody exits but those that are killed or are asked."""
        if self.asked:
            self.spawn_answered(0, 1)
        elif self.cleaning:
            self.tree_cleaned(0, False)
        elif self.tidying is not None:
            self.tidied()
        elif self.cleaner:
            self.cleaned_up(None)
        else:
            stopping = [n for n in self.alive if self.fleet.life_of(n).state.value == "stopping"]
            if stopping:
                self._exit(sorted(stopping)[0], 0)
            self.now += 10.0
            self.do(e.Tick())


def walk(seed: int, steps: int = 60) -> None:
    """One story by plain random numbers: the same rules, the same for ever for one ``seed``.

    For planted bugs: a search by hypothesis would spend its time on generating well.
    """
    dice = random.Random(seed)

    def pick() -> int:
        return dice.randrange(10**6)

    def flip() -> bool:
        return dice.random() < 0.5

    machine = FleetMachine()
    machine.begins(up=dice.random() < 0.8)
    moves: list[tuple[int, Callable[[], object]]] = [
        (4, lambda: machine.asked and machine.spawn_answered(pick(), dice.randrange(6))),
        (2, lambda: machine.becomes_ready(pick())),
        (2, lambda: machine.everyone_comes_up()),
        (2, lambda: machine.dies(pick(), dice.choice([0, 1, -9]))),
        (1, lambda: machine.late and "coordinator" in machine.alive
            and machine.coordinator_dies_with_assignments_out()),
        (3, lambda: machine.cleaning and machine.tree_cleaned(pick(), flip())),
        (1, lambda: machine.garbles(pick())),
        (8, lambda: machine.fleet.linked and machine.a_task_is_given(pick(), flip(), flip())),
        (3, lambda: machine.asks_late(pick())),
        (1, lambda: machine.asks_for_what_is_not_its(pick(), flip())),
        (4, lambda: machine.session_starts(pick())),
        (2, lambda: machine.session_ends(pick(), flip(), dice.choice([None, None, 0.0, 5.0]))),
        (1, lambda: machine.probe_ends(pick(), dice.choice(list(Outcome)))),
        (2, lambda: machine.goes_idle(pick())),
        (1, lambda: machine.lease_is_revoked(pick())),
        (2, lambda: machine.session_is_looked_at(pick(), flip())),
        (1, lambda: dice.random() < 0.3 and machine.many_die(flip())),
        (2, lambda: machine.scale(dice.randrange(5), dice.randrange(3))),
        (1, lambda: machine.reload(dice.randrange(4))),
        (1, lambda: machine.pause(dice.random() < 0.2)),
        (1, lambda: machine.order(pick(), flip())),
        (2, lambda: machine.time_passes(dice.choice([0.1, 1.0, 6.0, 40.0]), flip())),
        (2, lambda: machine.tidying is not None and machine.tidied()),
        (1, lambda: machine.disk_is(dice.choice([0.0, 1e6, None]))),
        (1, lambda: machine.cleaner and machine.cleaned_up(dice.choice([0.0, 1e6, None]))),
        (1, lambda: machine.stopping or machine.stop(dice.randrange(10), flip(), None)),
    ]  # fmt: skip
    choices = [move for weight, move in moves for _ in range(weight)]
    for _ in range(steps):
        dice.choice(choices)()
        machine.active_is_what_was_granted()
        machine.told_is_what_is()
        machine.no_deadline_is_due_after_a_tick()
        machine.nobody_alive_is_forgotten()
    machine.teardown()


def walk_many(stories: int) -> None:
    """The stories of the first so many seeds."""
    for seed in range(stories):
        walk(seed)

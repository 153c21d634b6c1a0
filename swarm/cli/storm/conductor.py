"""One storm from its first process to its report: a loop of looking, disturbing and mending."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm.around import Around
from swarm.cli.storm.fleet import Fleet, Said
from swarm.cli.storm.grip import Grip
from swarm.cli.storm.hands import Held, Scene, choose, harm_of, perform
from swarm.cli.storm.hooks import Listener
from swarm.cli.storm.notes import Notes, Options
from swarm.cli.storm.orders import People
from swarm.cli.storm.plan import Disturbance, Kind, Target, plan
from swarm.cli.storm.processes import Process, find, is_same, send
from swarm.cli.storm.report import Report
from swarm.cli.storm.stage import fingerprint, write_settings
from swarm.cli.storm.verdict import judge
from swarm.cli.storm.watch import Recovery, Watch
from swarm.ledger import Ledger

CLEAN_SECONDS = 2.0
"""Within so long nothing is left of a killed supervisor's fleet (product, "Killed")."""
CALM_SECONDS = 150.0
"""How long the fleet may take after the storm to end every task and be idle."""
SILENCE_SECONDS = 20.0
"""How long a supervisor that runs may leave a status unanswered."""
TRIES = 4
"""How often in a row an ``up`` may fail while the storm is at it."""
_LOOK_EVERY, _SCAN_EVERY = 0.2, 0.5
_TURN = 0.02
_LURK = 1.0
"""Seconds to lie in wait for who lives for milliseconds."""


class Conductor:
    """One run.  ``tell`` hears what is done; :meth:`end` must be called however it ends."""

    def __init__(
        self, stage: Stage, ledger: Ledger, options: Options, tell: Callable[[str], None]
    ) -> None:
        self.fleet = Fleet(stage)
        self.notes = Notes()
        self.watch = Watch(time.monotonic())
        self._webhook = Listener(options.seed, self.notes.told.append)
        self._around = Around(
            stage, self.fleet, ledger, options, self.notes, self._wrong, self._heard
        )
        self._people = People(stage, self.fleet, ledger, options, self.notes, tell, self._heard,
                              self._around.person, self._webhook.address)  # fmt: skip
        self._stage = stage
        self._ledger = ledger
        self._options = options
        self._tell = tell
        self._grip = Grip()
        self._orders: list[Held] = []
        """Orders that are to be taken back."""
        self._failed_ups = 0
        self._answered = time.monotonic()
        self._next_look = self._next_scan = 0.0
        self._wanted_up = True
        self._raging = False

    def run(self, meddle: Callable[[Conductor], None] | None = None) -> Report:
        """The whole storm.  ``meddle`` is called once, in the calm before the last stop."""
        began = time.monotonic()
        self.notes.source = fingerprint(self._stage.repository)
        self._begin()
        self._rage()
        self._calm()
        if meddle is not None:
            meddle(self)
        self._stop()
        return judge(
            self._stage,
            self._ledger,
            self._options,
            self.notes,
            self.watch,
            self.fleet.home_id,
            began,
        )

    def end(self) -> None:
        """Let everything go and end what is left of the fleet."""
        self._wanted_up = False
        self._grip.close()
        self.fleet.end_commands()
        try:
            self._end_fleet()
        finally:
            self._around.end()
            self._webhook.close()

    def _end_fleet(self) -> None:
        supervisor = self.fleet.supervisor()
        end = time.monotonic() + 5.0
        while time.monotonic() < end:
            left = self.fleet.processes()
            if not left:
                return
            first = (
                [supervisor] if supervisor is not None and is_same(supervisor) else left.values()
            )
            for process in first:  # what it holds dies with the supervisor
                send(process, signal.SIGKILL)
            time.sleep(0.05)

    # -- the course -----------------------------------------------------------------------------

    def _begin(self) -> None:
        write_settings(self._stage, self._options.size, self._webhook.address)
        said = self.fleet.finish("swarm", "up", "--detach")
        if said.exit_code != 0:
            self.watch.say("everybody comes back", f"the first 'up': {said.text.strip()}", 0.0)
        self._tell(f"{self._options.size.agents} agents are up")

    def _rage(self) -> None:
        options = self._options
        storm = list(
            plan(options.seed, options.seconds, options.only, options.without, options.pace)
        )
        began = self.watch.began = time.monotonic()
        self._raging = True
        while time.monotonic() - began < options.seconds:
            self._turn()
            if storm and storm[0].at <= time.monotonic() - began:
                self._disturb(storm.pop(0))
            time.sleep(_TURN)
        self._raging = False
        self._tell(f"the storm is over: {sum(self.notes.disturbed.values())} disturbances")

    def _calm(self) -> None:
        """Undo everything; wait until every task has ended and every agent is idle."""
        self._grip.release()
        self._take_back(float("inf"))
        write_settings(self._stage, self._options.size, self._webhook.address)
        end = time.monotonic() + CALM_SECONDS
        orders = [self._options.size.scale(), ("swarm", "resume"),
                  ("swarm", "reload")]  # fmt: skip
        while time.monotonic() < end:
            self._turn()
            if orders and self.fleet.is_up() and not self.fleet.commands:
                words = orders[-1]
                self.fleet.run(
                    *words, then=lambda s: orders.pop() if self._heard(s) else None, limit=60
                )
            if not orders and self._is_calm():
                self._tell("every task has ended, every agent is idle")
                return
            time.sleep(_TURN)
        for words in orders:
            self.watch.say("commands answer", f"{' '.join(words)} does not work", time.monotonic())

    def _is_calm(self) -> bool:
        status = self.fleet.status()
        return (
            status is not None
            and not self._around.waits()
            and not self.watch.waiting
            and not self.fleet.commands
            and all(agent["state"] == "idle" for agent in status["agents"])
            and len(status["agents"]) == self._options.size.agents
        )

    def _stop(self) -> None:
        self._look(time.monotonic(), force=True)
        self._scan(time.monotonic(), force=True)
        self._wanted_up = False
        while self.fleet.commands:
            self.fleet.listen()
            time.sleep(_TURN)
        for words in (("swarm", "story", "swarm-builder-001"), ("task", "list", "--json")):
            self._must(self.fleet.finish(*words))
        said = self.fleet.finish("swarm", "stop")
        self._must(said)
        self._tell("stopped")
        if self.fleet.is_up():
            self.watch.say("no process is left", "the lock is still held", time.monotonic())
        if left := self._emptied():
            self.watch.say("no process is left", _named(left), time.monotonic())

    def _must(self, said: Said) -> None:
        if said.exit_code != 0:
            what = f"'{' '.join(said.words)}' exit {said.exit_code}: {said.text.strip()[:300]}"
            self.watch.say("commands answer", what, time.monotonic())

    # -- one turn ---------------------------------------------------------------------------------

    def _turn(self) -> None:
        now = time.monotonic()
        self.fleet.listen()
        self._released()
        self._take_back(now)
        self._keep_up(now)
        self._look(now)
        self._scan(now)
        if not self._frozen:
            self._around.turn(now, supply=self._raging)
        self.watch.overdue(now)

    @property
    def _frozen(self) -> bool:
        return any(
            h.disturbance.action.kind is Kind.STOP
            and h.disturbance.action.target is Target.SUPERVISOR
            for h in self._grip.now()
        )

    def _keep_up(self, now: float) -> None:
        """A person starts the fleet again when it is down."""
        if not self._wanted_up or self.fleet.runs("swarm", "up") or self.fleet.is_up():
            return
        self.watch.expect(Recovery("kill supervisor", "supervisor", now, time.time()))
        self.fleet.run("swarm", "up", "--detach", then=self._upped)

    def _upped(self, said: Said) -> None:
        self._answered = time.monotonic()
        self._heard(said)
        if said.exit_code == 0:
            self._failed_ups = 0
            return
        self._failed_ups += 1
        if self._failed_ups >= TRIES:
            what = f"'up' failed {TRIES} times in a row: {said.text.strip()[:500]}"
            self.watch.say("everybody comes back", what, time.monotonic())

    def _heard(self, said: Said) -> bool:
        """Whether a command did what it was to; what none may do is a violation."""
        if said.problem:
            self.watch.say("commands answer", said.problem, time.monotonic())
        return said.exit_code == 0

    def _look(self, now: float, force: bool = False) -> None:
        if not force and (now < self._next_look or self._frozen):
            return
        self._next_look = now + _LOOK_EVERY
        if not self.fleet.is_up():
            self._answered = now
            return
        status = self.fleet.status()
        now = time.monotonic()
        if status is None:
            if now - self._answered > SILENCE_SECONDS:
                what = f"the supervisor has not answered for {SILENCE_SECONDS:g} s"
                self.watch.say("commands answer", what, now)
            return
        self._answered = now
        self.watch.look(status, _lives, now)
        if all(agent["state"] not in ("starting", "backoff") for agent in status["agents"]):
            self.watch.returned("supervisor", now)

    def _scan(self, now: float, force: bool = False) -> None:
        if not force and now < self._next_scan:
            return
        self._next_scan = now + _SCAN_EVERY
        self._around.look()
        processes = self.fleet.processes().values()
        self.watch.sessions(processes, now)
        for process in processes:
            if (name := _SUPERVISION.get(process.name)) is not None:
                self.watch.measure(name, process, self._options.size.agents, now)
            elif "swarm.supervisor" in process.command:
                self.watch.measure("supervisor", process, self._options.size.agents, now)

    def _wrong(self, rule: str, what: str) -> None:
        self.watch.say(rule, what, time.monotonic())

    # -- disturbing -------------------------------------------------------------------------------

    def _disturb(self, disturbance: Disturbance) -> None:
        label = str(disturbance.action)
        status = self.fleet.status() if not self._frozen and self.fleet.is_up() else None
        done = False
        if status is not None:
            scene = Scene(status, self.fleet.processes())
            if disturbance.action.kind is Kind.PEOPLE:
                done = self._give_order(disturbance, scene)
            else:
                done = self._lay_hands(disturbance, scene)
        (self.notes.disturbed if done else self.notes.missed)[label] += 1

    def _give_order(self, disturbance: Disturbance, scene: Scene) -> bool:
        given = self._people.order(disturbance, scene)
        if isinstance(given, Held):
            self._orders.append(given)
            return True
        return given

    def _lay_hands(self, disturbance: Disturbance, scene: Scene) -> bool:
        victim = choose(disturbance, scene)
        end = time.monotonic() + _LURK
        while victim is None and disturbance.action.target in _BRIEF:
            if time.monotonic() > end:
                break
            victim = choose(disturbance, Scene(scene.status, self.fleet.processes()))
        if victim is None:
            return False
        if disturbance.action.kind is not Kind.KILL and self._grip.holds(victim.process):
            return False  # only one hand at a time; but what is stopped may be killed
        wall = time.time()
        held = perform(disturbance, victim, scene)
        if held is None:
            return False
        harm = harm_of(held, wall)
        if harm is not None:
            self.notes.harms.append(harm)
        self._grip.take(held)
        lasts = f" for {disturbance.seconds:.1f} s" if disturbance.seconds else ""
        of = f" of {victim.task}" if victim.task else ""
        self._tell(f"{disturbance.action}{lasts}: {victim.name}{of}, pid {victim.process.pid}")
        if disturbance.action.kind is Kind.KILL and disturbance.action.target is Target.SUPERVISOR:
            self._everything_died(disturbance)
        return True

    def _everything_died(self, disturbance: Disturbance) -> None:
        """Half of the time the next ``up`` comes at once, and sweeps; else it must be clean."""
        self._grip.release()
        self._grip.over()
        self.watch.waiting.clear()
        if disturbance.pick < 0.5 or self.fleet.commands:
            return
        since = time.monotonic()
        left = self._emptied()
        self.notes.clean.append(time.monotonic() - since)
        if left:
            self.watch.say("clean in two seconds", _named(left), time.monotonic())

    def _emptied(self) -> list[Process]:
        """What is left of the fleet after at most :data:`CLEAN_SECONDS`."""
        end = time.monotonic() + CLEAN_SECONDS
        while (left := self.fleet.processes()) and time.monotonic() < end:
            time.sleep(_TURN)
        return list(left.values())

    def _released(self) -> None:
        for held, at in self._grip.over():
            self._expect(held, at)

    def _take_back(self, now: float) -> None:
        for order in [order for order in self._orders if order.until <= now]:
            self._orders.remove(order)
            order.release()

    def _expect(self, held: Held, now: float) -> None:
        """Whoever was disturbed is to be well again."""
        action, name = held.disturbance.action, held.victim.name
        wall = time.time() - (time.monotonic() - now)
        if action.target in _NOT_SHOWN:
            if action.target is Target.SUPERVISOR and action.kind is not Kind.KILL:
                self.watch.expect(Recovery(str(action), "supervisor", now, wall))
                self.watch.frozen(held.disturbance.seconds)
            return
        if held.others:
            for other in held.others:
                gone = Recovery(str(action), other.name, now, wall, other.process.pid)
                self.watch.expect(gone)
            return
        killed = held.victim.process.pid if action.kind is Kind.KILL else 0
        self.watch.expect(Recovery(str(action), name, now, wall, killed))


_NOT_SHOWN = frozenset(
    {Target.SESSION, Target.KEEPER, Target.HELPER, Target.ZYGOTE, Target.SUPERVISOR}
    | {Target.LANDER, Target.CHECK, Target.PUSH, Target.HOOK}
)
"""Who is not in the status by a name of its own."""
_BRIEF = frozenset(
    {Target.HELPER, Target.LANDER, Target.CHECK, Target.PUSH, Target.LANDING, Target.HOOK}
)
"""Who is there for moments only, and is lain in wait for."""
_SUPERVISION = {"agentctl-chat": "chat", "agentctl-coordi": "coordinator", "agentctl-api": "api"}
"""Names of processes, cut to 15 characters as the kernel does, whose growth is watched."""


def _lives(pid: int) -> bool:
    return find(pid) is not None


def _named(left: Collection[Process]) -> str:
    shown = [f"{p.name} {p.pid} ({p.command[:80]})" for p in list(left)[:5]]
    return f"{len(left)} processes are left: {'; '.join(shown)}"

"""People's orders in the middle of a storm: they run ``agentctl`` as people do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm.evidence import commits_announced, hub_of
from swarm.cli.storm.fleet import Fleet, Said
from swarm.cli.storm.hands import Held, Scene, Victim, choose
from swarm.cli.storm.invariants import Harm
from swarm.cli.storm.notes import Notes, Options
from swarm.cli.storm.person import Person, hold_target
from swarm.cli.storm.plan import Disturbance, Way
from swarm.cli.storm.processes import Process
from swarm.cli.storm.stage import Size, write_settings
from swarm.core.model import LIVE_TASK_STATES, Outcome
from swarm.ledger import Ledger

ORDER_SECONDS = 15.0
"""How long after an order about one agent or task an attempt may still end by it."""
_NOBODY = Victim(Process(0, 0, 0, ""), "")


@dataclass(frozen=True, slots=True)
class People:
    """Whoever gives orders; ``heard`` judges what each command said."""

    stage: Stage
    fleet: Fleet
    ledger: Ledger
    options: Options
    notes: Notes
    tell: Callable[[str], None]
    heard: Callable[[Said], object]
    person: Person
    webhook: str
    """Where the fleet tells of what happens."""

    def order(self, disturbance: Disturbance, scene: Scene) -> Held | bool:
        """Give it: what is to be taken back later, else whether there was anything to do."""
        size, pick = self.options.size, disturbance.pick
        match disturbance.action.way:
            case Way.RELOAD:
                other = Size(size.agents, size.max_active + round(2 * pick))
                write_settings(self.stage, other, self.webhook)
                self._run(disturbance, "swarm", "reload")
            case Way.SCALE:
                more = int(pick * 10) % 5 - 2
                number = ("swarm", "scale", str(max(2, size.agents + more)))
                self._run(disturbance, *(number if pick < 0.5 else size.scale(more)))
            case Way.UPGRADE:
                self._run(disturbance, "swarm", "upgrade")
            case Way.PAUSE:
                self._run(disturbance, "swarm", "pause", "--reason", "a storm")
                until = time.monotonic() + disturbance.seconds
                return Held(disturbance, _NOBODY, until, self._resume)
            case Way.CANCEL:
                return self._cancel(disturbance)
            case Way.COMMIT:
                self.tell(f"{disturbance.action}: {self.person.commit()}")
            case Way.CLEAN:
                self._clean(disturbance)
            case Way.HOLD:
                return self._hold(disturbance)
            case Way.RESTART | Way.END_SESSION:
                return self._one_agent(disturbance, scene)
            case _:
                return False
        return True

    def _resume(self) -> None:
        self.fleet.run("swarm", "resume", then=self.heard)

    def _clean(self, disturbance: Disturbance) -> None:
        """All that may go; the logs are read before they do."""
        found = commits_announced(self.stage.places, list(self.notes.pieces))
        for task, ones in found.items():
            self.notes.announced[task] = self.notes.announced.get(task, frozenset()) | ones
        self.notes.cleaned = True
        self._run(disturbance, "clean", "--older-than", "0")

    def _hold(self, disturbance: Disturbance) -> Held | bool:
        hub = hub_of(self.stage.places)
        release = hold_target(hub) if hub is not None else None
        if release is None:
            return False
        self.tell(f"{disturbance.action} for {disturbance.seconds:.1f} s")
        return Held(disturbance, _NOBODY, time.monotonic() + disturbance.seconds, release)

    def _cancel(self, disturbance: Disturbance) -> bool:
        live = self.ledger.tasks(list(LIVE_TASK_STATES))
        if not live:
            return False
        task = live[int(disturbance.pick * len(live)) % len(live)].id
        self.notes.cancelled.add(task)
        self._may_end(disturbance, Outcome.CANCELLED, task=task)
        self._run(disturbance, "task", "cancel", task)
        return True

    def _one_agent(self, disturbance: Disturbance, scene: Scene) -> bool:
        victim = choose(disturbance, scene)
        if victim is None:
            return False
        restart = disturbance.action.way is Way.RESTART
        outcome = Outcome.LOST if restart else Outcome.CANCELLED
        self._may_end(disturbance, outcome, agent=victim.name)
        self._run(disturbance, "agent", str(disturbance.action.way), victim.name)
        return True

    def _may_end(
        self, disturbance: Disturbance, outcome: Outcome, agent: str = "", task: str = ""
    ) -> None:
        now = time.time()
        until = now + ORDER_SECONDS
        harm = Harm(str(disturbance.action), now, until, agent, task, frozenset({outcome}))
        self.notes.harms.append(harm)

    def _run(self, disturbance: Disturbance, *words: str) -> None:
        self.tell(f"{disturbance.action}: agentctl {' '.join(words)}")
        self.fleet.run(*words, then=self.heard)

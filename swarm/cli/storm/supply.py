"""How a storm's tasks come in: submitted, dropped in the inbox, by HTTP, or as plans."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from random import Random

from swarm.cli.control import poke
from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm.deliveries import PlanNote, drop_text, plan_of, plan_text
from swarm.cli.storm.fleet import Fleet, Said
from swarm.cli.storm.guest import Guest
from swarm.cli.storm.notes import Notes, Options
from swarm.cli.storm.work import Piece, Sort, piece
from swarm.core.model import LIVE_TASK_STATES
from swarm.errors import LedgerError
from swarm.ledger import Ledger, NewTask

_PLANS, _DROPS, _CALLS = 0.05, 0.15, 0.2
"""How many of the deliveries are plans, drops, and tasks by HTTP."""


class Supply:
    """Keeps a backlog, so that no agent that may work is ever without."""

    def __init__(
        self,
        stage: Stage,
        fleet: Fleet,
        ledger: Ledger,
        options: Options,
        notes: Notes,
        heard: Callable[[Said], object],
        guest: Guest,
    ) -> None:
        self._stage, self._fleet, self._ledger = stage, fleet, ledger
        self._options, self._notes, self._heard = options, notes, heard
        self._guest = guest
        self._next = 0
        """Number of the next piece."""
        self._applying = False

    @property
    def settled(self) -> bool:
        """Whether everything that was handed over has been taken in."""
        inbox = self._stage.places.inbox
        dropped = [name for name in os.listdir(inbox) if not name.startswith(".")]
        coming = [
            path
            for folder in (inbox / ".taken", self._stage.places.tasks / ".incoming")
            if folder.is_dir()
            for path in folder.iterdir()
        ]
        return not dropped and not coming and all(plan.id for plan in self._notes.plans)

    def supply(self) -> None:
        """Hand over as much as the fleet lacks."""
        size = self._options.size
        try:
            counts = self._ledger.counts()
            backlog = sum(counts[state] for state in LIVE_TASK_STATES)
            while backlog < 3 * size.max_active + 4 and self._more():
                backlog += self._deliver()
        except LedgerError:
            return  # its writer is stopped in the middle of it: later

    def _more(self) -> bool:
        return self._options.tasks is None or self._next < self._options.tasks

    def _deliver(self) -> int:
        """One more task, or plan; how many tasks that were."""
        seed, number = self._options.seed, self._next
        way = Random(f"way {seed} {number}").random()  # noqa: S311 - to be repeated
        if way < _PLANS and self._options.tasks is None:
            planned = plan_of(seed, number)
            self._notes.plans.append(PlanNote(f"plan {number}", planned))
            self._next += len(planned)
            return len(planned)
        one = piece(seed, number)
        if way < _PLANS + _DROPS and one.sort is not Sort.OUTSIDE:
            self._drop(f"drop-{number}.md", one)
        elif _PLANS + _DROPS <= way < _PLANS + _DROPS + _CALLS and self._guest.takes(one):
            self._guest.hand(one)
        else:
            new = NewTask(one.prompt, one.role, lane=one.lane, review=one.review)
            self._notes.pieces[self._ledger.submit(new)] = one
            poke(self._stage.places)
        self._next += 1
        return 1

    def _drop(self, name: str, one: Piece) -> None:
        """As people do: written where it lies, or moved in whole."""
        inbox = self._stage.places.inbox
        inbox.mkdir(mode=0o700, parents=True, exist_ok=True)
        if one.number % 2:
            (inbox / name).write_text(drop_text(one))
        else:
            (inbox / f"{name}.part").write_text(drop_text(one))
            os.replace(inbox / f"{name}.part", inbox / name)
        self._notes.drops[name] = one

    def apply(self) -> None:
        """Apply a plan that is not taken in yet; the same again, however the last try ended."""
        waiting = next((plan for plan in self._notes.plans if not plan.id), None)
        if waiting is None or self._applying:
            return
        self._applying = True
        folder = self._stage.root / "plans"
        folder.mkdir(exist_ok=True)
        path = folder / f"{waiting.name.replace(' ', '-')}.yaml"
        path.write_text(plan_text(waiting.name, waiting.planned))

        def then(said: Said) -> None:
            self._applying = False
            self._heard(said)
            if said.exit_code == 0:
                answer = json.loads(said.text[said.text.index("{") : said.text.rindex("}") + 1])
                waiting.tasks.update((str(t["key"]), t["id"]) for t in answer["tasks"])
                waiting.id = answer["id"]
                for one in waiting.planned:
                    self._notes.pieces[waiting.tasks[one.key]] = one.piece

        self._fleet.run("plan", "apply", str(path), "--once", "--json", then=then)

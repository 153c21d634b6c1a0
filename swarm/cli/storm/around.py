"""Whoever is around a storm's fleet: who brings work, who decides, who takes work from outside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm.caller import Caller
from swarm.cli.storm.evidence import hub_of
from swarm.cli.storm.fleet import Fleet, Said
from swarm.cli.storm.guest import Guest
from swarm.cli.storm.history import tips_now
from swarm.cli.storm.notes import Notes, Options
from swarm.cli.storm.outsider import Outsider
from swarm.cli.storm.person import Person
from swarm.cli.storm.supply import Supply
from swarm.cli.storm.ways import ByCommand, ByHttp
from swarm.core.model import LIVE_TASK_STATES
from swarm.errors import GitError, LedgerError
from swarm.ledger import Ledger

EVERY = 0.25
"""Seconds between two turns."""


class Around:
    """All of them; ``wrong`` hears of a violation, ``heard`` judges what each command said."""

    def __init__(
        self,
        stage: Stage,
        fleet: Fleet,
        ledger: Ledger,
        options: Options,
        notes: Notes,
        wrong: Callable[[str, str], None],
        heard: Callable[[Said], object],
    ) -> None:
        self.person = Person(stage, fleet, ledger, notes, heard)
        self._guest = Guest(stage, notes, wrong)
        self._supply = Supply(stage, fleet, ledger, options, notes, heard, self._guest)
        self._caller = Caller(stage.places)
        ways = (ByCommand(fleet, heard), ByHttp(self._caller, wrong))
        self._outsiders = [Outsider(way, ledger, options.seed, notes, wrong) for way in ways]
        self._stage, self._ledger, self._notes = stage, ledger, notes
        self._next = 0.0

    def turn(self, now: float, *, supply: bool) -> None:
        """Everybody does what is to be done; new tasks only with ``supply``."""
        if now < self._next:
            return
        self._next = now + EVERY
        if supply:
            self._supply.supply()
        with suppress(LedgerError):  # its writer is stopped in the middle of it: later
            self._supply.apply()
            self._guest.turn(now)
            self.person.turn(now)
            for outsider in self._outsiders:
                outsider.turn(now)

    def look(self) -> None:
        """See where the hub's target is, and what is published of it."""
        with suppress(GitError):
            now = tips_now(self._stage, hub_of(self._stage.places))
            for seen, tip in zip((self._notes.tips, self._notes.published), now, strict=True):
                if tip is not None and (not seen or seen[-1] != tip):
                    seen.append(tip)

    def waits(self) -> bool:
        """Whether something has not ended, or what has landed is not published yet."""
        self.look()
        published = self._notes.published
        return (
            not self._supply.settled
            or not (self._guest.idle and self.person.idle)
            or not all(outsider.idle for outsider in self._outsiders)
            or bool(self._ledger.tasks(list(LIVE_TASK_STATES), limit=1))
            or (bool(published) and published[-1:] != self._notes.tips[-1:])
            or self._ledger.next_notice() is not None
        )

    def end(self) -> None:
        """Let go of what is under way."""
        self._guest.end()
        self._caller.end()

"""One clean-up of a home: gather the facts, decide, carry out, and say what was done.

``agentctl clean`` does it, and a child of the supervisor when the disk runs low.  One at a time: it
holds ``clean.lock``, for which a swarm that starts waits before it takes over any workspace.  Who
is an agent is asked again before each workspace, and a task's state before anything of it goes.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from swarm.config.places import Places
from swarm.core import keep
from swarm.core.keep import Branch, Ending, Facts, Folder, Lifetimes, Log, Owner, Place, Plan
from swarm.errors import GitError, SwarmError
from swarm.ledger.owners import Owners
from swarm.sandbox.landlock import LandlockRules
from swarm.sandbox.launch import Confinement
from swarm.spawner import clearing, keeping
from swarm.spawner.janitor import tidy
from swarm.spawner.workspace import Workspace

Agents = Callable[[], frozenset[str] | None]
"""Names of the agents whose workspaces are in use now; ``None``: not to be known."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Saved:
    """Commits that nothing else held, and the reference that holds them now."""

    hub: str
    ref: str
    what: str
    """The branch or the workspace they come from."""


@dataclass(slots=True)
class Report:
    """What a clean-up did, or would do."""

    plan: Plan
    """What was decided; nearly all that goes went."""
    salvage: int = 0
    """References that were saved earlier; none of them ever goes."""
    places: list[Place] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    """These went, each kind by itself."""
    saved: list[Saved] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What could not be removed, one line each."""

    @property
    def freed(self) -> int:
        """Bytes of what went, as measured before."""
        things: list[Place | Log | Folder] = [*self.places, *self.logs, *self.folders]
        return sum(one.size or 0 for one in things)


class Cleaning:
    """One clean-up.

    The workspaces looked at are the home's below ``base``, or those at ``paths``.
    """

    def __init__(
        self,
        places: Places,
        terms: Lifetimes,
        *,
        home_id: str,
        agents: Agents,
        base: str = "",
        paths: Sequence[str] = (),
        progress: Callable[[str], None] = lambda _text: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._places = places
        self._terms = terms
        self._home_id = home_id
        self._agents = agents
        self._base = base
        self._paths = paths
        self._confinement = Confinement(landlock=LandlockRules())
        self._progress = progress
        self._clock = clock
        self._refs: dict[str, dict[str, str]] = {}
        self._problems: list[str] = []

    def preview(self) -> Report:
        """What would be done; nothing is changed."""
        with self._owners() as owners:
            plan = self._decide(owners)
            report = self._report(plan)
            report.places += plan.places.goes
            report.endings += self._endings(plan)
            report.logs += plan.logs.goes
            report.folders += plan.folders.goes
            report.saved += saved_by(report.endings)
            report.problems += self._problems
            return report

    def carry_out(self) -> Report:
        """Do it.  Raises :class:`~swarm.errors.SwarmError` when another clean-up is at it."""
        with one_at_a_time(self._places), self._owners() as owners:
            plan = self._decide(owners)
            report = self._report(plan)
            self._remove_places(report)
            if report.places:  # what their salvage brought home is looked at too
                report.plan = plan = self._again(plan, owners)
            self._end_branches(report, owners)
            known = _by_id(owners)
            for log in plan.logs.goes:
                if log.owner is None or _over(known.get(log.owner.id)):
                    _went(report, report.logs, log, clearing.remove_log(log.path))
            for one in plan.folders.goes:
                if owners is not None and one.owner and _over(owners.one(one.owner.id)):
                    self._progress(f"removing {one.path}")
                    _went(report, report.folders, one, clearing.remove_folder(one.path))
            report.problems += self._problems
            return report

    def _report(self, plan: Plan) -> Report:
        return Report(plan, sum(len(keeping.salvaged(names)) for names in self._refs.values()))

    # -- the facts --------------------------------------------------------------------------------

    @contextmanager
    def _owners(self) -> Iterator[Owners | None]:
        """The ledger, where there is one: without it every task is unknown, and all stays."""
        with ExitStack() as held:
            owners = None
            if self._places.ledger.exists():
                owners = Owners(self._places.ledger)
                held.callback(owners.close)
            yield owners

    def _decide(self, owners: Owners | None) -> Plan:
        by_id, by_branch = owners.all() if owners is not None else ({}, {})
        now = self._clock()
        self._progress("looking at workspaces")
        places = self._look_at_places(now)
        agents = self._agents()  # after looking: who is new by now has no workspace among them
        self._progress("looking at branches, logs and task folders")
        branches = self._look_at_branches(by_branch, by_id)
        logs = keeping.logs(str(self._places.logs), by_id)
        if self._base:  # else it is not known who is an agent, but for the paths that were given
            logs += keeping.agent_logs(str(self._places.logs))
        folders = keeping.folders(str(self._places.tasks), by_id)
        facts = Facts(now, tuple(places), branches, tuple(logs), tuple(folders), agents)
        return keep.sort_out(facts, self._terms)

    def _look_at_places(self, now: float) -> list[Place]:
        if not self._home_id:
            return []
        if self._base:
            skip = self._agents() or ()
            return keeping.places(self._base, self._home_id, now=now, skip=skip)
        return [keeping.place_of(Workspace(path), now=now) for path in self._paths]

    def _look_at_branches(
        self, owners: dict[str, Owner], by_id: dict[str, Owner]
    ) -> tuple[Branch, ...]:
        found: list[Branch] = []
        for hub in keeping.hubs(str(self._places.hub)):
            try:
                self._refs[hub] = keeping.references(hub)
            except GitError as error:
                self._problems.append(f"the branches of {hub} stay: {error}")
                continue
            found += keeping.branches(hub, self._refs[hub], owners, by_id)
        return tuple(found)

    def _endings(self, plan: Plan) -> list[Ending]:
        found: list[Ending] = []
        for hub, names in self._refs.items():
            going = [one for one in plan.branches.goes if one.hub == hub]
            if not going:
                continue
            try:
                loose = keeping.loose_commits(hub, names, going)
            except GitError as error:
                self._problems.append(f"the branches of {hub} stay: {error}")
                continue
            found += keep.endings(going, loose, names)
        return found

    # -- carrying out -----------------------------------------------------------------------------

    def _remove_places(self, report: Report) -> None:
        going = report.plan.places.goes
        for number, one in enumerate(going, 1):
            self._progress(f"removing workspace {number} of {len(going)}: {one.name}")
            agents = self._agents()
            if agents is None or one.name in agents:
                self._problems.append(f"{one.path} stays: a swarm has begun to use it")
                continue
            tidied = tidy(Workspace(one.path), self._home_id, self._confinement)
            report.saved += [Saved("", ref, one.name) for ref in tidied.salvaged]
            problem = "" if tidied.removed else f"{one.path} stays: {tidied.problem}"
            _went(report, report.places, one, problem)

    def _again(self, plan: Plan, owners: Owners | None) -> Plan:
        """The same plan, its branches decided anew."""
        by_id, by_branch = owners.all() if owners is not None else ({}, {})
        branches = self._look_at_branches(by_branch, by_id)
        found = keep.sort_out(Facts(self._clock(), branches=branches), self._terms)
        return Plan(plan.places, found.branches, plan.logs, plan.folders)

    def _end_branches(self, report: Report, owners: Owners | None) -> None:
        endings = self._endings(report.plan)
        for hub, names in self._refs.items():
            mine = [one for one in endings if one.branch.hub == hub]
            known = _by_id(owners) if mine else {}  # one may have been queued again by now
            going = [o for o in mine if o.branch.owner and _over(known.get(o.branch.owner.id))]
            if going:
                self._progress(f"removing {len(going)} branches of {hub}")
                ended, problems = clearing.end_branches(hub, going, names)
                report.endings += ended
                self._problems += problems
        report.saved += saved_by(report.endings)


def _by_id(owners: Owners | None) -> dict[str, Owner]:
    return owners.all()[0] if owners is not None else {}


def _over(owner: Owner | None) -> bool:
    return owner is not None and not owner.unfinished


def _went(report: Report, gone: list[T], one: T, problem: str) -> None:
    if problem:
        report.problems.append(problem)
    else:
        gone.append(one)


def saved_by(endings: Sequence[Ending]) -> list[Saved]:
    """The branches that are moved rather than deleted."""
    return [Saved(one.branch.hub, one.saved, one.branch.name) for one in endings if one.saved]


@contextmanager
def one_at_a_time(places: Places) -> Iterator[None]:
    """Hold ``clean.lock``.  Raises :class:`~swarm.errors.SwarmError` when somebody else does."""
    try:
        fd = os.open(places.clean_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SwarmError(
            f"{places.clean_lock} cannot be opened: {error.strerror}", "make the home writable"
        ) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SwarmError(
                f"another clean-up of {places.home} is at work", "try again when it is done"
            ) from None
        yield
    finally:
        os.close(fd)


def home_id(places: Places) -> str:
    """What marks this home's workspaces; empty for one in which no swarm ever ran."""
    try:
        return Path(places.home_id).read_text(errors="replace").strip()
    except OSError:
        return ""

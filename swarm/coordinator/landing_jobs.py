"""Landings under way: one asyncio task each, and publishing again what could not be published."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from swarm.coordinator.landing_books import LandingBooks
from swarm.coordinator.landing_messages import DoubtAnswered, LandingEnded
from swarm.coordinator.landings import DELAY_CAP, FIRST_DELAY, ToLand
from swarm.errors import SwarmError
from swarm.landing.model import Job, Landed, NotLanded, Verdict
from swarm.spawner.hub import branch_tip, source_tip
from swarm.spawner.refs import read_ref
from swarm.wire.lifeline import RepoWork

_FOR_NOW = (SwarmError, OSError, RuntimeError)
"""What may go better later: a repository that cannot be had, no descriptor, no thread."""
LATER = NotLanded("stopped: its task was moved meanwhile")


class Lands(Protocol):
    """What the coordinator needs of a lander."""

    async def land(self, job: Job) -> Verdict:
        """Land it; raises nothing expected, and may be asked again for the same job."""

    async def publish(
        self, hub: str, source: str | None, target: str, branch: str
    ) -> Landed | NotLanded:
        """Only publish what is on the target."""

    async def close(self) -> None:
        """End whatever is at work."""


class LandingJobs:
    """Performs landings with ``lander`` and puts what came of them into the inbox.

    ``repo`` says where a task's hub is, ``trouble`` shows a line beside the coordinator.
    """

    def __init__(
        self,
        lander: Lands,
        books: LandingBooks,
        logs: Path,
        *,
        repo: Callable[[str | None, str], Awaitable[RepoWork]],
        put: Callable[[LandingEnded | DoubtAnswered], None],
        trouble: Callable[[str, str], None],
    ) -> None:
        self._lander = lander
        self._books = books
        self._logs = logs
        self._repo = repo
        self._put = put
        self._trouble = trouble
        self._flying: dict[ToLand, asyncio.Task[None]] = {}
        self._jobs: dict[ToLand, Job] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._publishing: dict[str, asyncio.Task[None]] = {}
        self._asking: dict[ToLand, asyncio.Task[None]] = {}

    def start(self, what: ToLand) -> None:
        """Land it; ends as :class:`~swarm.coordinator.messages.LandingEnded`."""
        self._flying[what] = asyncio.create_task(self._fly(what))

    def stop(self, what: ToLand) -> None:
        """End it; if its target has moved already, its verdict says so."""
        task = self._flying.pop(what, None)
        if task is None:
            return  # its verdict is on the way
        task.cancel()
        stopping = asyncio.create_task(self._stopped(what, task))
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)

    async def close(self) -> None:
        """End everything; what was under way is taken up again at the next start."""
        tasks = [*self._flying.values(), *self._stopping, *self._publishing.values()]
        tasks += self._asking.values()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._lander.close()

    async def _fly(self, what: ToLand) -> None:
        try:
            verdict = await self._verdict(what)
        except _FOR_NOW as error:
            verdict = NotLanded(str(error))
        self._flying.pop(what, None)
        self._jobs.pop(what, None)
        self._put(LandingEnded(what, verdict))

    async def _verdict(self, what: ToLand) -> Verdict:
        repo = await self._repo(what.hub or None, "")
        job = self._books.job(what, repo, self._logs)
        if job is None:
            return LATER
        self._jobs[what] = job
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        verdict = await self._lander.land(job)
        if isinstance(verdict, Landed):
            self._published(job.hub, job.source, job.target, verdict)
        return verdict

    async def _stopped(self, what: ToLand, task: asyncio.Task[None]) -> None:
        await asyncio.gather(task, return_exceptions=True)
        job = self._jobs.pop(what, None)
        verdict: Verdict = LATER
        if job is not None:
            try:
                landed = await asyncio.to_thread(_landed_as, job.hub, job.target, what)
            except _FOR_NOW as error:
                verdict = NotLanded(str(error))
            else:
                verdict = Landed(landed) if landed else LATER
                if landed:  # it may have been stopped while it was publishing
                    self.catch_up(job.hub, job.source, job.target)
        self._put(LandingEnded(what, verdict))

    # -- asking git -------------------------------------------------------------------------------

    def ask(self, what: ToLand) -> None:
        """Whether a commit has landed that nobody lands any more; ends as ``DoubtAnswered``.

        Asked again while the question is under way it is asked once.
        """
        if what not in self._asking:
            self._asking[what] = asyncio.create_task(self._ask(what))

    async def _ask(self, what: ToLand) -> None:
        delay = FIRST_DELAY
        while True:
            try:
                repo = await self._repo(what.hub or None, "")
                landed = await asyncio.to_thread(_landed_as, repo.hub, repo.target, what)
                break
            except _FOR_NOW as error:
                self._trouble(f"landing of {what.task}", str(error))
            await asyncio.sleep(delay)
            delay = min(delay * 2, DELAY_CAP)
        self._trouble(f"landing of {what.task}", "")
        if landed:
            self.catch_up(repo.hub, repo.source, repo.target)
        self._asking.pop(what, None)
        self._put(DoubtAnswered(what, landed))

    # -- publishing -------------------------------------------------------------------------------

    def catch_up(self, hub: str, source: str | None, target: str) -> None:
        """Publish what has landed and could not be, if anything; looks at files only."""
        branch = self._books.publish(target) if source is not None else ""
        if not branch or hub in self._publishing:
            return
        try:
            here, there = branch_tip(hub, target), source_tip(source, target)
            published = source_tip(source, branch)
        except SwarmError:
            return  # whoever opens the repository says so
        if there is not None and here is not None and here not in (there, published):
            self._again(hub, source, target, 0.0)

    def _published(self, hub: str, source: str | None, target: str, landed: Landed) -> None:
        self._trouble(f"source {hub}", landed.note)
        self._trouble(f"publish {hub}", landed.unpublished)
        if not landed.unpublished:
            if (running := self._publishing.pop(hub, None)) is not None:
                running.cancel()
        elif hub not in self._publishing:
            self._again(hub, source, target, FIRST_DELAY)

    def _again(self, hub: str, source: str | None, target: str, delay: float) -> None:
        self._publishing[hub] = asyncio.create_task(self._publish(hub, source, target, delay))

    async def _publish(self, hub: str, source: str | None, target: str, delay: float) -> None:
        while branch := self._books.publish(target):
            await asyncio.sleep(delay)
            came = await self._lander.publish(hub, source, target, branch)
            why_not = came.reason if isinstance(came, NotLanded) else came.unpublished
            self._trouble(f"publish {hub}", why_not)
            if not why_not:
                break
            delay = min(max(delay * 2, FIRST_DELAY), DELAY_CAP)
        else:
            self._trouble(f"publish {hub}", "")
        self._publishing.pop(hub, None)


def _landed_as(hub: str, target: str, what: ToLand) -> str:
    """The commit of the target that holds it; empty when it has not landed.

    Raises :class:`~swarm.errors.GitError`.
    """
    from swarm.landing.land import landed_ref  # rarely needed, and much comes with it
    from swarm.spawner.merger import is_ancestor

    landed, tip = read_ref(hub, landed_ref(what.task, what.tip)), branch_tip(hub, target)
    held = landed is not None and tip is not None and is_ancestor(hub, landed, tip)
    return landed if held and landed is not None else ""

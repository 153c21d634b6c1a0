"""Landings under way: one asyncio task each, and publishing again what could not be published."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from swarm.coordinator.landing_books import LandingBooks
from swarm.coordinator.landing_messages import LandingEnded
from swarm.coordinator.landings import DELAY_CAP, FIRST_DELAY, ToLand
from swarm.errors import SwarmError
from swarm.landing.model import Job, Landed, NotLanded, Verdict
from swarm.spawner.hub import branch_tip, source_tip
from swarm.spawner.refs import read_ref
from swarm.wire.lifeline import RepoWork

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
        put: Callable[[LandingEnded], None],
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
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._lander.close()

    async def _fly(self, what: ToLand) -> None:
        try:
            verdict = await self._verdict(what)
        except SwarmError as error:
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
                tip = branch_tip(job.hub, job.target)
                moved = await asyncio.to_thread(_has_landed, job, tip)
            except SwarmError as error:
                verdict = NotLanded(str(error))
            else:
                verdict = Landed(tip) if moved and tip is not None else LATER
                if moved:  # it may have been stopped while it was publishing
                    self.catch_up(job.hub, job.source, job.target)
        self._put(LandingEnded(what, verdict))

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


def _has_landed(job: Job, tip: str | None) -> bool:
    """Whether the target moved before the landing could be stopped.  Raises ``GitError``."""
    from swarm.landing.land import landed_ref  # rarely needed, and much comes with it
    from swarm.spawner.merger import is_ancestor

    landed = read_ref(job.hub, landed_ref(job.task, job.commit))
    return landed is not None and tip is not None and is_ancestor(job.hub, landed, tip)

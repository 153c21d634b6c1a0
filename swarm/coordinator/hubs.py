"""Where a task's commits start: hubs kept ready, so that most assignments run no git at all.

What is known of a hub is checked against the files of its references each time (microseconds);
only a source that has moved, or one whose references cannot be read as files, costs a fetch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import ConfigError, GitError
from swarm.spawner import hub as hubs
from swarm.spawner.author import parse_author, persons_author
from swarm.spawner.git import is_commit_id
from swarm.wire.lifeline import HubReady, RepoWork

FRESH_SECONDS = 30.0
"""How long a fetch of a source that cannot be looked at (an address) is good for."""


@dataclass(frozen=True, slots=True)
class RepoSettings:
    """The ``repo`` section of the configuration, as far as the coordinator needs it."""

    source: str | None = None
    target: str = "main"
    author: str | None = None
    clone: str = "shared"


@dataclass(frozen=True, slots=True)
class _Known:
    hub: hubs.Hub
    seen: str | None
    """The source's tip before it was fetched last."""
    fetched_at: float
    author: tuple[str, str]


class Hubs:
    """The hubs below ``folder``; ``clock`` is monotonic seconds.

    :meth:`at_once` may be called on the event loop; the others run git and belong in a thread,
    one call for each repository at a time.
    """

    def __init__(
        self, folder: Path, settings: RepoSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._known: dict[str | None, _Known] = {}

    def source_of(self, repo: str | None) -> str | None:
        """The source of a task: its own, or the configured one."""
        return repo if repo is not None else self._settings.source

    def target_of(self, repo: str | None) -> str:
        """The branch that work on it is meant for, as far as is known."""
        known = self._known.get(self.source_of(repo))
        return self._settings.target if known is None else known.hub.target

    def at_once(self, repo: str | None, branch: str) -> RepoWork | None:
        """Where work on ``branch`` starts, or ``None`` when git must be asked."""
        source = self.source_of(repo)
        known = self._known.get(source)
        if known is None:
            return None
        hub = known.hub
        try:
            if not self._is_fresh(source, known):
                return None
            base = hubs.branch_tip(hub.path, hub.target)
            tip = hubs.branch_tip(hub.path, branch)
        except GitError:
            return None  # nothing can be opened just now; git says so in its own words
        if base is None:
            return None
        return RepoWork(
            hub=hub.path,
            source=source,
            target=hub.target,
            branch=branch,
            start=tip or base,
            base=base,
            author_name=known.author[0],
            author_email=known.author[1],
            clone=self._settings.clone,
        )

    def with_git(self, repo: str | None, branch: str) -> RepoWork:
        """The same, after making or refreshing the hub.

        Raises :class:`~swarm.errors.GitError`, :class:`~swarm.errors.ConfigError`.
        """
        work = self.at_once(repo, branch)  # another task's fetch may have come first
        if work is not None:
            return work
        self.open(repo)
        work = self.at_once(repo, branch)
        if work is None:
            # The source moved once more while it was fetched: what was fetched is recent enough.
            self._known[self.source_of(repo)] = self._settle(self.source_of(repo))
            work = self.at_once(repo, branch)
        if work is None:
            raise ConfigError(
                [f"repository {self.source_of(repo)}: its hub cannot be read"],
                "run `agentctl doctor`",
            )
        return work

    def open(self, repo: str | None) -> HubReady:
        """Make the hub, or bring it up to date.  Raises as :meth:`with_git`."""
        source = self.source_of(repo)
        known = self._known.get(source)
        wanted = self._settings.target
        seen = hubs.source_tip(source, known.hub.target if known is not None else wanted)
        hub = hubs.ensure_hub(hubs.hub_path(self._folder, source), source, wanted)
        if hub.target != wanted and (known is None or known.hub.target != hub.target):
            seen = hubs.source_tip(source, hub.target)
        author = known.author if known is not None else self._author(source)
        self._known[source] = _Known(hub, seen, self._clock(), author)
        return HubReady(hub=hub.path, source=source, clone=self._settings.clone)

    def note(self, repo: str | None) -> str:
        """What is not as people asked, as the last refresh had it; empty when nothing is."""
        known = self._known.get(self.source_of(repo))
        return "" if known is None else known.hub.note

    def commits(self, repo: str | None, branch: str) -> list[str]:
        """Ids of the commits on ``branch`` beyond the target, oldest first.  Raises ``GitError``.

        Only for a hub that was opened; empty for another.
        """
        known = self._known.get(self.source_of(repo))
        if known is None:
            return []
        return hubs.commits(known.hub.path, known.hub.target, branch)

    def subjects(self, repo: str | None, base: str, tip: str, limit: int) -> list[str]:
        """First lines of the commits after ``base`` up to ``tip``, newest first.

        None where the hub was not opened or does not know them: an old attempt's may be gone.
        """
        known = self._known.get(self.source_of(repo))
        if known is None or not (is_commit_id(base) and is_commit_id(tip)):
            return []
        try:
            return hubs.subjects(known.hub.path, base, tip, limit)
        except GitError:
            return []

    def _settle(self, source: str | None) -> _Known:
        known = self._known[source]
        seen = hubs.source_tip(source, known.hub.target)
        return _Known(known.hub, seen, self._clock(), known.author)

    def _is_fresh(self, source: str | None, known: _Known) -> bool:
        if source is None:
            return True
        if known.seen is not None:
            return hubs.source_tip(source, known.hub.target) == known.seen
        return self._clock() - known.fetched_at < FRESH_SECONDS

    def _author(self, source: str | None) -> tuple[str, str]:
        """``repo.author``, else the person's own git identity; empty where there is none."""
        if self._settings.author is not None:
            return parse_author(self._settings.author)
        local = source is not None and not hubs.is_url(source)
        return persons_author(os.path.expanduser(source) if local and source else None)

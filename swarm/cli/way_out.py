"""How to get a task's work into a repository of one's own (rules, "Fleet commands")."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from swarm.cli.hubs import git, hub_of, hub_with, work_ref
from swarm.cli.screen import one_line
from swarm.cli.settings import settings_or_defaults
from swarm.config.places import Places
from swarm.ledger import Task


def way_out(places: Places, task: Task) -> list[str]:
    """Lines with commands for a shell; none for a task without commits.

    What has landed is told from where it is: the published branch of its repository, else the
    target in the hub.  Anything else is a branch in the hub.
    """
    hub = hub_of(places, task)
    look = f"# or look first: agentctl task diff {task.id}"
    if task.has_landed and task.landed is not None:
        if hub is None:  # its branch was cleaned away
            hub, look = hub_with(places, task.landed), f"# or look first: git show {task.landed}"
        if hub is None:
            return []
        target = _target(hub)
        source, branch = _published(places, task, hub, target)
        if source:
            where = f"{branch} of {one_line(source)}"
            return [
                f"\nit has landed on {where}; to have it on your own branch, there:",
                f"  git merge {shlex.quote(branch)}      {look}",
            ]
        about, name = f"it has landed on {target} in the hub; to get it", target
    elif hub is None or task.branch is None or task.commits == ():
        return []
    else:
        ref = work_ref(hub, task) or ""
        # A clean-up may have saved it under another name.
        about, name = "to get it", task.branch if ref.startswith("refs/heads/") else ref
    return [
        f"\n{about}, in your repository:",
        f"  git fetch {shlex.quote(str(hub))} {shlex.quote(name)}",
        f"  git merge FETCH_HEAD      {look}",
    ]


def _target(hub: Path) -> str:
    """The branch that tasks of this hub land on: its ``HEAD``."""
    named = git(hub, "symbolic-ref", "--short", "HEAD").stdout.decode(errors="replace").strip()
    return named or "main"


def _published(places: Places, task: Task, hub: Path, target: str) -> tuple[str, str]:
    """The hub's own source and the branch there that holds what has landed; empty when none does.

    Only files of the source are read: whatever git would run there is its owner's.
    """
    from swarm.spawner.hub import hub_path, normal_source, source_tip

    settings = settings_or_defaults(places)
    branch = (settings.repo.publish or "").replace("{target}", target)
    if not branch or task.landed is None:
        return "", ""
    for source in _sources(task, settings.repo.source):
        if hub_path(places.hub, source) != hub:
            continue
        tip = source_tip(source, branch)
        if tip is not None and _holds(hub, tip, task.landed):
            return normal_source(source), branch
    return "", ""


def _sources(task: Task, configured: str | None) -> Iterator[str]:
    """What the hub may be of: ``swarm up`` takes the repository it is run in, when none is set."""
    from swarm.spawner.hub import enclosing_repository

    yield from (source for source in (task.repo, configured) if source)
    try:
        found = enclosing_repository(os.getcwd())
    except OSError:  # the directory is gone
        return
    if found is not None:
        yield found


def _holds(hub: Path, tip: str, commit: str) -> bool:
    done = git(hub, "merge-base", "--is-ancestor", "--end-of-options", commit, tip)
    return done.returncode == 0

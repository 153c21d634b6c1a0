"""Finding a task's branch among the hubs of this home, and reading it with git."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from swarm.config.places import Places
from swarm.core.keep import SALVAGE
from swarm.errors import GitError
from swarm.ledger import Task

_OPTIONS = (
    "--no-optional-locks",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.quotePath=true",
)  # fmt: skip
"""What a session may have left in a hub must run nothing here (rules, "Git")."""


def hub_of(places: Places, task: Task) -> Path | None:
    """The bare repository that has the task's branch, saved or not; ``None`` when none has."""
    if task.branch is None or not places.hub.is_dir():
        return None
    for hub in sorted(places.hub.iterdir()):
        if hub.is_dir() and work_ref(hub, task) is not None:
            return hub
    return None


def hub_with(places: Places, commit: str) -> Path | None:
    """The bare repository that has this commit; ``None`` when none has."""
    if not places.hub.is_dir():
        return None
    for hub in sorted(places.hub.iterdir()):
        if hub.is_dir() and git(hub, "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0:
            return hub
    return None


def work_ref(hub: Path, task: Task) -> str | None:
    """The reference that holds a task's branch: itself, or what a clean-up saved it as.

    A second clean-up, after a retry, saved it beside what the first one had saved.
    """
    if task.branch is None:
        return None
    if has_branch(hub, task.branch):
        return f"refs/heads/{task.branch}"
    saved = f"{SALVAGE}{task.branch}"
    places = [f"{saved}.{task.commits[-1][:12]}", saved] if task.commits else [saved]
    for place in places:
        done = git(hub, "rev-parse", "--verify", "--quiet", "--end-of-options", place)
        if done.returncode == 0:
            return place
    return None


def has_branch(hub: Path, branch: str) -> bool:
    """Whether ``hub`` has that branch; false for a directory that is no repository."""
    done = git(hub, "rev-parse", "--verify", "--quiet", "--end-of-options", f"refs/heads/{branch}")
    return done.returncode == 0


def git(hub: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a reading git command on a hub, whatever it says.

    Raises :class:`GitError` when there is no git, or it takes longer than a minute.
    """
    if shutil.which("git") is None:
        raise GitError("git is not on PATH", "install git")
    try:
        return subprocess.run(
            ["git", *_OPTIONS, f"--git-dir={hub}", *arguments],
            input=stdin,
            capture_output=True,
            env={**_environment(), "GIT_TERMINAL_PROMPT": "0"},
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]} took longer than a minute", f"look at {hub}") from None


def _environment() -> dict[str, str]:
    """Ours without what would point git elsewhere (git(1), "Environment Variables")."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

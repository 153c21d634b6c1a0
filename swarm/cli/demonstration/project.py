"""The demo's project, as its owner finds it: what has landed, and that nothing else changed."""

from __future__ import annotations

import os
from pathlib import Path

from swarm.cli.demonstration.stage import Stage, git

PUBLISHED = "swarm/main"
"""The branch that landed work is pushed to (``repo.publish``)."""
_ADDED_TO = (".git/objects/", ".git/refs/heads/swarm/", ".git/logs/refs/heads/swarm/")
"""What publishing a branch adds to; all else is to stay as it is, byte for byte."""


def landed(stage: Stage) -> tuple[str, ...]:
    """What is on the published branch and not on the project's own: ``<commit> <subject>`` each.

    Raises :class:`~swarm.errors.GitError` when there is no such branch.
    """
    log = git(stage, "log", "--format=%h %s", f"main..{PUBLISHED}", "--")
    return tuple(log.decode(errors="replace").splitlines())


def text_of(stage: Stage, path: str) -> str:
    """A file as it is on the published branch.  Raises :class:`~swarm.errors.GitError`."""
    return git(stage, "show", f"{PUBLISHED}:{path}").decode(errors="replace")


def fingerprint(repository: Path) -> dict[str, bytes]:
    """Every file of it, ``.git`` too, but what publishing a branch adds."""
    found: dict[str, bytes] = {}
    for folder, _, names in os.walk(repository):
        for name in names:
            path = Path(folder, name)
            known = str(path.relative_to(repository))
            if not known.startswith(_ADDED_TO):
                found[known] = path.read_bytes()
    return found

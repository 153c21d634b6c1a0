"""Who a commit is by: a scrubbed session has no git identity but the one given here."""

from __future__ import annotations

import os
import re

from swarm.errors import ConfigError
from swarm.spawner.git import SECONDS, persons_git, try_git

_AUTHOR = re.compile(r"\s*(?P<name>[^<>\n]*?)\s*<(?P<email>[^<>\s]+)>\s*\Z")
_UNFIT = re.compile(r"[<>\x00-\x1f\x7f]")
_CRUD = " .,:;\"\\'"
"""What git strips off the ends of a name; it refuses one that is nothing else (git ident.c)."""


def parse_author(text: str) -> tuple[str, str]:
    """``("Ann", "ann@example.org")`` from ``repo.author``.

    Raises :class:`~swarm.errors.ConfigError` for anything else than ``Name <address>``.
    """
    match = _AUTHOR.match(text)
    if match is None or not match["name"]:
        raise ConfigError([f"repo.author: {text[:80]!r} is no author"], "write: Name <address>")
    return match["name"], match["email"]


def persons_author(source: str | None) -> tuple[str, str]:
    """The person's own git identity, as git would use it in ``source``; empty where unset."""
    folder = source if source and os.path.isdir(source) else os.path.expanduser("~")
    if not os.path.isdir(folder):
        folder = "/"
    found = []
    for key in ("user.name", "user.email"):
        ran = try_git(persons_git(folder, "config", "--get", key, timeout=SECONDS))
        found.append(ran.out.decode("utf-8", "replace").strip() if ran.exit == 0 else "")
    return found[0], found[1]


def git_identity(author_name: str, author_email: str, agent: str) -> dict[str, str]:
    """Environment for git: the person is the author, the agent the committer.

    Without a person the agent is both (rules, "Git").
    """
    name = _fit(author_name) or agent
    email = _fit(author_email) or f"{agent}@localhost"
    return {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": agent,
        "GIT_COMMITTER_EMAIL": email,
    }


def _fit(text: str) -> str:
    """What of it git takes as it is; empty when that is nothing."""
    kept = _UNFIT.sub("", text).strip()
    return kept if kept.strip(_CRUD) else ""

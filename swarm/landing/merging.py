"""A task's commit made part of its target: squashed, merged or rebased, without a work tree.

Whatever the mode, the tree that lands is that of the plain merge of both.  A branch that was
rebased may hold merges of the target with conflicts settled in them, which replaying its commits
cannot know: what does not replay lands as one last commit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from swarm.core.model import Merge
from swarm.landing.model import Job
from swarm.spawner.author import git_identity
from swarm.spawner.git import commit_id, git, run_git
from swarm.spawner.merger import Conflict, Merger, Tree, commit, is_ancestor, merge, tree_of

MOST_REPLAYED = 200
"""Commits of a branch that are replayed one by one; the rest lands as one."""
_HEADER = re.compile(rb"(?m)^(?P<key>author|encoding|parent) (?P<value>.*)$")
_AUTHOR = re.compile(
    rb"(?P<name>[^<>\n]+) <(?P<email>[^<>\n]*)> (?P<date>\d{1,12} [+-](?:0\d|1[0-4])[0-5]\d)\Z"
)


@dataclass(frozen=True, slots=True)
class Made:
    """A commit to move the target to."""

    commit: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """The target holds all of it."""


Result: TypeAlias = Made | Nothing | Conflict


@dataclass(frozen=True, slots=True)
class _Original:
    """What a replayed commit keeps of the original."""

    parent: str | None
    message: bytes
    author: Mapping[str, str]


def merge_job(merger: Merger, job: Job, tip: str) -> Result:
    """The job's commit on top of ``tip``.  Raises :class:`~swarm.errors.GitError`."""
    if is_ancestor(merger.path, job.commit, tip):
        return Nothing()
    whole = merge(merger, tip, job.commit)
    if isinstance(whole, Conflict):
        return whole
    if whole.id == tree_of(merger, tip):
        return Nothing()
    identity = git_identity(job.author_name, job.author_email, job.agent or "agentctl swarm")
    if job.merge is Merge.REBASE:
        return Made(_replay(merger, job, tip, whole.id, identity))
    parents = (tip, job.commit) if job.merge is Merge.MERGE else (tip,)
    return Made(commit(merger, whole.id, parents, message_of(job), identity))


def message_of(job: Job) -> bytes:
    """The message of what lands: what it is, and where it comes from."""
    text = job.message.strip() or f"Land {job.task}"
    return f"{text}\n\nTask: {job.task}\nCommit: {job.commit}\n".encode("utf-8", "replace")


def _replay(merger: Merger, job: Job, tip: str, whole: str, identity: Mapping[str, str]) -> str:
    """The branch's own commits on top of ``tip``; the last one has the tree ``whole``."""
    here = tip
    for one in _own_commits(merger, job.commit, tip):
        original = _read(merger, one)
        if original.parent == here:
            here = one  # it stands there already
            continue
        if original.parent is None:
            break
        found = merge(merger, here, one, base=original.parent)
        if not isinstance(found, Tree):
            break
        if found.id != tree_of(merger, here):
            author = {**identity, **original.author}
            here = commit(merger, found.id, (here,), original.message, author)
    if tree_of(merger, here) != whole:
        here = commit(merger, whole, (here,), message_of(job), identity)
    return here


def _own_commits(merger: Merger, tip: str, target: str) -> list[str]:
    words = ("rev-list", "--reverse", "--topo-order", "--no-merges", commit_id(tip),
             f"^{commit_id(target)}")  # fmt: skip
    return run_git(git(merger.path, *words)).decode().split()[:MOST_REPLAYED]


def _read(merger: Merger, one: str) -> _Original:
    """Of a commit that a session wrote: whatever git would not take again is left out."""
    raw = run_git(git(merger.path, "cat-file", "commit", commit_id(one)))
    head, _, message = raw.partition(b"\n\n")
    found = {match["key"]: match["value"] for match in reversed(list(_HEADER.finditer(head)))}
    if encoding := found.get(b"encoding"):
        try:
            message = message.decode(encoding.decode("ascii", "replace")).encode()
        except (LookupError, ValueError):
            message = message.decode("utf-8", "replace").encode()
    parent = found.get(b"parent")
    author = _author(found.get(b"author", b""))
    return _Original(parent.decode() if parent else None, message, author)


def _author(line: bytes) -> dict[str, str]:
    match = _AUTHOR.match(line)
    if match is None:
        return {}
    who = git_identity(match["name"].decode("utf-8", "replace"),
                       match["email"].decode("utf-8", "replace"), "")  # fmt: skip
    if not who["GIT_AUTHOR_NAME"]:
        return {}
    return {
        "GIT_AUTHOR_NAME": who["GIT_AUTHOR_NAME"],
        "GIT_AUTHOR_EMAIL": who["GIT_AUTHOR_EMAIL"],
        "GIT_AUTHOR_DATE": f"@{match['date'].decode()}",  # else only between 1973 and 2100
    }

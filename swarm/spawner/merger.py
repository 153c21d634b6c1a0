"""Merging commits of a hub without a work tree.

In a repository of our own that only borrows the hub's objects: nothing is checked out, so no
filter, hook, link or name in the content is in play, and no driver but those built into git.
What is made lies there until :func:`take_in` moves it into the hub: a merge that came to nothing
leaves nothing.  Needs git 2.38 or later.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from swarm.errors import GitError
from swarm.spawner.folders import write_whole
from swarm.spawner.git import FETCH_SECONDS, Ran, commit_id, git, run_git, try_git

_ATTRIBUTES = ".gitattributes"
_MAX_ATTRIBUTES = 256 * 1024
_TOO_OLD = 129
"""Exit of a git that does not know the option, or has the older kind of ``merge-tree``."""
_CONFLICTS = 1
_UNRELATED = "refusing to merge unrelated histories"


@dataclass(frozen=True, slots=True)
class Merger:
    """A repository of our own that borrows a hub's objects."""

    path: str
    hub: str

    @property
    def objects(self) -> str:
        """Where what is made here lies."""
        return os.path.join(self.path, "objects")


@dataclass(frozen=True, slots=True)
class Tree:
    """A merge without conflicts."""

    id: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Both sides change the same."""

    files: tuple[str, ...]
    """Empty when they have no history in common."""
    said: tuple[str, ...]
    """What git says of each, one line."""


def open_merger(path: str, hub: str) -> Merger:
    """Make one at ``path``, which must not exist.  Raises ``OSError``."""
    for folder in ("objects/info", "refs/heads", "info"):
        os.makedirs(os.path.join(path, folder), mode=0o700)
    config = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
    write_whole(os.path.join(path, "config"), config)
    write_whole(os.path.join(path, "HEAD"), "ref: refs/heads/none\n")
    write_whole(os.path.join(path, "objects", "info", "alternates"), f"{hub}/objects\n")
    return Merger(path, hub)


def merge(merger: Merger, ours: str, theirs: str, base: str | None = None) -> Tree | Conflict:
    """The merge of two commits, from ``base`` where that is not their own.

    The built-in drivers that ``ours`` names in its top ``.gitattributes`` are used (``union``,
    ``binary``).  Raises :class:`~swarm.errors.GitError`.
    """
    _take_attributes(merger, ours)
    if base is not None:
        root = commit(merger, f"{commit_id(base)}^{{tree}}", (), b"base")
        ours = commit(merger, f"{commit_id(ours)}^{{tree}}", (root,), b"ours")
        theirs = commit(merger, f"{commit_id(theirs)}^{{tree}}", (root,), b"theirs")
    words = ("merge-tree", "--write-tree", "-z", "--name-only", "--messages",
             commit_id(ours), commit_id(theirs))  # fmt: skip
    ran = try_git(git(merger.path, *words, timeout=FETCH_SECONDS))
    if ran.exit == 0:
        return Tree(commit_id(ran.out.split(b"\0")[0].decode()))
    if ran.exit == _CONFLICTS:
        return _conflict(ran.out)
    if _UNRELATED in ran.error:
        return Conflict((), ("it has no history in common with the target",))
    if ran.exit == _TOO_OLD:
        raise GitError("this git cannot merge without a work tree", "install git 2.38 or later")
    raise GitError(f"git merge-tree in {merger.hub}: {_last(ran)}")


def commit(
    merger: Merger,
    tree: str,
    parents: Sequence[str],
    message: bytes,
    identity: Mapping[str, str] | None = None,
) -> str:
    """Make a commit; ``tree`` is an id, or a commit's with ``^{tree}``.  Raises ``GitError``."""
    words = ["commit-tree", tree]
    for one in parents:
        words += ["-p", commit_id(one)]
    command = git(merger.path, *words, "-F", "-", stdin=message.replace(b"\0", b"") or b"\n")
    if identity is not None:
        command = replace(command, env={**command.env, **identity})
    return commit_id(run_git(command).decode().strip())


def tree_of(merger: Merger, one: str) -> str:
    """The tree of a commit."""
    words = ("rev-parse", "--verify", "-q", "--end-of-options", f"{commit_id(one)}^{{tree}}")
    return commit_id(run_git(git(merger.path, *words)).decode().split()[-1])


def take_in(merger: Merger, new: str, known: Sequence[str]) -> None:
    """Move what ``new`` needs beyond ``known`` into the hub; nothing refers to it there yet.

    Raises :class:`~swarm.errors.GitError`, ``OSError``.
    """
    words = ("rev-list", "--objects", "--no-object-names", commit_id(new),
             *(f"^{commit_id(one)}" for one in known))  # fmt: skip
    into = os.path.join(merger.hub, "objects")
    for one in run_git(git(merger.path, *words, timeout=FETCH_SECONDS)).decode().split():
        here = os.path.join(merger.objects, one[:2], one[2:])
        there = os.path.join(into, one[:2], one[2:])
        if not os.path.exists(here) or os.path.exists(there):
            continue  # the hub has it already
        os.makedirs(os.path.dirname(there), exist_ok=True)
        os.rename(here, there)


def is_ancestor(repository: str, old: str, new: str) -> bool:
    """Whether ``new`` has ``old`` in its history, or is it."""
    words = ("merge-base", "--is-ancestor", commit_id(old), commit_id(new))
    return old == new or try_git(git(repository, *words)).exit == 0


def _take_attributes(merger: Merger, ours: str) -> None:
    """Let git see the top attributes of ``ours``: of a bare repository it reads no others."""
    path = os.path.join(merger.path, "info", "attributes")
    ran = try_git(git(merger.path, "cat-file", "blob", f"{commit_id(ours)}:{_ATTRIBUTES}"))
    fits = ran.exit == 0 and len(ran.out) <= _MAX_ATTRIBUTES
    with open(path, "wb") as file:
        file.write(ran.out if fits else b"")


def _conflict(out: bytes) -> Conflict:
    """What ``merge-tree -z --name-only --messages`` prints: git-merge-tree(1), "OUTPUT"."""
    first, _, rest = out.partition(b"\0\0")
    names = [name.decode("utf-8", "replace") for name in first.split(b"\0")[1:] if name]
    said = []
    fields = rest.split(b"\0")
    at = 0
    while at + 2 < len(fields) and fields[at].strip().isdigit():
        at += int(fields[at]) + 1  # past the number, and the names it counts
        kind, text, *_ = (*fields[at : at + 2], b"", b"")
        if kind.startswith(b"CONFLICT"):
            said.append(" ".join(text.decode("utf-8", "replace").split()))
        at += 2
    return Conflict(tuple(dict.fromkeys(names)), tuple(said))


def _last(ran: Ran) -> str:
    lines = [line for line in ran.error.strip().splitlines() if line.strip()]
    return (lines or [f"exit {ran.exit}"])[-1][:200]

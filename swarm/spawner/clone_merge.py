"""Merging a moved target into a task's branch, in the clone, before its session starts.

Git runs contained, as what it merges into is a session's (rules, "Git").  A conflict is left in the
work tree for the agent: its files are named to it, and what it leaves of them is never taken for
good work (see :mod:`swarm.spawner.homecoming`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from swarm.errors import GitError, SpawnError, WorkspaceError
from swarm.sandbox.grants import git_rules
from swarm.sandbox.launch import Command, Confinement
from swarm.sandbox.run import Done, run
from swarm.spawner.clone import (
    HANDED,
    borrowed_paths,
    checkout_prelude,
    clone_record,
    ensure_clone,
    ensure_start,
    freshen,
    is_in_use,
    leave_note,
    read_note,
    step_off,
)
from swarm.spawner.git import (
    FETCH_SECONDS,
    OPTIONS,
    commit_id,
    git,
    is_commit_id,
    trusted_environment,
    try_git,
)
from swarm.spawner.refs import read_ref
from swarm.spawner.workspace import Workspace, set_aside
from swarm.wire.lifeline import RepoWork

_CONFLICT = 1
"""Exit status of a ``git merge`` that stopped for the agent to go on."""
MAX_NAMES = 1000
"""Files in conflict that are remembered."""
_LEFTOVER = b": leftover conflict marker"
"""How ``git diff --check`` ends the line about a marker that was committed."""
_SOUND = frozenset({0, 2})
"""Its exit without and with something to tell (git-diff(1))."""
_ONLY_MARKERS = "core.whitespace=-blank-at-eol,-space-before-tab,-blank-at-eof"


class Merged(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of merging the target."""

    start: str
    """Commit the branch has now: the merge, or as before where there is a conflict."""
    conflicts: tuple[str, ...] = ()
    """Files whose conflict is left in the work tree."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What a session was given in conflict: the markers of it are no work of anybody's."""

    sides: tuple[str, ...]
    """The commits that were merged."""
    names: tuple[str, ...]


def handed_over(repo: str, hub: str) -> Handed | None:
    """What the session in this clone of ``hub`` was given in conflict; ``None`` for nothing.

    For who did not hand it over: the daemon after one that was killed, the janitor.  A session may
    have written over it: commits that the hub does not know say nothing.  Raises
    :class:`~swarm.errors.GitError` when it cannot be read now.
    """
    ours, theirs, *names = (*read_note(repo, HANDED), "", "")
    for one in (ours, theirs):
        known = is_commit_id(one) and try_git(git(hub, "cat-file", "-e", f"{one}^{{commit}}"))
        if not known or known.exit != 0:
            return None
    return Handed((ours, theirs), tuple(filter(None, names)))


def merge_target(
    workspace: Workspace,
    repo: RepoWork,
    identity: Mapping[str, str],
    confinement: Confinement,
) -> Merged:
    """The task's branch checked out in the clone, with ``repo.merge`` merged into it.

    What the branch holds already changes nothing.  Blocks while git works, contained.  A clone
    that git cannot use is set aside and made anew, once.  Raises
    :class:`~swarm.errors.SwarmError` when the two cannot be merged at all.
    """
    try:
        return _merge(workspace, repo, identity, confinement)
    except (GitError, WorkspaceError):
        if os.path.lexists(workspace.repo):
            set_aside(workspace)
        ensure_clone(workspace, repo.hub, repo.clone)
        return _merge(workspace, repo, identity, confinement)


def _merge(
    workspace: Workspace, repo: RepoWork, identity: Mapping[str, str], confinement: Confinement
) -> Merged:
    where = workspace.repo
    if is_in_use(workspace):
        raise WorkspaceError(f"{where} holds work that could not be saved")
    freshen(workspace, new_task=True)
    for commit in (repo.start, repo.merge):
        ensure_start(workspace, repo.hub, repo.clone, commit, confinement)
    step_off(where)
    env = {**trusted_environment(), **identity}
    prelude = checkout_prelude(where, repo.branch, repo.start, env, repo.target, repo.base)
    words = ("-c", "rerere.enabled=false", "merge", "-q", "--no-edit", "--no-verify", "--no-stat",
             "--no-gpg-sign", "--no-autostash", "--allow-unrelated-histories",
             "-m", f"Merge {repo.target} into {repo.branch}", commit_id(repo.merge))  # fmt: skip
    borrowed = borrowed_paths(repo.hub, repo.clone)
    inside = contained(workspace, confinement, read=borrowed, write=(where, workspace.tmp))
    done = run(
        Command(("git", *OPTIONS, *words), where, env), inside, prelude, timeout=FETCH_SECONDS
    )
    gitdir = os.path.join(where, ".git")
    tip = read_ref(gitdir, f"refs/heads/{repo.branch}")
    if done.prelude_failed is None and tip is not None:
        if done.exit == 0:
            return Merged(tip)
        if done.exit == _CONFLICT and (names := unmerged(workspace, confinement)):
            _hand_over(where, repo, names)
            return Merged(tip, names)
    raise GitError(f"{repo.target} cannot be merged in {where}: {said(done)}")


def _hand_over(where: str, repo: RepoWork, names: Sequence[str]) -> None:
    try:
        leave_note(where, HANDED, (repo.start, repo.merge, *names))
    except OSError as error:
        raise SpawnError(f"{where}/.git cannot be written: {error.strerror}") from None


def unmerged(workspace: Workspace, confinement: Confinement, repo: str = "") -> tuple[str, ...]:
    """Files of a clone that are in conflict, as its index has them; git runs contained.

    Raises :class:`~swarm.errors.SwarmError` when git cannot say.
    """
    where = repo or workspace.repo
    record = clone_record(workspace, os.path.dirname(where) if repo else "")
    borrowed = borrowed_paths(*record) if record else ()
    listing = Command(("git", *OPTIONS, "ls-files", "-u", "-z"), where, trusted_environment())
    inside = contained(workspace, confinement, read=borrowed, write=(where, workspace.tmp))
    done = run(listing, inside)
    if done.exit != 0:
        raise GitError(f"the index of {where} cannot be read: {said(done)}")
    entries = (entry.partition(b"\t")[2] for entry in done.out.split(b"\0") if entry)
    names = dict.fromkeys(name.decode("utf-8", "replace") for name in entries)
    return tuple(names)[:MAX_NAMES]


def marked(hub: str, handed: Handed, tip: str) -> tuple[str, ...]:
    """Files handed over in conflict to which ``tip`` adds conflict markers that no side had.

    Asked of the hub, which is ours.  Raises :class:`~swarm.errors.GitError` when git cannot say:
    what nobody has looked at is not taken for good work.
    """
    if not handed.names:
        return ()
    found = set(handed.names)
    for side in handed.sides:
        words = ("--literal-pathspecs", "-c", _ONLY_MARKERS, "diff", "--check", "--no-ext-diff",
                 "--no-textconv", commit_id(side), commit_id(tip), "--", *handed.names)  # fmt: skip
        ran = try_git(git(hub, *words))
        if ran.exit not in _SOUND:
            why = (ran.error.strip().splitlines() or [f"exit {ran.exit}"])[0]
            raise GitError(f"{tip[:12]} cannot be looked at in {hub}: {why[:200]}")
        lines = ran.out.split(b"\n")
        told = [line.removesuffix(_LEFTOVER) for line in lines if line.endswith(_LEFTOVER)]
        found &= {line.rpartition(b":")[0].decode("utf-8", "replace") for line in told}
    return tuple(name for name in handed.names if name in found)


def contained(
    workspace: Workspace, like: Confinement, read: Sequence[str], write: Sequence[str]
) -> Confinement:
    """A confinement of the same strength for git: its own paths, none of the session's."""
    rules = git_rules(read=read, write=write) if like.landlock is not None else None
    return Confinement(like.containment, rules, like.marker, workspace.tmp, like.user_ns)


def said(done: Done) -> str:
    """The one line of what a command printed that says why."""
    lines = [line.strip() for line in done.error.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:", "!"))]
    return (told or lines or [f"exit {done.exit}"])[0][:300]

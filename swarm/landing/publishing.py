"""Publishing the hub's target to a branch of its source: never forced, never under a checkout.

The only place where anything of ours writes to the source: objects, and one branch with its
reflog.  The person's own configuration and logins are used, as for fetching.  Hooks of the source
run as for anybody's push: they are its owner's policy.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote

from swarm.errors import GitError
from swarm.landing.checks import plain
from swarm.spawner.git import (
    PERSONS_UMASK,
    SECONDS,
    commit_id,
    persons_git,
    run_git,
    safe_ref,
    try_git,
)
from swarm.spawner.hub import branch_tip, is_url, normal_source
from swarm.spawner.moving import clear_stale_lock
from swarm.spawner.refs import find_gitdir, read_ref

PUSH_SECONDS = 300.0
"""Longest push: landings of this hub wait for it."""
_RECEIVE = (
    "git -c receive.denyCurrentBranch=refuse -c receive.denyDeletes=true -c receive.autogc=false"
    " -c gc.auto=0 -c maintenance.auto=false receive-pack"
)
"""At a source on this machine: no work tree is updated, and nothing is collected or repacked."""
_UMASK = re.compile(r"[0-7]{1,4}\Z")
_UNFINISHED = ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")
"""Files of a work tree that name a branch which it comes back to."""
_MAX_NAME = 4096
_BEHIND = ("non-fast-forward", "fetch first", "stale info")


@dataclass(frozen=True, slots=True)
class Published:
    """One of both is empty; both are, when nothing was to be published."""

    branch: str = ""
    why_not: str = ""


def publish(hub: str, source: str | None, target: str, branch: str) -> Published:
    """Make ``branch`` of the source what ``target`` of the hub is.

    Never raises for what the source is like: ``why_not`` says it, with what to do.
    """
    if not branch or source is None:
        return Published()
    try:
        safe_ref(branch)
        tip = branch_tip(hub, target)
        if tip is None:
            return Published(why_not=f"{hub} has no branch {target}")
        folder = local_folder(source)
        if folder is not None:
            gitdir = find_gitdir(folder)
            if gitdir is not None and read_ref(gitdir, f"refs/heads/{branch}") == tip:
                return Published(branch)
            if branch in checked_out(folder):
                return Published(
                    why_not=f"{branch} is checked out in {source}: check out another branch there,"
                    " or set repo.publish to another"
                )
        why_not = _push(hub, folder or source, tip, branch, local=folder is not None)
    except GitError as error:
        return Published(why_not=str(error))
    return Published(why_not=why_not) if why_not else Published(branch)


def local_folder(source: str) -> str | None:
    """The folder of a source on this machine, also of a ``file://`` address; else ``None``."""
    if source.lower().startswith("file://"):
        path = unquote(source[len("file://") :])
        return path if path.startswith("/") and os.path.isdir(path) else None
    return None if is_url(source) else normal_source(source)


def checked_out(folder: str) -> frozenset[str]:
    """Branches that some work tree of the repository has checked out, or comes back to.

    Raises :class:`~swarm.errors.GitError` when it cannot be known.
    """
    out = run_git(persons_git(folder, "worktree", "list", "--porcelain", timeout=SECONDS))
    prefix = "branch refs/heads/"
    lines = out.decode("utf-8", "replace").splitlines()
    found = {line[len(prefix) :] for line in lines if line.startswith(prefix)}
    gitdir = find_gitdir(folder)
    if gitdir is None:
        return frozenset(found)
    trees = os.path.join(gitdir, "worktrees")
    names = os.listdir(trees) if os.path.isdir(trees) else []
    for top in (gitdir, *(os.path.join(trees, name) for name in names)):
        found |= {_first_line(os.path.join(top, name)) for name in _UNFINISHED}
    return frozenset(found - {""})


def _is_cleared(folder: str, branch: str) -> bool:
    """Whether a lock of the branch stood in the way that is gone now.

    A push that was killed, as the machine was, leaves one in the source for ever; the branch is
    ours, so nobody else's git holds it for more than milliseconds.
    """
    gitdir = find_gitdir(folder)
    return gitdir is not None and clear_stale_lock(gitdir, f"refs/heads/{branch}")


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            line = file.read(_MAX_NAME).partition("\n")[0].strip()
    except OSError:
        return ""
    return line.removeprefix("refs/heads/")


def _push(hub: str, where: str, tip: str, branch: str, *, local: bool) -> str:
    """Push; one line when it was refused, else nothing.  Raises ``GitError``."""
    there = (f"--receive-pack={_receive()}",) if local else ()
    words = ("push", "--porcelain", "--no-follow-tags", "--no-signed", "--no-recurse-submodules",
             "--no-verify", *there, "--end-of-options", where,
             f"{commit_id(tip)}:refs/heads/{safe_ref(branch)}")  # fmt: skip
    command = persons_git(hub, *words, timeout=PUSH_SECONDS)
    ran = try_git(command)
    if ran.exit != 0 and local and _is_cleared(where, branch):
        ran = try_git(command)
    if ran.exit == 0:
        return ""
    answer = ran.out.decode("utf-8", "replace")
    refused = next((line for line in answer.splitlines() if line.startswith("!")), "")
    if any(word in refused for word in _BEHIND):
        return (
            f"{branch} of {where} has commits of its own, and is never overwritten: rename or"
            f" remove it there, or merge it into the target of {where}"
        )
    said = [line for line in ran.error.splitlines() if line.startswith(("fatal:", "error:"))]
    why = refused.partition("\t")[2].partition("\t")[2] or (said or ["it was refused"])[0]
    if told := _told(ran.error):
        why = f"{why}: {told}"  # a hook's own words, or which branch stands in the way
    remedy = f"it is tried again; see: git ls-remote {where}"
    if refused or told:
        remedy = "let it in there, or set repo.publish to another branch"
    return " ".join(f"{branch} cannot be pushed to {where}: {why}"[:500].split()) + f"; {remedy}"


def _receive() -> str:
    """Git passes this to a shell: what it writes is readable by whom the person's own would be."""
    mask = os.environ.get(PERSONS_UMASK, "")
    return f"umask {mask} && {_RECEIVE}" if _UMASK.match(mask) else _RECEIVE


def _told(error: str) -> str:
    """The first line that the source's side said, fit to be shown."""
    lines = (line.removeprefix("remote:") for line in error.splitlines() if line[:7] == "remote:")
    return next((shown for line in lines if (shown := plain(line).strip())), "")[:200]

"""What there is of workspaces, branches, logs and task folders: facts for :mod:`swarm.core.keep`.

Only reads.  What a session could write is looked at by name, size and time, and no link in it is
followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from swarm.core.keep import HEADS, LANDED, SALVAGE, TASKS, Branch, Folder, Log, Owner, Place
from swarm.spawner.git import git, is_commit_id, is_safe_ref, run_git
from swarm.spawner.workspace import Workspace, owned_workspaces

LOGS = ("sessions", "checks")
"""Folders of ``logs/`` whose files are about one attempt each, named after its task."""
_KEEPING = (HEADS, SALVAGE, "refs/agentctl/replaced/", "refs/tags/")
"""What keeps a commit for good.  What a fetch moves by force does not, nor what a landing makes for
a moment."""
_LOOK = ("", ".agentctl", "repo", "repo/.git", "out")
"""Where in a workspace something changes whenever it is used."""


def places(base: str, home_id: str, *, now: float, skip: Collection[str] = ()) -> list[Place]:
    """The home's workspaces below ``base``; those of ``skip`` are not measured."""
    return [
        place_of(one, now=now, measured=one.name not in skip)
        for one in owned_workspaces(base, home_id)
    ]


def place_of(workspace: Workspace, *, now: float, measured: bool = True) -> Place:
    """One workspace; with ``measured`` every file in it is looked at."""
    return Place(
        workspace.name,
        workspace.path,
        _used_at(workspace.path, now),
        disk_use(workspace.path) if measured else None,
        _holds(workspace),
    )


def _holds(workspace: Workspace) -> str:
    """A report in it that no coordinator has settled: the file goes with the last of them."""
    try:
        size = os.lstat(workspace.outbox).st_size
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"its outbox cannot be read: {error.strerror}"
    return "a report in its outbox waits for the next 'swarm up'" if size else ""


def _used_at(path: str, now: float) -> float:
    """The youngest change near the top of it; a time yet to come is somebody's invention."""
    times = [0.0]
    for name in _LOOK:
        folder = os.path.join(path, name) if name else path
        with suppress(OSError):
            times.append(os.lstat(folder).st_mtime)
            if not stat.S_ISLNK(os.lstat(folder).st_mode):
                with os.scandir(folder) as entries:
                    times += [one.stat(follow_symlinks=False).st_mtime for one in entries]
    return max(at for at in times if at <= now + 1.0)


def disk_use(path: str) -> int:
    """Bytes on the disk below ``path``, itself included, links not followed.

    Several names of one file count once each; what cannot be read counts for nothing.
    """
    total = 0
    waiting = [path]
    with suppress(OSError):
        total += os.lstat(path).st_blocks * 512
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for one in entries:
                with suppress(OSError):
                    total += one.stat(follow_symlinks=False).st_blocks * 512
                    if one.is_dir(follow_symlinks=False):
                        waiting.append(one.path)
    return total


def logs(folder: str, owners: Mapping[str, Owner]) -> list[Log]:
    """The files about attempts below ``logs/``, whose names begin with their task's id."""
    return [
        replace(log, owner=owners.get(task_of(log.path)))
        for kind in LOGS
        for log in _logs_in(os.path.join(folder, kind))
    ]


def agent_logs(folder: str) -> list[Log]:
    """The agents' own logs below ``logs/``, rotated ones too, by the name they begin with."""
    return [
        replace(log, agent=os.path.basename(log.path).partition(".")[0])
        for log in _logs_in(os.path.join(folder, "agents"))
    ]


def _logs_in(folder: str) -> Iterator[Log]:
    for path in _files(folder):
        with suppress(FileNotFoundError):  # it went meanwhile
            info = os.lstat(path)
            yield Log(path, info.st_blocks * 512, info.st_mtime)


def task_of(path: str) -> str:
    """The task whose id the last part of a path begins with: of a log, or of a branch."""
    return os.path.basename(path).partition(".")[0]


def _files(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            listed = [one.path for one in entries if one.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return
    yield from sorted(listed)


def folders(top: str, owners: Mapping[str, Owner]) -> list[Folder]:
    """The tasks' own directories."""
    try:
        with os.scandir(top) as entries:
            listed = sorted(
                one.path
                for one in entries
                if one.is_dir(follow_symlinks=False) and not one.name.startswith(".")
            )
    except FileNotFoundError:
        return []
    return [Folder(path, disk_use(path), owners.get(os.path.basename(path))) for path in listed]


# -- hubs -----------------------------------------------------------------------------------------


def hubs(folder: str) -> list[str]:
    """The home's hubs, those that are whole."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(one.path for one in entries if one.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    return [
        path
        for path in listed
        if ".making-" not in os.path.basename(path) and os.path.isdir(os.path.join(path, "objects"))
    ]


def references(hub: str) -> dict[str, str]:
    """Every reference of a hub with what it names.  Raises :class:`~swarm.errors.GitError`."""
    out = run_git(git(hub, "for-each-ref", "--format=%(objectname) %(refname)"))
    lines = (line.partition(" ") for line in out.decode(errors="surrogateescape").splitlines())
    return {name: value for value, _, name in lines if is_commit_id(value)}


def branches(
    hub: str,
    names: Mapping[str, str],
    owners: Mapping[str, Owner],
    by_id: Mapping[str, Owner] | None = None,
) -> list[Branch]:
    """The tasks' branches among the references of a hub.

    ``owners`` by the name of their branch; ``by_id`` for those that began afresh on another one.
    """
    found = []
    for name, tip in names.items():
        branch = name.removeprefix(HEADS)
        if branch != name and branch.startswith(TASKS) and is_safe_ref(branch):
            owner = owners.get(branch) or (by_id or {}).get(task_of(branch))
            found.append(Branch(hub, branch, tip, owner))
    return found


def salvaged(names: Mapping[str, str]) -> list[str]:
    """What was saved there, now or earlier: nothing of it ever goes."""
    return sorted(name for name in names if name.startswith(SALVAGE))


def loose_commits(hub: str, names: Mapping[str, str], going: Collection[Branch]) -> set[str]:
    """Of the tips of ``going``, and what landed of their tasks: what no reference holds that stays.

    ``names`` are the references there are; what ``going`` name is looked at together, so that two
    branches that go do not vouch for each other.  A commit that is not there is loose.  Raises
    :class:`~swarm.errors.GitError`.
    """
    leaving = {f"{HEADS}{one.name}" for one in going}
    staying = {
        value for name, value in names.items() if name not in leaving and name.startswith(_KEEPING)
    }
    landed = {one.owner.landed for one in going if one.owner and one.owner.landed}
    landed |= {value for name, value in names.items() if name.startswith(LANDED)}
    wanted = {one.tip for one in going} | landed
    there = _commits_there(hub, {one for one in wanted if is_commit_id(one)} | staying)
    asked = [*sorted(wanted & there), *(f"^{one}" for one in sorted(staying & there))]
    loose = wanted - there
    if wanted & there:
        stdin = "".join(f"{one}\n" for one in asked).encode()
        only = run_git(git(hub, "rev-list", "--stdin", stdin=stdin))
        loose |= wanted & set(only.decode().split())
    return loose


def _commits_there(hub: str, ids: Collection[str]) -> set[str]:
    stdin = "".join(f"{one}\n" for one in sorted(ids)).encode()
    out = run_git(git(hub, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=stdin))
    return {line.split()[0] for line in out.decode().splitlines() if line.endswith(" commit")}

"""The janitor: a helper process that salvages workspaces nobody wants any more, then removes them.

Never a commit that is not in the hub, nor uncommitted work, is lost (product, "Stop"): it is
brought to the hub first, seen there, and only then the workspace goes.  Where that fails all of it
stays, and the report says why.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from swarm.errors import GitError, SwarmError, WorkspaceError
from swarm.sandbox.landlock import LandlockRules
from swarm.sandbox.launch import Confinement
from swarm.spawner.author import git_identity
from swarm.spawner.clone import author_in_use, clone_record, freshen, parked_clones
from swarm.spawner.clone_merge import Handed, handed_over
from swarm.spawner.ended import never_home
from swarm.spawner.git import is_commit_id, is_safe_ref
from swarm.spawner.homecoming import commit_leftovers, fetch_ids, with_markers
from swarm.spawner.refs import all_refs, read_beneath, read_ref
from swarm.spawner.workspace import (
    Workspace,
    broken_clones,
    clone_problem,
    gitdir_problem,
    owner,
    remove_workspace,
)
from swarm.wire.lifeline import Hello, Ready, Tidied, encode
from swarm.wire.spawn import JanitorSpec

_MAX_LOG = 1024 * 1024
_MAX_FOLDERS = 1_000_000


@dataclass(frozen=True, slots=True)
class TidyReport:
    """What became of one workspace."""

    removed: bool
    salvaged: tuple[str, ...] = ()
    """References of the hub that hold what would have been lost."""
    problem: str = ""


def main(fd: int, spec: bytes) -> int:
    """Tidy every workspace of the spec, telling of each on the lifeline ``fd``; 0 if all went."""
    order = msgspec.json.decode(spec, type=JanitorSpec)
    confinement = Confinement(landlock=LandlockRules())
    failed = 0
    with socket.socket(fileno=fd) as lifeline:
        lifeline.setblocking(True)
        lifeline.sendall(encode(Hello("janitor", os.getpid())) + encode(Ready()))
        for path in order.workspaces:
            report = tidy(Workspace(path), order.home_id, confinement)
            failed += not report.removed
            told = Tidied(path, report.removed, report.salvaged, report.problem)
            lifeline.sendall(encode(told))
    return 1 if failed else 0


def tidy(workspace: Workspace, home_id: str, confinement: Confinement) -> TidyReport:
    """Salvage, see that it is in the hub, remove.  No session may be running in it."""
    if not os.path.lexists(workspace.path):
        return TidyReport(removed=True)
    salvaged: tuple[str, ...] = ()
    try:
        if not home_id or owner(workspace.path) != home_id:
            if not os.path.lexists(workspace.path):
                return TidyReport(removed=True)  # another was quicker
            raise WorkspaceError(f"{workspace.path} is not this swarm's: it stays")
        with _alone(workspace.path):
            if os.path.lexists(workspace.path):
                salvaged = salvage(workspace, confinement)
                remove_workspace(workspace, home_id)
    except SwarmError as error:
        return TidyReport(False, salvaged, str(error))
    except OSError as error:
        if not os.path.lexists(workspace.path):
            return TidyReport(True, salvaged)  # another was quicker
        what = f"{workspace.path} cannot be removed: {error.strerror}"
        return TidyReport(False, salvaged, what)
    return TidyReport(True, salvaged)


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """One at a time: a stop's janitor and a clean-up may come to the same workspace.

    Who waited finds it gone, or as the other had to leave it.  The lock is on the folder itself,
    so nothing of it stays behind (flock(2)).
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def salvage(workspace: Workspace, confinement: Confinement) -> tuple[str, ...]:
    """Bring everything of value in a workspace into the hub; the references that hold it now.

    Raises :class:`~swarm.errors.SwarmError`, ``OSError`` when something could not be saved.
    """
    saved: list[str] = []
    if os.path.lexists(workspace.repo) and not _is_empty(workspace.repo):
        if problem := clone_problem(workspace):
            raise WorkspaceError(f"{workspace.path} may hold work: {problem}", "look at it")
        saved += _salvage_clone(workspace, "", confinement)
    for folder in parked_clones(workspace):
        saved += _salvage_clone(workspace, os.path.join(folder, "repo"), confinement)
    for aside in broken_clones(workspace):  # often only the disk was full when it was tried
        if gitdir_problem(aside):
            raise WorkspaceError(f"{aside} is a broken clone that may hold work", "look at it")
        saved += _salvage_clone(workspace, aside, confinement)
    return tuple(saved)


def _salvage_clone(workspace: Workspace, repo: str, confinement: Confinement) -> Iterator[str]:
    """One clone, the current one (``repo`` empty) or a parked one."""
    where = repo or workspace.repo
    record = clone_record(workspace, os.path.dirname(repo))
    if record is None or not os.path.isdir(record[0]):
        raise WorkspaceError(f"{where} belongs to no hub that is there", "look at it")
    hub = record[0]
    if inner := _repository_within(where):
        raise WorkspaceError(f"{inner} is a repository of its own within the clone", "look at it")
    freshen(workspace, repo=repo)
    agent = workspace.name
    message = f"Work in progress of {agent}\n\nSaved when its workspace was removed."
    identity = git_identity(*author_in_use(workspace, repo), agent)
    commit_leftovers(workspace, message, identity, confinement, repo)
    handed = handed_over(where, hub)
    found = _commits(os.path.join(where, ".git"))
    unsaved = set(never_home(hub, list(found.values())))
    for name, one in found.items():
        if one in unsaved:
            yield _save(workspace, repo, hub, (name, one), confinement, handed)
            unsaved = set(never_home(hub, sorted(unsaved)))
    if unsaved:
        raise GitError(f"{len(unsaved)} commits of {where} are not in {hub}", "look at it")


def _save(
    workspace: Workspace,
    repo: str,
    hub: str,
    what: tuple[str, str],
    confinement: Confinement,
    handed: Handed | None,
) -> str:
    """Fetch one commit into the hub: onto its own task's branch where it goes on from that.

    ``what``: its name in the clone, and its id.  With the markers of a conflict that was
    ``handed`` over it goes beside the branch.
    """
    (name, one), agent = what, workspace.name
    short = name.removeprefix("refs/")
    spare = f"refs/agentctl/salvage/{agent}/{short.removeprefix('heads/')}"
    places = [spare, f"{spare}.{one[:12]}", f"refs/agentctl/salvage/{agent}/{one}"]
    if name.startswith("refs/heads/swarm/"):
        aside = {places[-1]: one}
        if handed and with_markers(workspace, hub, aside, handed, confinement, repo):
            return places[-1]
        places.insert(0, name)
    said = ""
    for place in places:
        if is_safe_ref(place):
            said = fetch_ids(workspace, hub, {place: one}, confinement, repo)
            if read_ref(hub, place) == one:
                return place
    raise GitError(f"{name} of {workspace.path} cannot be fetched into {hub}: {said}")


def _is_empty(folder: str) -> bool:
    return not os.path.islink(folder) and os.path.isdir(folder) and not os.listdir(folder)


def _commits(gitdir: str) -> dict[str, str]:
    """Every commit the clone names: references, what is checked out, stashes."""
    refs = all_refs(gitdir)
    # Branches first: what a stash stands on is then known by its branch's name.
    order = sorted(refs, key=lambda name: (not name.startswith("refs/heads/"), name))
    found = {name: refs[name] for name in order}
    if (head := read_ref(gitdir, "HEAD")) and head not in found.values():
        found["refs/HEAD-detached"] = head
    log = read_beneath(gitdir, "logs/refs/stash", _MAX_LOG) or b""
    for line in log.decode(errors="replace").splitlines():
        words = line.split(" ", 2)
        if len(words) > 1 and is_commit_id(words[1]) and words[1] not in found.values():
            found[f"refs/stash-{words[1][:12]}"] = words[1]
    return found


def _repository_within(repo: str) -> str:
    """A repository that a session made inside the clone: ``git add`` would save its name only."""
    waiting = [repo]
    seen = 0
    while waiting and seen < _MAX_FOLDERS:
        folder = waiting.pop()
        seen += 1
        try:
            with os.scandir(folder) as entries:
                listed = [(e.name, e.path, e.is_dir(follow_symlinks=False)) for e in entries]
        except OSError:
            continue  # what cannot be read is git's to complain of
        if folder != repo and any(name == ".git" for name, _, _ in listed):
            return folder
        waiting += [
            path for name, path, is_dir in listed if is_dir and (folder, name) != (repo, ".git")
        ]
    return ""

"""Bringing a session's work home: uncommitted files into a commit, commits into the hub.

The commit is made inside the containment.  The fetch reads the session's repository without ever
opening it as one: ids are read from its reference files, and git fetches them from a repository of
our own that only borrows its objects, so that no configuration, hook or redirection of the
session's is in play; and it does so contained, seeing nothing but both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from swarm.errors import GitError, SpawnError, SwarmError
from swarm.sandbox.launch import Command, Confinement
from swarm.sandbox.run import run
from swarm.spawner.clone import (
    UNRESOLVED,
    borrowed_paths,
    clone_record,
    freshen,
    leave_note,
    mark_saved,
    may_hold_leftovers,
    read_note,
    step_off,
)
from swarm.spawner.clone_merge import Handed, contained, handed_over, marked, said, unmerged
from swarm.spawner.folders import remove_tree, write_whole
from swarm.spawner.git import (
    FETCH_SECONDS,
    OPTIONS,
    commit_id,
    git,
    is_safe_ref,
    run_git,
    safe_ref,
    trusted_environment,
)
from swarm.spawner.moving import clear_stale_lock, move
from swarm.spawner.refs import read_ref
from swarm.spawner.workspace import Workspace, clone_problem

_NOTHING_TO_COMMIT = 1
"""Exit status of ``git commit`` in a clean tree; a real failure is 128."""
_EMBEDDED = re.compile("adding embedded git repository: (.{1,100})")
"""What ``git add`` says of a repository within the clone, of which it takes the name only."""


@dataclass(frozen=True, slots=True)
class Homecoming:
    """What of a session's work is in the hub now."""

    commit: str | None = None
    """Tip of the task's branch in the hub; ``None`` when it has none."""
    saved: tuple[str, ...] = ()
    """References below ``refs/agentctl/salvage/`` that hold what did not fit onto the branch."""
    committed: bool = False
    """Whether uncommitted work was made a commit."""
    problem: str = ""
    """One line: what could not be brought home.  It is still in the clone."""
    unresolved: tuple[str, ...] = ()
    """Files in which the session left a conflict, or committed its markers: what it made of them
    is in ``saved``, not on the branch."""


def salvage_ref(agent: str, task: str, fence: int) -> str:
    """Where work goes that is not a continuation of the task's branch."""
    return safe_ref(f"refs/agentctl/salvage/{agent}/{task}.{fence}")


def commit_leftovers(
    workspace: Workspace,
    message: str,
    identity: Mapping[str, str],
    confinement: Confinement,
    repo: str = "",
) -> bool:
    """Commit what the session left uncommitted, ignored files aside; false when there is nothing.

    A clone in which no session has begun holds no work, whatever files it lacks.  Files that are
    still in conflict are no continuation of the branch: then the commit is made beside it, on a
    detached ``HEAD``, and :func:`left_unresolved` knows of it.  Runs contained, as git in that
    tree runs what its configuration says.  Raises :class:`~swarm.errors.GitError` when git cannot;
    the files stay where they are.
    """
    if not may_hold_leftovers(workspace, repo):
        return False
    where = repo or workspace.repo
    record = clone_record(workspace, os.path.dirname(where) if repo else "")
    borrowed = borrowed_paths(*record) if record else ()
    env = {**trusted_environment(), **identity}
    # Fails where the index has conflicts, which ``git add`` would take for resolved.
    whole = Command(("git", *OPTIONS, "write-tree"), where, env)
    add = Command(("git", *OPTIONS, "add", "-A"), where, env)
    words = ("commit", "-q", "--no-verify", "--no-gpg-sign", "--cleanup=whitespace", "-m", message)
    commit = Command(("git", *OPTIONS, *words), where, env)
    inside = contained(workspace, confinement, read=borrowed, write=(where, workspace.tmp))
    done = run(commit, inside, prelude=[whole, add], timeout=FETCH_SECONDS)
    if done.prelude_failed == 0:
        with suppress(GitError):  # of an index that cannot be read, the commit says so
            if names := unmerged(workspace, confinement, repo):
                _step_beside(where, names)
        done = run(commit, inside, prelude=[add], timeout=FETCH_SECONDS)
    if done.prelude_failed is None and done.exit in (0, _NOTHING_TO_COMMIT):
        if within := _EMBEDDED.search(done.error):
            raise GitError(f"{within[1]} in {where} is a repository of its own: it is not saved")
        return done.exit == 0
    if done.prelude_failed is not None:  # one file that git cannot take keeps no other back
        some = Command(("git", *OPTIONS, "add", "-A", "--ignore-errors"), where, env)
        run(some, inside, timeout=FETCH_SECONDS)
        run(commit, inside, timeout=FETCH_SECONDS)
    raise GitError(f"the work in {where} cannot be committed: {said(done)}")


def _step_beside(where: str, names: Sequence[str]) -> None:
    """The next commit is made beside the branch, of files in conflict.

    Noted first: a helper that is killed now must not have the next one forget it.
    """
    try:
        leave_note(where, UNRESOLVED, names)
        step_off(where)
    except OSError as error:
        raise SpawnError(f"{where}/.git cannot be written: {error.strerror}") from None


def left_unresolved(repo: str) -> tuple[str, ...]:
    """Files that were in conflict when :func:`commit_leftovers` made its commit beside the branch.

    Empty when it made none such since the clone was last put right for a task.
    """
    return read_note(repo, UNRESOLVED)


def bring_home(
    workspace: Workspace,
    *,
    hub: str,
    branch: str,
    start: str,
    agent: str,
    task: str,
    fence: int,
    identity: Mapping[str, str],
    confinement: Confinement,
    holder: bool = False,
    handed: Handed | None = None,
) -> Homecoming:
    """Everything after a session's tree is empty; blocks while git copies.

    The branch goes to the hub fast-forward only; a session that went on from it elsewhere (another
    branch, detached) has that counted as the branch's; what is no continuation is saved under
    :func:`salvage_ref`, as are files left in conflict, and whatever has conflict markers in files
    that were ``handed`` over in conflict (if nothing is said, those that the clone names): the
    branch stays where it was.  A branch without a commit beyond ``start`` makes none in the hub.
    Never raises for what the session did: ``problem`` says it.

    ``holder``: the attempt held the task to its end.  Then the branch is its own: what an earlier
    attempt's daemon, killed and come back, brought home meanwhile is what is saved aside.
    """
    committed = False
    problem = clone_problem(workspace)
    if problem:
        return Homecoming(read_ref(hub, f"refs/heads/{safe_ref(branch)}"), problem=problem)
    try:
        freshen(workspace)
        message = f"Work in progress of {agent} on {task}\n\nSaved when its session ended."
        committed = commit_leftovers(workspace, message, identity, confinement)
    except SwarmError as error:
        problem = str(error)  # what is committed still comes home
    unresolved: tuple[str, ...] = ()
    try:
        unresolved = left_unresolved(workspace.repo)
        commit, saved, with_markers = _fetch_work(
            workspace,
            hub,
            branch,
            start,
            (agent, task, fence),
            confinement,
            holder,
            handed or handed_over(workspace.repo, hub),
            aside=bool(unresolved),
        )
        unresolved = tuple(dict.fromkeys((*unresolved, *with_markers)))
    except (SwarmError, OSError) as error:
        known = read_ref(hub, f"refs/heads/{branch}")
        return Homecoming(known, (), committed, problem or str(error), unresolved)
    if not problem:
        mark_saved(workspace)  # not before: what is only committed, the next checkout may drop
    return Homecoming(commit, saved, committed, problem, unresolved)


def unsaved_commits(hub: str, ids: Sequence[str], held: Sequence[str] = ()) -> list[str]:
    """Those of ``ids`` that no reference of the hub reaches, nor any commit of ``held``.

    Being there is not enough: a refused fetch leaves its objects behind without a reference.
    Of ``held``, what is not there counts for nothing.
    """
    ids = list(dict.fromkeys(ids))
    if not ids:
        return []
    asked = [commit_id(one) for one in dict.fromkeys([*ids, *held])]
    stdin = "".join(f"{one}\n" for one in asked).encode()
    out = run_git(git(hub, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=stdin))
    there = {line.split()[0] for line in out.decode().splitlines() if line.endswith(" commit")}
    loose: set[str] = set()
    if wanted := [one for one in ids if one in there]:
        stops = [f"^{one}" for one in held if one in there]
        stdin = "".join(f"{one}\n" for one in [*wanted, *stops]).encode()
        out = run_git(git(hub, "rev-list", "--stdin", "--not", "--all", stdin=stdin))
        loose = set(out.decode().split())
    return [one for one in ids if one not in there or one in loose]


def fetch_ids(
    workspace: Workspace,
    hub: str,
    wanted: Mapping[str, str],
    confinement: Confinement,
    repo: str = "",
    *,
    force: bool = False,
) -> str:
    """Fetch commits out of the clone into the hub: reference there → id.

    Forward only, unless ``force``.
    Returns what git said when some were refused, else nothing; those that were not refused are
    there.  Raises :class:`~swarm.errors.SwarmError`, ``OSError``.
    """
    where = repo or workspace.repo
    lender = os.path.join(workspace.private, "lender.git")
    specs = _lend(lender, os.path.join(where, ".git", "objects"), hub, wanted)
    words = ("-c", "fetch.fsckObjects=true", "fetch", "-q", "--no-tags", "--no-write-fetch-head",
             "--no-auto-maintenance", "--no-recurse-submodules", "--end-of-options")  # fmt: skip
    argv = ("git", *OPTIONS, *words, lender, *(f"+{one}" if force else one for one in specs))
    command = Command(argv, hub, trusted_environment())
    objects = os.path.join(where, ".git", "objects")
    try:
        paths = (hub, workspace.tmp)
        inside = contained(workspace, confinement, read=(lender, objects), write=paths)
        done = run(command, inside, timeout=FETCH_SECONDS)
        if done.exit != 0 and _is_cleared(hub, wanted):
            done = run(command, inside, timeout=FETCH_SECONDS)
    finally:
        remove_tree(lender)
    return "" if done.exit == 0 else said(done)


def _is_cleared(hub: str, places: Iterable[str]) -> bool:
    """Whether a reference's lock was in the way and is gone: a killed git's stays for ever."""
    return any(clear_stale_lock(hub, place) for place in places)


def _fetch_work(
    workspace: Workspace,
    hub: str,
    branch: str,
    start: str,
    attempt: tuple[str, str, int],
    confinement: Confinement,
    holder: bool,
    handed: Handed | None,
    *,
    aside: bool,
) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    """Branch and ``HEAD`` of the clone into the hub.

    The branch's tip there, what was saved beside it, and the files with conflict markers for which
    that was.  ``aside``: ``HEAD`` holds files in conflict, which go beside it whatever they are.
    """
    gitdir = os.path.join(workspace.repo, ".git")
    ref = f"refs/heads/{safe_ref(branch)}"
    known = read_ref(hub, ref)
    found = [read_ref(gitdir, ref)]
    head = read_ref(gitdir, "HEAD")
    if not aside:
        found.append(head)
    fresh = [one for one in dict.fromkeys(found) if one and one not in (known, start)]
    kept = [head] if aside and head and head not in (*found, known, start) else []
    saved: list[str] = []
    found_in: tuple[str, ...] = ()
    if handed is not None and fresh:
        places: dict[str, str] = {}
        for one in fresh:
            place = _spare(hub, attempt, one)
            places[f"{place}.{one[:12]}" if place in places else place] = one
        found_in = with_markers(workspace, hub, places, handed, confinement)
        if found_in:
            fresh, saved = [], list(places)
    if not (fresh or kept):
        return known, tuple(saved), found_in
    for one in fresh:  # the branch first; then HEAD, if it goes on from there
        fetch_ids(workspace, hub, {ref: one}, confinement)
    moved = known is not None and known != start and read_ref(hub, ref) == known
    if holder and moved and known is not None and fresh:
        # It moved since this attempt began, and not by us: make way for what goes on from there.
        place = _spare(hub, attempt, known)
        move(hub, place, known, None)
        saved.append(place)
        for number, one in enumerate(fresh):
            fetch_ids(workspace, hub, {ref: one}, confinement, force=number == 0)
    tip = read_ref(hub, ref)
    for one in unsaved_commits(hub, [*fresh, *kept]):
        place = _spare(hub, attempt, one)
        why = fetch_ids(workspace, hub, {place: one}, confinement)
        if read_ref(hub, place) != one:
            raise GitError(f"work of {attempt[1]} cannot be fetched into the hub: {why}")
        saved.append(place)
    return tip, tuple(saved), found_in


def with_markers(
    workspace: Workspace,
    hub: str,
    places: Mapping[str, str],
    handed: Handed,
    confinement: Confinement,
    repo: str = "",
) -> tuple[str, ...]:
    """Files in which one of the commits has the markers of the conflict that was ``handed`` over.

    ``places``: reference of the hub → commit of the clone, fetched there first, as it is the hub
    that is asked.  There they stay if markers are found, else the references go again.  Raises
    :class:`~swarm.errors.SwarmError`.
    """
    found: dict[str, None] = {}
    for place, one in places.items():
        why = fetch_ids(workspace, hub, {place: one}, confinement, repo)
        if read_ref(hub, place) != one:
            raise GitError(f"{place} cannot be fetched into {hub}: {why}")
        found |= dict.fromkeys(marked(hub, handed, one))
    if not found:
        lines = [f"delete {safe_ref(place)} {commit_id(one)}" for place, one in places.items()]
        run_git(git(hub, "update-ref", "--stdin", stdin="".join(f"{x}\n" for x in lines).encode()))
    return tuple(found)


def _spare(hub: str, attempt: tuple[str, str, int], one: str) -> str:
    """A reference for work that is not on the branch; an earlier rescue is never overwritten."""
    place = salvage_ref(*attempt)
    return place if read_ref(hub, place) in (None, one) else f"{place}.{one[:12]}"


def _lend(lender: str, objects: str, hub: str, wanted: Mapping[str, str]) -> list[str]:
    """A repository of our own that borrows ``objects`` and names what is wanted."""
    remove_tree(lender)
    heads = os.path.join(lender, "refs", "heads")
    info = os.path.join(lender, "objects", "info")
    for folder in (heads, info):
        os.makedirs(folder, mode=0o700)
    write_whole(os.path.join(lender, "HEAD"), "ref: refs/heads/0\n")
    write_whole(
        os.path.join(lender, "config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
    )
    write_whole(os.path.join(info, "alternates"), f"{objects}\n{os.path.join(hub, 'objects')}\n")
    specs = []
    for number, (place, one) in enumerate(wanted.items()):
        if not place.startswith("refs/") or not is_safe_ref(place):
            raise GitError(f"{place[:80]!r} cannot be a reference")
        write_whole(os.path.join(heads, str(number)), f"{commit_id(one)}\n")
        specs.append(f"refs/heads/{number}:{place}")
    return specs

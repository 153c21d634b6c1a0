"""Bringing a session's work home: uncommitted files into a commit, commits into the hub.

The commit is made inside the containment.  The fetch reads the session's repository without ever
opening it as one: ids are read from its reference files, and git fetches them from a repository of
our own that only borrows its objects, so that no configuration, hook or redirection of the
session's is in play; and it does so contained, seeing nothing but both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarm.errors import GitError, SwarmError
from swarm.sandbox.grants import git_rules
from swarm.sandbox.launch import Command, Confinement
from swarm.sandbox.run import Done, run
from swarm.spawner.clone import (
    borrowed_paths,
    clone_record,
    freshen,
    mark_saved,
    may_hold_leftovers,
)
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

    A clone in which no session has begun holds no work, whatever files it lacks.  Runs contained,
    as git in that tree runs what its configuration says.  Raises
    :class:`~swarm.errors.GitError` when git cannot; the files stay where they are.
    """
    if not may_hold_leftovers(workspace, repo):
        return False
    where = repo or workspace.repo
    record = clone_record(workspace, os.path.dirname(where) if repo else "")
    borrowed = borrowed_paths(*record) if record else ()
    env = {**trusted_environment(), **identity}
    add = Command(("git", *OPTIONS, "add", "-A"), where, env)
    words = ("commit", "-q", "--no-verify", "--no-gpg-sign", "--cleanup=whitespace", "-m", message)
    commit = Command(("git", *OPTIONS, *words), where, env)
    inside = _inside(workspace, confinement, read=borrowed, write=(where, workspace.tmp))
    done = run(commit, inside, prelude=[add], timeout=FETCH_SECONDS)
    if done.prelude_failed is None and done.exit in (0, _NOTHING_TO_COMMIT):
        if within := _EMBEDDED.search(done.error):
            raise GitError(f"{within[1]} in {where} is a repository of its own: it is not saved")
        return done.exit == 0
    if done.prelude_failed is not None:  # one file that git cannot take keeps no other back
        some = Command(("git", *OPTIONS, "add", "-A", "--ignore-errors"), where, env)
        run(some, inside, timeout=FETCH_SECONDS)
        run(commit, inside, timeout=FETCH_SECONDS)
    raise GitError(f"the work in {where} cannot be committed: {_said(done)}")


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
) -> Homecoming:
    """Everything after a session's tree is empty; blocks while git copies.

    The branch goes to the hub fast-forward only; a session that went on from it elsewhere (another
    branch, detached) has that counted as the branch's; what is no continuation is saved under
    :func:`salvage_ref`.  A branch without a commit beyond ``start`` makes none in the hub.  Never
    raises for what the session did: ``problem`` says it.

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
    try:
        commit, saved = _fetch_work(
            workspace, hub, branch, start, (agent, task, fence), confinement, holder
        )
    except (SwarmError, OSError) as error:
        known = read_ref(hub, f"refs/heads/{branch}")
        return Homecoming(known, (), committed, problem or str(error))
    if not problem:
        mark_saved(workspace)  # not before: what is only committed, the next checkout may drop
    return Homecoming(commit, saved, committed, problem)


def unsaved_commits(hub: str, ids: Sequence[str]) -> list[str]:
    """Those of ``ids`` that no reference of the hub reaches.

    Being there is not enough: a refused fetch leaves its objects behind without a reference.
    """
    ids = list(dict.fromkeys(ids))
    if not ids:
        return []
    stdin = "".join(f"{commit_id(one)}\n" for one in ids).encode()
    out = run_git(git(hub, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=stdin))
    there = [line.split()[0] for line in out.decode().splitlines() if line.endswith(" commit")]
    loose: set[str] = set()
    if there:
        stdin = "".join(f"{one}\n" for one in there).encode()
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
        inside = _inside(workspace, confinement, read=(lender, objects), write=(hub, workspace.tmp))
        done = run(command, inside, timeout=FETCH_SECONDS)
    finally:
        remove_tree(lender)
    return "" if done.exit == 0 else _said(done)


def _fetch_work(
    workspace: Workspace,
    hub: str,
    branch: str,
    start: str,
    attempt: tuple[str, str, int],
    confinement: Confinement,
    holder: bool,
) -> tuple[str | None, tuple[str, ...]]:
    """Branch and ``HEAD`` of the clone into the hub; the branch's tip there, what was saved."""
    gitdir = os.path.join(workspace.repo, ".git")
    ref = f"refs/heads/{safe_ref(branch)}"
    known = read_ref(hub, ref)
    found = [read_ref(gitdir, ref), read_ref(gitdir, "HEAD")]
    fresh = [one for one in dict.fromkeys(found) if one and one not in (known, start)]
    if not fresh:
        return known, ()
    for one in fresh:  # the branch first; then HEAD, if it goes on from there
        fetch_ids(workspace, hub, {ref: one}, confinement)
    saved: list[str] = []
    if holder and known is not None and known != start and read_ref(hub, ref) == known:
        # It moved since this attempt began, and not by us: make way for what goes on from there.
        place = _spare(hub, attempt, known)
        run_git(git(hub, "update-ref", place, known))
        saved.append(place)
        for number, one in enumerate(fresh):
            fetch_ids(workspace, hub, {ref: one}, confinement, force=number == 0)
    tip = read_ref(hub, ref)
    for one in unsaved_commits(hub, fresh):
        place = _spare(hub, attempt, one)
        said = fetch_ids(workspace, hub, {place: one}, confinement)
        if read_ref(hub, place) != one:
            raise GitError(f"work of {attempt[1]} cannot be fetched into the hub: {said}")
        saved.append(place)
    return tip, tuple(saved)


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


def _inside(
    workspace: Workspace, like: Confinement, read: Sequence[str], write: Sequence[str]
) -> Confinement:
    """A confinement of the same strength for git: its own paths, none of the session's."""
    rules = git_rules(read=read, write=write) if like.landlock is not None else None
    return Confinement(like.containment, rules, like.marker, workspace.tmp, like.user_ns)


def _said(done: Done) -> str:
    lines = [line.strip() for line in done.error.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:", "!"))]
    return (told or lines or [f"exit {done.exit}"])[0][:300]

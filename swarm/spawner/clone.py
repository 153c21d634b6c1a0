"""The clone in ``repo/``: made once, put right before every task, never trusted.

A session may have written anything into it, its ``.git`` included.  So git that runs in it runs
inside the containment; what is done from outside is done file by file, following no link, reading
no configuration (rules, "Git").

A task for another hub parks the clone in ``.agentctl/parked/`` and takes it out again later.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from swarm.errors import GitError, SpawnError, WorkspaceError
from swarm.sandbox.grants import git_rules
from swarm.sandbox.launch import Command, Confinement
from swarm.sandbox.run import run
from swarm.spawner.folders import remove_tree, write_whole
from swarm.spawner.git import (
    FETCH_SECONDS,
    OPTIONS,
    commit_id,
    git,
    run_git,
    safe_ref,
    trusted_environment,
)
from swarm.spawner.refs import beneath, read_beneath, read_ref, symbolic_head
from swarm.spawner.workspace import (
    CLONE,
    CLONE_CONFIG,
    IN_USE,
    Workspace,
    clone_problem,
    set_aside,
)

MODES = ("shared", "copy")
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors of the disk, which say nothing of the clone."""
_CONFIG = CLONE_CONFIG
"""``.agentctl/clone.config``: ``repo/.git/config`` as it was when the clone was made."""
UNRESOLVED = "AGENTCTL_UNRESOLVED"
"""``.git/AGENTCTL_UNRESOLVED``: ``HEAD`` is a commit beside the branch, made of files that were
still in conflict; their names, with NUL between them."""
HANDED = "AGENTCTL_HANDED"
"""``.git/AGENTCTL_HANDED``: two commits, and the files that their merge gave the session in
conflict; with NUL between them."""
_MAX_NOTE = 1024 * 1024
_UNFINISHED = (
    UNRESOLVED, HANDED,
    "MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "MERGE_RR", "SQUASH_MSG", "CHERRY_PICK_HEAD",
    "REVERT_HEAD", "REBASE_HEAD", "AUTO_MERGE", "BISECT_LOG", "BISECT_START", "BISECT_NAMES",
    "BISECT_TERMS", "BISECT_EXPECTED_REV", "rebase-merge", "rebase-apply", "sequencer",
)  # fmt: skip
"""What a session that was killed amid a merge, rebase or bisection leaves in ``.git``."""
_REDIRECTIONS = ("commondir", "gitdir", "config.worktree", "hooks", "shallow")
"""What would point git elsewhere, or run something."""


def is_warm(workspace: Workspace, hub: str, mode: str = "shared") -> bool:
    """Whether ``repo/`` is a sound clone of ``hub`` already, so that a session starts at once."""
    return (
        clone_record(workspace) == (hub, mode)
        and os.path.isdir(workspace.repo)
        and not clone_problem(workspace)
    )


def ensure_clone(workspace: Workspace, hub: str, mode: str = "shared") -> None:
    """Make ``repo/`` a clone of ``hub``; blocks while git copies.

    ``shared`` borrows the hub's objects, ``copy`` has its own; neither has hard links, so that
    nothing a session writes is anybody else's.  A clone of another hub is parked, a broken one set
    aside.  Raises :class:`~swarm.errors.GitError`, :class:`~swarm.errors.WorkspaceError`.
    """
    if mode not in MODES:
        raise GitError(f"{mode!r} is no kind of clone", "repo.clone is shared or copy")
    if is_warm(workspace, hub, mode):
        return
    try:
        with suppress(OSError):
            os.rmdir(workspace.repo)  # the empty folder of a task without a repository
        if os.path.lexists(workspace.repo):
            if clone_problem(workspace) or clone_record(workspace) is None:
                set_aside(workspace)
            else:
                _park(workspace)
        if not _unpark(workspace, hub, mode):
            _clone(workspace, hub, mode)
    except OSError as error:
        raise WorkspaceError(
            f"no clone can be made in {workspace.path}: {error.strerror}", "make room there"
        ) from None


def clone_record(workspace: Workspace, folder: str = "") -> tuple[str, str] | None:
    """Hub and mode of the clone; ``None`` when none was made.  ``folder``: of a parked one."""
    try:
        with open(os.path.join(folder or workspace.private, CLONE), encoding="utf-8") as file:
            hub, mode = file.read(8192).splitlines()
    except (OSError, ValueError):
        return None
    return (hub, mode) if mode in MODES else None


def mark_in_use(workspace: Workspace, author: tuple[str, str] = ("", "")) -> None:
    """A session's program has started in the clone, for this ``author``.  Raises ``OSError``."""
    write_whole(os.path.join(workspace.private, IN_USE), "\n".join(author))


def author_in_use(workspace: Workspace, repo: str = "") -> tuple[str, str]:
    """Name and address of whose work a clone in use holds; empty where that is not known."""
    folder = os.path.dirname(repo) if repo else workspace.private
    try:
        with open(os.path.join(folder, IN_USE), encoding="utf-8", errors="replace") as file:
            name, _, email = file.read(1000).partition("\n")
    except OSError:
        return "", ""
    return name, email


def leave_note(repo: str, name: str, parts: Sequence[str]) -> None:
    """Note in ``.git``, for who is here after us, what :func:`freshen` forgets at the next task.

    ``name`` is :data:`UNRESOLVED` or :data:`HANDED`.  Raises ``OSError``.
    """
    with beneath(repo, ".git") as top:
        _replace(top, name, "\0".join(parts)[: _MAX_NOTE // 4])


def read_note(repo: str, name: str) -> tuple[str, ...]:
    """What :func:`leave_note` noted; a session may have changed it.  Empty without a note.

    Raises :class:`~swarm.errors.GitError` when there may be one that cannot be read now.
    """
    note = read_beneath(os.path.join(repo, ".git"), name, _MAX_NOTE)
    return tuple(filter(None, (note or b"").decode("utf-8", "replace").split("\0")))


def mark_saved(workspace: Workspace, repo: str = "") -> None:
    """What a session left is in the hub now, or there was nothing."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(os.path.dirname(repo) if repo else workspace.private, IN_USE))


def is_in_use(workspace: Workspace, repo: str = "") -> bool:
    """Whether what a session left in the clone may not be in the hub yet."""
    return os.path.lexists(
        os.path.join(os.path.dirname(repo) if repo else workspace.private, IN_USE)
    )


def may_hold_leftovers(workspace: Workspace, repo: str = "") -> bool:
    """Whether the files of a clone are a session's, not those of a checkout that was cut short.

    Git writes ``HEAD`` last: as long as it is not on a task's branch, and no session is known to
    have begun, files that are missing are files that were never there.
    """
    head = symbolic_head(os.path.join(repo or workspace.repo, ".git")) or ""
    return head.startswith("refs/heads/swarm/") or is_in_use(workspace, repo)


def step_off(repo: str) -> None:
    """Detach ``HEAD`` where it stands, so that a checkout cut short is not taken for work.

    Raises ``OSError``.
    """
    gitdir = os.path.join(repo, ".git")
    commit = read_ref(gitdir, "HEAD") if symbolic_head(gitdir) is not None else None
    if commit is not None:
        with beneath(repo, ".git") as top:
            _replace(top, "HEAD", f"{commit}\n")


def parked_clones(workspace: Workspace) -> list[str]:
    """Folders of parked clones, each with ``repo/`` and its record."""
    folder = os.path.join(workspace.private, "parked")
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder))
    except FileNotFoundError:
        return []


def freshen(workspace: Workspace, new_task: bool = False, repo: str = "") -> None:
    """Put the clone's ``.git`` right after a session, from outside, file by file.

    Its configuration and alternates become what we made them, hooks and redirections go, stale
    locks of killed commands go; with ``new_task`` unfinished merges and rebases too.  Nothing that
    is work is touched.  No session may be running.  Raises
    :class:`~swarm.errors.WorkspaceError` when ``.git`` is not a repository's any more,
    :class:`~swarm.errors.SpawnError` when the disk will not take it.
    """
    repo = repo or workspace.repo
    private = workspace.private if repo == workspace.repo else os.path.dirname(repo)
    record = clone_record(workspace, private)
    gitdir = os.path.join(repo, ".git")
    try:
        with open(os.path.join(private, _CONFIG), encoding="utf-8") as file:
            config = file.read()
        with beneath(repo, ".git") as top:
            for name in _REDIRECTIONS + (_UNFINISHED if new_task else ()):
                _remove(gitdir, top, name)
            _replace(top, "config", config)
        with suppress(FileNotFoundError), beneath(repo, ".git", "info") as info:
            for name in ("attributes", "exclude", "grafts", "sparse-checkout"):
                _remove(os.path.join(gitdir, "info"), info, name)
        _fresh_alternates(repo, record)
        _unlock(repo)
    except OSError as error:
        if error.errno in _DISK:
            raise SpawnError(f"{gitdir} cannot be written: {error.strerror}", "make room") from None
        raise WorkspaceError(
            f"{gitdir} is no repository any more: {error.strerror}", "it will be made anew"
        ) from None


def checkout_prelude(
    repo: str,
    branch: str,
    start: str,
    env: Mapping[str, str],
    target: str = "",
    base: str = "",
    clean: bool = True,
) -> tuple[Command, ...]:
    """Steps inside the containment: ``branch`` checked out at ``start``, the tree clean.

    ``clean`` false leaves the cleaning out: the tree is known to hold nothing untracked.
    ``target`` and ``base`` make ``origin/<target>`` what the task's commits are counted from.
    """
    checkout = (
        "checkout",
        "-q",
        "-f",
        "-B",
        safe_ref(branch),
        "--no-track",
        commit_id(start),
        "--",
    )
    words: list[tuple[str, ...]] = [checkout]
    if clean:
        words.append(("clean", "-q", "-ffdx"))
    if target and base:
        words.append(("update-ref", f"refs/remotes/origin/{safe_ref(target)}", commit_id(base)))
    return tuple(Command(("git", *OPTIONS, *step), repo, env) for step in words)


def rest_steps(repo: str, commit: str, env: Mapping[str, str]) -> tuple[Command, ...]:
    """Steps inside the containment, between two tasks: nothing untracked, ``commit`` checked out.

    ``HEAD`` is detached there, ready for :func:`take_branch`.
    """
    words = (
        ("clean", "-q", "-ffdx"),
        ("checkout", "-q", "-f", "--detach", commit_id(commit), "--"),
    )
    return tuple(Command(("git", *OPTIONS, *step), repo, env) for step in words)


def take_branch(repo: str, branch: str, commit: str) -> bool:
    """Put ``HEAD`` on ``branch``, begun at ``commit``, where :func:`rest_steps` left the clone.

    Done file by file, following no link, without git.  False where that cannot be: git must do it,
    see :func:`checkout_prelude`.
    """
    above, _, name = safe_ref(branch).rpartition("/")
    folders = ["refs", "heads", *above.split("/")] if above else ["refs", "heads"]
    gitdir = os.path.join(repo, ".git")
    if symbolic_head(gitdir) is not None or read_ref(gitdir, "HEAD") != commit_id(commit):
        return False
    try:
        for depth in range(1, len(folders) + 1):
            with suppress(FileExistsError), beneath(repo, ".git", *folders[: depth - 1]) as upper:
                os.mkdir(folders[depth - 1], 0o700, dir_fd=upper)
        with beneath(repo, ".git", *folders) as heads:
            _replace(heads, name, f"{commit}\n")
        with beneath(repo, ".git") as top:
            _replace(top, "HEAD", f"ref: refs/heads/{branch}\n")
    except OSError:
        return False
    return True


def borrowed_paths(hub: str, mode: str) -> tuple[str, ...]:
    """What of the hub a session may read: its objects, never its references."""
    return (os.path.join(hub, "objects"),) if mode == "shared" else ()


def ensure_start(
    workspace: Workspace, hub: str, mode: str, start: str, confinement: Confinement
) -> None:
    """Bring ``start`` into a clone that does not borrow from the hub; contained, it may block.

    Raises :class:`~swarm.errors.GitError` when the hub does not have it.
    """
    if mode == "shared":
        return
    words = ("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
             "--no-auto-maintenance", "--end-of-options", hub, commit_id(start))  # fmt: skip
    rules = git_rules(read=(hub,), write=(workspace.repo, workspace.tmp))
    done = run(
        Command(("git", *OPTIONS, *words), workspace.repo, trusted_environment()),
        Confinement(
            confinement.containment,
            rules if confinement.landlock is not None else None,
            confinement.marker,
            workspace.tmp,
            confinement.user_ns,
        ),
        timeout=FETCH_SECONDS,
    )
    if done.exit != 0:
        raise GitError(f"{start[:12]} cannot be had from {hub}: {done.error.strip()[:300]}")


def _clone(workspace: Workspace, hub: str, mode: str) -> None:
    made = os.path.join(workspace.private, "repo.making")
    remove_tree(made)
    how = "--shared" if mode == "shared" else "--no-hardlinks"
    words = ("clone", "-q", "--no-checkout", "--single-branch", "--no-tags", "--template=", how,
             "--config=gc.auto=0", "--config=maintenance.auto=false", "--", hub, made)  # fmt: skip
    run_git(git(workspace.private, *words, timeout=FETCH_SECONDS))
    with open(os.path.join(made, ".git", "config"), encoding="utf-8") as file:
        write_whole(os.path.join(workspace.private, _CONFIG), file.read())
    write_whole(os.path.join(workspace.private, CLONE), f"{hub}\n{mode}\n")
    os.rename(made, workspace.repo)


def _parking(workspace: Workspace, hub: str, mode: str) -> str:
    digest = hashlib.sha256(f"{mode}\0{hub}".encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return os.path.join(workspace.private, "parked", digest)


def _park(workspace: Workspace) -> None:
    record = clone_record(workspace)
    assert record is not None, "only a clone with a record is parked"
    place = _parking(workspace, *record)
    os.makedirs(place, mode=0o700, exist_ok=True)
    for name in (_CONFIG, CLONE):
        os.replace(os.path.join(workspace.private, name), os.path.join(place, name))
    if is_in_use(workspace):
        os.replace(os.path.join(workspace.private, IN_USE), os.path.join(place, IN_USE))
    os.rename(workspace.repo, os.path.join(place, "repo"))


def _unpark(workspace: Workspace, hub: str, mode: str) -> bool:
    place = _parking(workspace, hub, mode)
    if not os.path.isdir(os.path.join(place, "repo")):
        return False
    os.rename(os.path.join(place, "repo"), workspace.repo)
    for name in (_CONFIG, CLONE):
        os.replace(os.path.join(place, name), os.path.join(workspace.private, name))
    if os.path.lexists(os.path.join(place, IN_USE)):
        os.replace(os.path.join(place, IN_USE), os.path.join(workspace.private, IN_USE))
    os.rmdir(place)
    return True


def _fresh_alternates(repo: str, record: tuple[str, str] | None) -> None:
    with suppress(FileNotFoundError), beneath(repo, ".git", "objects", "info") as info:
        folder = os.path.join(repo, ".git", "objects", "info")
        for name in ("alternates", "http-alternates"):
            _remove(folder, info, name)
        if record is not None and record[1] == "shared":
            _replace(info, "alternates", os.path.join(record[0], "objects") + "\n")


def _unlock(repo: str) -> None:
    """Remove lock files of commands that were killed."""
    waiting: list[tuple[str, ...]] = [(".git",), (".git", "refs")]
    while waiting:
        folder = waiting.pop()
        with suppress(OSError), beneath(repo, *folder) as fd:
            with os.scandir(fd) as entries:
                listed = [(e.name, e.is_dir(follow_symlinks=False)) for e in entries]
            for name, is_dir in listed:
                if is_dir and folder[1:2] == ("refs",) and len(folder) < 12:
                    waiting.append((*folder, name))
                elif not is_dir and name.endswith(".lock"):
                    os.unlink(name, dir_fd=fd)


def _replace(folder: int, name: str, text: str) -> None:
    """Write ``name`` in an open folder, whole, without following anything."""
    part = f"{name}.agentctl"
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(part, flags, 0o600, dir_fd=folder)
    with open(fd, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)


def _remove(path: str, folder: int, name: str) -> None:
    """Remove a file, link or folder ``name`` of an open folder that lies at ``path``."""
    with suppress(FileNotFoundError):
        try:
            os.unlink(name, dir_fd=folder)
        except (IsADirectoryError, PermissionError):
            remove_tree(os.path.join(path, name))

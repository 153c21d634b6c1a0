"""The hub: one bare repository a source, where every task's branch ends up.

References in it:

``refs/heads/<target>``
    the branch tasks start from and land on; follows the source's, forward only
``refs/heads/swarm/<agent>/<task>``
    a task's work
``refs/source/heads/<target>``
    the source's branch as it was last seen
``refs/source/followed/<target>``
    the source's tip that the hub's target came to hold last
``refs/agentctl/…``
    what would otherwise be lost: salvaged work, an earlier target of a rewritten source; and what
    has landed as which commit

Beside them ``agentctl-ended`` names the commits of branches that were cleaned up.

It is never pruned or collected: clones borrow its objects (rules, "Git").  Here the source is only
fetched from; ``swarm.landing`` publishes to it.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import ConfigError, GitError
from swarm.sandbox.programs import find_program
from swarm.spawner.folders import remove_tree
from swarm.spawner.git import (
    Ran,
    commit_id,
    git,
    is_commit_id,
    is_safe_ref,
    persons_git,
    run_git,
    safe_ref,
    try_git,
)
from swarm.spawner.refs import find_gitdir, read_ref

_URL = re.compile(r"[a-z][a-z0-9+.-]*://|[^/:\s]+@[^/:\s]+:|[a-z0-9.-]{2,}:(?!//)", re.IGNORECASE)
_MAX_CONFIG = 64 * 1024
_SCHEMES = ("https://", "http://", "ssh://", "git://", "file://", "git+ssh://")
_RACED = "cannot lock ref"
"""What git says where another process fetches the same, or was killed while it did."""
_MISSING = "couldn't find remote ref"
"""What it says of a source that can be read and has no such branch: of no other failure may the
work go to another branch than the one that was asked for."""
_STRANGERS = re.compile(r"dubious ownership in repository at '([^'\n]+)'")
"""And of one that belongs to somebody else, as it names it."""
_FETCH_TRIES = 5
OWN_HUB = "own.git"
"""Name of the hub of a swarm without a source."""
TASKS = "swarm"
"""Every task's branch lies below it, so that no branch of the hub can have this name."""
_CONFIG = (
    ("gc.auto", "0"),
    ("gc.pruneExpire", "never"),
    ("maintenance.auto", "false"),
    ("core.logAllRefUpdates", "false"),
    ("receive.autogc", "false"),
)


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub that is ready."""

    path: str
    target: str
    """The branch really used: the source's own default where it has no such branch."""
    tip: str
    """Commit id of ``refs/heads/<target>``: where new tasks start."""
    note: str = ""
    """One line for people when something is not as they asked."""


def hub_path(places_hub: Path | str, source: str | None) -> Path:
    """Where the hub of ``source`` lies: ``<hub>/<name>-<hash>.git``; no source: ``own.git``."""
    folder = Path(places_hub)
    if source is None:
        return folder / OWN_HUB
    whole = normal_source(source)
    last = re.sub(r"\.git\Z", "", re.split(r"[/:]", whole.rstrip("/"))[-1])
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-.")[:40] or "repository"
    digest = hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:12]
    return folder / f"{slug}-{digest}.git"


def is_url(source: str) -> bool:
    """Whether ``source`` names a repository on another machine rather than a folder."""
    return not os.path.exists(source) and _URL.match(source) is not None


def normal_source(source: str) -> str:
    """The one spelling of a source: an address as it is, a folder absolute and without links."""
    return source.rstrip("/") if is_url(source) else os.path.realpath(os.path.expanduser(source))


def check_source(source: str | None) -> None:
    """Raise :class:`~swarm.errors.ConfigError` for a source that cannot be fetched from.

    Cheap and early: a folder must be a repository; an address is looked at, not called.
    """
    if find_program("git", os.environ.get("PATH", os.defpath)) is None:
        raise ConfigError(["git is not on PATH"], "install git")
    if source is None:
        return
    if not source.strip() or source.startswith("-") or not source.isprintable():
        raise ConfigError(
            [f"repo.source: {source[:80]!r} is no repository"], "give a folder or URL"
        )
    if is_url(source):
        known = source.lower().startswith(_SCHEMES) or ("://" not in source and "::" not in source)
        if not known:
            raise ConfigError(
                [f"repo.source: {source[:80]!r} has an address git is not let to call"],
                "use https, ssh, git or file, or a folder",
            )
        return
    folder = os.path.expanduser(source)
    if not os.path.isdir(folder):
        raise ConfigError([f"repo.source: there is no folder {source}"], "check the path")
    gitdir = find_gitdir(folder)
    if gitdir is None:
        raise ConfigError(
            [f"repo.source: {source} is no git repository"], f"run: git -C {source} init"
        )
    _check_kind(source, gitdir)


def _check_kind(source: str, gitdir: str) -> None:
    """Refuse what a hub cannot borrow from, before a task waits for it in vain."""
    if os.path.exists(os.path.join(gitdir, "shallow")):
        raise ConfigError(
            [f"repo.source: {source} is a shallow clone, without its history"],
            f"run: git -C {source} fetch --unshallow",
        )
    with suppress(OSError), open(os.path.join(gitdir, "config"), errors="replace") as file:
        if re.search(r"(?im)^\s*objectformat\s*=\s*sha256\s*$", file.read(_MAX_CONFIG)):
            raise ConfigError(
                [f"repo.source: {source} has SHA-256 ids"], "give a repository with SHA-1 ids"
            )


def enclosing_repository(folder: str) -> str | None:
    """The top of the repository that ``folder`` lies in, or ``None``."""
    here = os.path.realpath(folder)
    while True:
        if os.path.exists(os.path.join(here, ".git")) and find_gitdir(here) is not None:
            return here
        above = os.path.dirname(here)
        if above == here:
            return None
        here = above


def source_tip(source: str | None, target: str) -> str | None:
    """The commit of ``target`` in a local source, from its files in microseconds.

    ``None`` for an address, or a repository whose references are not plain files: then only
    :func:`refresh` can tell.
    """
    if source is None or is_url(source):
        return None
    gitdir = find_gitdir(os.path.expanduser(source))
    return read_ref(gitdir, f"refs/heads/{target}") if gitdir and is_safe_ref(target) else None


def ensure_hub(hub: Path | str, source: str | None, target: str) -> Hub:
    """Make the hub when it is not there, and bring its target up to date.

    A swarm's own hub begins with one empty commit.  Raises :class:`~swarm.errors.GitError` when
    the source cannot be fetched, has no commit, or its branch is missing with no default to use;
    :class:`~swarm.errors.ConfigError` as :func:`check_source` does.
    """
    check_source(source)
    path = str(hub)
    safe_ref(target)
    if not os.path.isdir(path):
        _create(path, target)
    if source is not None:
        return refresh(path, source, target)
    tip = branch_tip(path, target)
    if tip is None:
        tree = run_git(git(path, "hash-object", "-t", "tree", "-w", "--stdin")).decode().strip()
        made = run_git(
            git(path, "commit-tree", "-m", "The swarm's own repository", commit_id(tree))
        )
        tip = commit_id(made.decode().strip())
        run_git(git(path, "update-ref", f"refs/heads/{target}", tip))
    _point_head(path, target)
    return Hub(path, target, tip)


def refresh(hub: Path | str, source: str, target: str) -> Hub:
    """Fetch the source's target into the hub and move the hub's forward.

    Where both have moved they are merged, see :func:`~swarm.spawner.diverged.advance`; what cannot
    be is said in the note.  Raises :class:`~swarm.errors.GitError`.
    """
    from swarm.spawner.diverged import advance  # daemons read hubs, and never merge

    path = str(hub)
    safe_ref(target)
    before = read_ref(path, f"refs/source/heads/{target}")
    where = source if is_url(source) else os.path.realpath(os.path.expanduser(source))
    fetched = _fetch(path, where, target)
    note = ""
    if fetched.exit != 0:
        if _MISSING not in fetched.error:
            raise _unfetched(source, fetched)
        if branch_tip(path, target) is not None:
            raise GitError(
                f"{source} has no branch {target} any more",
                "put it back, or name another as repo.target and restart",
            )
        default = _default_branch(path, where, fetched)
        if default == target:
            raise GitError(f"{source} cannot be fetched: {_last(fetched)}", "try: git fetch there")
        if default == TASKS:
            raise GitError(
                f"{source} has no branch {target}, and its {default} leaves no room for the tasks'"
                f" own branches, {TASKS}/<agent>/<task>",
                "name another of its branches as repo.target",
            )
        note = f"{source} has no branch {target}: its {default} is used"
        target = default
        before = read_ref(path, f"refs/source/heads/{target}")
        again = _fetch(path, where, target)
        if again.exit != 0:
            raise GitError(f"{source} cannot be fetched: {_last(again)}", "try: git fetch there")
    seen = read_ref(path, f"refs/source/heads/{target}")
    if seen is None:
        raise GitError(f"{path} does not hold {target} after fetching it", "remove that hub")
    tip, diverged = advance(path, source, target, seen, before)
    _point_head(path, target)
    return Hub(path, target, tip, "; ".join(filter(None, (note, diverged))))


def has_moved(hub: Path | str, source: str, target: str) -> bool:
    """Whether the source's target may be another than the hub saw last; cheap."""
    tip = source_tip(source, target)
    return tip is None or tip != read_ref(str(hub), f"refs/source/heads/{target}")


def branch_tip(hub: Path | str, branch: str) -> str | None:
    """The commit id of a branch in the hub, from its files."""
    return read_ref(str(hub), f"refs/heads/{branch}") if is_safe_ref(branch) else None


def commits(hub: Path | str, base: str, tip: str) -> list[str]:
    """Commit ids on ``tip`` that ``base`` does not have, oldest first; each a branch or an id.

    Raises :class:`~swarm.errors.GitError` when either is unknown.
    """
    words = ("rev-list", "--reverse", "--end-of-options", _name(tip), f"^{_name(base)}", "--")
    return run_git(git(str(hub), *words)).decode().split()


def subjects(hub: Path | str, base: str, tip: str, limit: int) -> list[str]:
    """First lines of the commits from ``base`` to ``tip``, newest first, at most ``limit``.

    Merged-in commits of others are left out.  Raises as :func:`commits`.
    """
    words = ("log", "--first-parent", "--format=%s", f"--max-count={limit}", "--end-of-options",
             _name(tip), f"^{_name(base)}", "--")  # fmt: skip
    return run_git(git(str(hub), *words)).decode("utf-8", "replace").splitlines()


def count_commits(hub: Path | str, base: str, tip: str) -> int:
    """How many :func:`commits` there are."""
    words = ("rev-list", "--count", "--end-of-options", _name(tip), f"^{_name(base)}", "--")
    return int(run_git(git(str(hub), *words)))


def _create(path: str, target: str) -> None:
    made = f"{path}.making-{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        remove_tree(made)
        os.mkdir(made, 0o700)
        run_git(git(made, "init", "-q", "--bare", "--template=", f"--initial-branch={target}"))
        for key, value in _CONFIG:
            run_git(git(made, "config", key, value))
        try:
            os.rename(made, path)
        except OSError:
            if not os.path.isdir(path):
                raise
            remove_tree(made)  # somebody else was quicker
    except OSError as error:
        raise GitError(f"the hub {path} cannot be made: {error.strerror}", "make room") from None


def _fetch(hub: str, source: str, target: str) -> Ran:
    from swarm.spawner.moving import clear_stale_lock  # likewise

    spec = f"+refs/heads/{safe_ref(target)}:refs/source/heads/{target}"
    words = ("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance",
             "--no-recurse-submodules", "--end-of-options", source, spec)  # fmt: skip
    ran = try_git(persons_git(hub, *words))
    for _ in range(_FETCH_TRIES):
        if ran.exit == 0 or _RACED not in ran.error:
            break
        clear_stale_lock(hub, f"refs/source/heads/{target}")
        ran = try_git(persons_git(hub, *words))
    return ran


def _default_branch(hub: str, source: str, fetched: Ran) -> str:
    """The branch the source's HEAD names; its ``fetched`` error when it cannot be asked."""
    ran = try_git(persons_git(hub, "ls-remote", "--symref", "--end-of-options", source, "HEAD"))
    if ran.exit != 0:
        raise GitError(f"{source} cannot be fetched: {_last(fetched)}", "check the address")
    for line in ran.out.decode(errors="replace").splitlines():
        if line.startswith("ref: refs/heads/"):
            branch = line[len("ref: refs/heads/") :].split("\t")[0]
            return safe_ref(branch)
    if ran.out.strip():  # HEAD is a commit, on no branch
        raise GitError(
            f"{source} is on no branch, and has not the one wanted",
            "name one of its branches as repo.target",
        )
    raise GitError(f"{source} has no commits yet", "make a first commit there")


def _point_head(hub: str, target: str) -> None:
    """``HEAD`` names the target, for people who clone the hub and for our own clones."""
    from swarm.spawner.moving import HEAD, clear_stale_lock  # daemons move nothing

    ref = f"refs/heads/{target}"
    try:
        with open(os.path.join(hub, HEAD), encoding="utf-8") as file:
            if file.read().strip() == f"ref: {ref}":
                return
    except OSError:
        pass  # written anew below
    command = git(hub, "symbolic-ref", HEAD, ref)
    if try_git(command).exit != 0:
        clear_stale_lock(hub, HEAD)
        run_git(command)


def _name(text: str) -> str:
    return text if is_commit_id(text) else f"refs/heads/{safe_ref(text)}"


def _unfetched(source: str, fetched: Ran) -> GitError:
    remedy = f"try: git ls-remote {source}"
    if owned := _STRANGERS.search(fetched.error):
        remedy = f"if you trust it, run: git config --global --add safe.directory {owned[1]}"
    return GitError(f"{source} cannot be fetched: {_last(fetched)}", remedy)


def _last(ran: Ran) -> str:
    lines = [line for line in ran.error.strip().splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("fatal:")]
    return (fatal or lines or [f"exit {ran.exit}"])[0][:200]

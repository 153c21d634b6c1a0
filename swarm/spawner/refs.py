"""Reading references straight from a repository's files, in microseconds and without running git.

Also the only safe way to look at a repository that a session could write: no configuration, hook
or filter of it is ever read (rules, "Git").  Symbolic links are never followed, sizes are capped;
what does not look like a reference is no reference.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from swarm.errors import GitError
from swarm.spawner.git import is_commit_id, is_safe_ref

_MAX_PACKED = 64 * 1024 * 1024
_MAX_LOOSE = 4096
_MAX_REFS = 20_000
_MAX_DEPTH = 12
_UNREADABLE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EACCES, errno.EPERM}
)
"""Errors that say nothing of what is there: taken for "no such reference" they would lose work."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def read_ref(gitdir: str, ref: str) -> str | None:
    """The commit id ``ref`` (``refs/heads/…`` or ``HEAD``) stands for; ``None`` for no such one.

    A symbolic reference is followed once.  Raises :class:`~swarm.errors.GitError` when it cannot
    be known, as nothing can be opened at the moment: so does all else here.
    """
    text = _content(gitdir, ref)
    if text is not None and text.startswith("ref: "):
        ref = text[5:].strip()
        text = _content(gitdir, ref) if is_safe_ref(ref) and ref.startswith("refs/") else None
    if text is not None:
        word = text.strip()
        return word if is_commit_id(word) else None
    return _packed(gitdir).get(ref)


def symbolic_head(gitdir: str) -> str | None:
    """The reference ``HEAD`` names, or ``None`` when it is detached or unreadable."""
    text = _content(gitdir, "HEAD")
    if text is None or not text.startswith("ref: "):
        return None
    ref = text[5:].strip()
    return ref if is_safe_ref(ref) and ref.startswith("refs/") else None


def all_refs(gitdir: str) -> dict[str, str]:
    """Every reference below ``refs/`` with its id, at most 20,000."""
    found = {name: value for name, value in _packed(gitdir).items() if is_safe_ref(name)}
    for name in _loose(gitdir):
        if is_safe_ref(name) and (value := read_ref(gitdir, name)):
            found[name] = value
    return dict(list(found.items())[:_MAX_REFS])


def find_gitdir(repository: str) -> str | None:
    """The directory that holds the references of a *trusted* repository, bare or not.

    Follows the ``gitdir:`` file of a linked worktree or submodule to its common directory.
    """
    dot = os.path.join(repository, ".git")
    try:
        if os.path.isdir(dot):
            return dot
        if os.path.isfile(dot):
            with open(dot, encoding="utf-8", errors="replace") as file:
                line = file.read(_MAX_LOOSE).strip()
            if not line.startswith("gitdir: "):
                return None
            gitdir = os.path.join(repository, line[8:])
            common = os.path.join(gitdir, "commondir")
            if os.path.isfile(common):
                with open(common, encoding="utf-8", errors="replace") as file:
                    gitdir = os.path.join(gitdir, file.read(_MAX_LOOSE).strip())
            return os.path.normpath(gitdir)
    except OSError:
        return None
    bare = all(os.path.exists(os.path.join(repository, n)) for n in ("HEAD", "objects", "refs"))
    return repository if bare else None


@contextmanager
def beneath(top: str, *names: str) -> Iterator[int]:
    """A descriptor of the directory ``top/names…``; no component after ``top`` may be a link.

    Raises ``OSError`` when one is not there, is no directory, or is a link.
    """
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            below = os.open(name, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def read_beneath(top: str, path: str, cap: int) -> bytes | None:
    """A regular file at ``top/path`` reached without any link, or ``None``.

    Raises :class:`~swarm.errors.GitError` when there may be one that cannot be read now.
    """
    *folders, name = path.split("/")
    try:
        with beneath(top, *folders) as folder:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        _pass_over(f"{top}/{path}", error)
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        data = file.read(cap + 1)
    return data if len(data) <= cap else None


def _pass_over(path: str, error: OSError) -> None:
    """A link, or nothing there; raises what else it is."""
    if error.errno in _UNREADABLE:
        raise GitError(f"{path} cannot be read: {error.strerror}", "it is tried again") from None


def _content(gitdir: str, ref: str) -> str | None:
    data = read_beneath(gitdir, ref, _MAX_LOOSE)
    return None if data is None else data.decode(errors="replace")


def _packed(gitdir: str) -> dict[str, str]:
    data = read_beneath(gitdir, "packed-refs", _MAX_PACKED)
    found = {}
    for line in (data or b"").decode(errors="replace").splitlines():
        value, _, name = line.partition(" ")
        if is_commit_id(value) and name.startswith("refs/"):
            found[name] = value
    return found


def _loose(gitdir: str) -> list[str]:
    names: list[str] = []
    waiting: list[tuple[str, ...]] = [("refs",)]
    while waiting and len(names) < _MAX_REFS:
        folder = waiting.pop()
        try:
            with beneath(gitdir, *folder) as fd:
                entries = [(e.name, e.is_dir(follow_symlinks=False)) for e in os.scandir(fd)]
        except OSError as error:
            _pass_over("/".join((gitdir, *folder)), error)
            continue
        for name, is_dir in entries:
            if not is_dir:
                names.append("/".join((*folder, name)))
            elif len(folder) < _MAX_DEPTH:
                waiting.append((*folder, name))
    return names

"""Moving a reference of a hub: compare and swap, past locks that killed processes left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from swarm.errors import GitError
from swarm.spawner.git import commit_id, git, safe_ref, try_git
from swarm.spawner.refs import read_ref

STALE_SECONDS = 5.0
"""A lock of one reference that stays the same for so long is nobody's: git holds it for
milliseconds.  Counted while we look, as a clock can jump where a machine slept."""
HEAD = "HEAD"
"""Git locks it too where it moves the branch that it names: the target of a hub."""
_LOOK_SECONDS = 0.05


def move(
    hub: str, ref: str, new: str, old: str | None, verify: Mapping[str, str] | None = None
) -> bool:
    """Set ``ref`` to ``new`` if it is ``old`` and each of ``verify`` is what is said there.

    ``old``: ``""`` is for one that must not exist, ``None`` for any.  False when something else
    stands there, and then nothing has changed.  Raises :class:`~swarm.errors.GitError` when git
    cannot.
    """
    lines = [f"verify {safe_ref(name)} {commit_id(one)}" for name, one in (verify or {}).items()]
    before = "" if old is None else f" {commit_id(old) if old else '0' * 40}"
    lines.append(f"update {safe_ref(ref)} {commit_id(new)}{before}")
    command = git(hub, "update-ref", "--stdin", stdin="".join(f"{x}\n" for x in lines).encode())
    while True:
        ran = try_git(command)
        if ran.exit == 0 or read_ref(hub, ref) == new:
            return True
        wanted = dict(verify or {}) | ({} if old is None else {ref: old})
        if any((read_ref(hub, name) or "") != one for name, one in wanted.items()):
            return False
        if not any(clear_stale_lock(hub, name) for name in (ref, *wanted, HEAD)):
            said = ran.error.strip().splitlines()
            raise GitError(f"{ref} in {hub} cannot be moved: {(said or ['?'])[0][:200]}")


def clear_stale_lock(hub: str, ref: str) -> bool:
    """Wait for the lock of ``ref`` (or :data:`HEAD`) to go; one that nobody holds is removed.

    True when there was one: what was refused is worth another try.
    """
    path = os.path.join(hub, f"{ref if ref == HEAD else safe_ref(ref)}.lock")
    seen = _identity(path)
    if seen is None:
        return False
    end = time.monotonic() + STALE_SECONDS
    while time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
        if _identity(path) != seen:
            return True
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise GitError(f"{path} cannot be removed: {error.strerror}") from None
    return True


def _identity(path: str) -> tuple[int, int, int] | None:
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns, info.st_ctime_ns

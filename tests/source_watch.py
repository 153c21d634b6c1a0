"""A person's repository with everything a careless tool could harm, and a fingerprint of all of it.

Only two things may be new in it: what is published (``refs/heads/swarm/…`` and its reflog), and
objects.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from swarm_support import git, make_repository

PUBLISHED = ("refs/heads/swarm", "logs/refs/heads/swarm", "objects")
"""Below ``.git``: what publishing adds to."""


def make_lived_in(where: Path) -> None:
    """A repository somebody is in the middle of work in."""
    make_repository(where)
    (where / ".gitignore").write_text("*.log\nbuild/\n")
    (where / "run.sh").write_text("#!/bin/sh\necho hi\n")
    (where / "run.sh").chmod(0o755)
    (where / "link").symlink_to("README.md")
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "second")
    git(where, "tag", "-a", "v1", "-m", "one")
    git(where, "branch", "other")
    git(where, "pack-refs", "--all")
    (where / "README.md").write_text("# Project\nstashed\n")
    (where / "stashed.txt").write_text("stashed, untracked\n")
    git(where, "stash", "-q", "-u")
    (where / "README.md").write_text("# Project\nstaged\n")
    git(where, "add", "README.md")
    (where / "README.md").write_text("# Project\nstaged\nand changed since\n")
    (where / "run.sh").chmod(0o700)
    (where / "untracked.txt").write_text("mine\n")
    (where / "notes" / "deep").mkdir(parents=True)
    (where / "notes" / "deep" / "idea.txt").write_text("mine too\n")
    (where / "debug.log").write_text("ignored\n")
    (where / "build").mkdir()
    (where / "build" / "a.o").write_bytes(b"\x00\x01")
    (where / "empty").mkdir()
    git(where, "config", "user.name", "A Person")
    git(where, "config", "core.autocrlf", "false")
    hook = where / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ran-a-hook\n")
    hook.chmod(0o755)


def fingerprint(where: Path) -> dict[str, tuple[object, ...]]:
    """Every name with kind, mode, time and content; of ``.git`` without what may be added.

    What is there of objects is looked at as well: none may be changed, or go.
    """
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(where):
        for name in (*folders, *files):
            path = Path(folder, name)
            known = str(path.relative_to(where))
            info = path.lstat()
            if stat.S_ISDIR(info.st_mode):
                # Publishing adds names to folders of .git: their times are its.
                times = () if known.startswith(".git") else (info.st_mtime_ns,)
                found[known] = (stat.S_IMODE(info.st_mode), *times)
            else:
                what = os.readlink(path) if path.is_symlink() else path.read_bytes()
                found[known] = (info.st_mode, info.st_mtime_ns, what)
    found["."] = (where.lstat().st_mtime_ns,)
    return found


def changes(before: dict[str, tuple[object, ...]], where: Path) -> list[str]:
    """What is not as it was, and what came that may not come."""
    after = fingerprint(where)
    changed = [
        f"changed: {name}" for name in before.keys() & after.keys() if before[name] != after[name]
    ]
    gone = [f"gone: {name}" for name in before.keys() - after.keys()]
    come = [
        f"came: {name}"
        for name in after.keys() - before.keys()
        if not any(f"{name}/".startswith(f".git/{part}/") for part in PUBLISHED)
    ]
    return sorted(changed + gone + come)

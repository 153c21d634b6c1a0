"""What a storm rages over: a temporary home, a repository and a configuration of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swarm.cli.demonstration.stage import Stage, clear, commit_repository, empty_stage
from swarm.cli.storm.hooks import notify_settings, write_program
from swarm.cli.storm.work import FLAW, HASTY, HASTY_MINUTES, SETTLE, SHARED
from swarm.errors import GitError

PREFIX = "agentctl-chaos-"
TARGET, PUBLISHED = "main", "swarm/main"
"""The branch that work lands on, in the hub; the source's that it is published to."""
MAX_REVISIONS = 6
"""More than the storm's unlucky checks send anything back; what is sent back so often is stuck."""
CHECK = "sh check.sh"
_UNLUCKY = "test $(( $(od -An -N1 -tu1 /dev/urandom) % 12 )) -ne 0"
"""A check that fails now and then, whatever is to land."""
_CHECKS = [CHECK, "sleep 0.1", _UNLUCKY]
_CHECK_SH = f"""\
#!/bin/sh
# Nothing flawed, no marks of a merge, no line twice.
if grep -rqxF {FLAW} storm 2>/dev/null; then echo "something is {FLAW}"; exit 1; fi
if grep -qE '^(<<<<<<<|=======|>>>>>>>)' {SHARED}; then echo "marks of a merge"; exit 1; fi
twice=$(sort {SHARED} | uniq -d)
if [ -n "$twice" ]; then echo "twice: $twice"; exit 1; fi
"""
_SETTLE_SH = f"""\
#!/bin/sh
# Keep both sides of whatever a merge has left, and add a line that is not there yet.
sed -E -e '/^(<<<<<<<|>>>>>>>) /d' -e '/^=======$/d' {SHARED} | awk '!seen[$0]++' > {SHARED}.new
grep -qxF "$*" {SHARED}.new || echo "$*" >> {SHARED}.new
mv {SHARED}.new {SHARED}
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How large the fleet is."""

    agents: int
    max_active: int

    @classmethod
    def of(cls, agents: int) -> Size:
        """Half of the agents may be active at once."""
        return cls(agents, max(2, agents // 2))

    @property
    def roles(self) -> dict[str, int]:
        """How many agents each role has: all but two are builders."""
        return {"builder": self.agents - 2, HASTY: 1, "auditor": 1}

    def scale(self, more: int = 0) -> tuple[str, ...]:
        """The command that makes the fleet so large, with ``more`` builders, one at least.

        Role by role: where one number has cost a role its last agent, no number brings it back.
        """
        roles = {**self.roles, "builder": max(1, self.roles["builder"] + more)}
        return "swarm", "scale", *(f"{role}={count}" for role, count in roles.items())


def set_stage(size: Size) -> Stage:
    """Make a stage in the temporary directory.

    Raises :class:`SwarmError` where a directory cannot be made, :class:`GitError` without git.
    """
    stage = empty_stage(PREFIX)
    try:
        (stage.places.roles / "builder.yaml").write_text("runtime: scripted\n")
        (stage.places.roles / f"{HASTY}.yaml").write_text(
            f"runtime: scripted\nlimits: {{max_task_minutes: {HASTY_MINUTES}}}\n"
        )
        (stage.places.roles / "auditor.yaml").write_text("runtime: scripted\n")
        write_settings(stage, size)
        write_program(stage)
        _make_repository(stage)
    except BaseException:
        clear(stage)
        raise
    return stage


def write_settings(stage: Stage, size: Size, webhook: str = "") -> None:
    """(Over)write swarm.yaml: everything quick, nothing given up, JSON being YAML."""
    settings = {
        "version": 1,
        "workspace_base": str(stage.workspaces),
        "agents": [{"role": role, "count": count} for role, count in size.roles.items()],
        "chat": {"listen": "127.0.0.1:0"},
        "limits": {
            "max_active": size.max_active,
            "min_free_memory_mb": 0,
            "min_free_disk_mb": 0,
            "stagger_seconds": 0,
        },
        "health": {"heartbeat_seconds": 1, "sample_seconds": 1},
        "restart": {"base_seconds": 0.1, "cap_seconds": 1, "max_restarts": 0},
        "stop": {"grace_seconds": 1},
        "repo": {
            "source": str(stage.repository),
            "author": "Storm <storm@example.org>",
            "merge": "squash",
            "checks": _CHECKS,
            "max_revisions": MAX_REVISIONS,
        },
        "inbox": {"settle_seconds": 0.2},
        "api": {"listen": "127.0.0.1:0"},
        "notify": notify_settings(stage, webhook),
    }
    part = stage.places.config.with_suffix(".new")
    part.write_text(json.dumps(settings, indent=1))
    os.replace(part, stage.places.config)


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with its kind, mode and content: what must not change.

    Left out is what publishing may write in a repository there: the branch and its reflog, and
    what git has not yet given the name of an object.
    """
    found = {}
    for top, folders, files in os.walk(folder):  # what goes meanwhile is passed over
        folders[:] = [name for name in folders if not name.startswith(_COMING)]
        for name in (*folders, *files):
            path = Path(top, name)
            relative = str(path.relative_to(folder))
            if not name.startswith(_COMING) and not relative.startswith(_PUBLISHING):
                with suppress(FileNotFoundError):
                    found[relative] = _print_of(path)
    return found


def _print_of(path: Path) -> str:
    info = path.lstat()
    content = b""
    if path.is_symlink():
        content = os.fsencode(os.readlink(path))
    elif path.is_file():
        content = path.read_bytes()
    return f"{info.st_mode:o} {hashlib.sha256(content).hexdigest()}"


OBJECTS = ".git/objects/"
"""Where a source may get new files by publishing, but none may change or go."""
_COMING = "tmp_"
"""How the names begin that git gives what is to be an object."""
_PUBLISHING = (".git/refs/heads/swarm", ".git/logs/refs/heads/swarm")


def _make_repository(stage: Stage) -> None:
    """A project, and a person in the middle of something: a stash, and all kinds of changes."""
    where = stage.repository
    (where / "src").mkdir(parents=True)
    (where / "README.md").write_text("# A project in a storm\n")
    (where / "run.sh").write_text("#!/bin/sh\nexit 0\n")
    (where / "run.sh").chmod(0o755)
    (where / "check.sh").write_text(_CHECK_SH)
    (where / SETTLE).write_text(_SETTLE_SH)
    (where / SHARED).write_text("the first line\n")
    commit_repository(stage, "Storm", "A project")
    (where / "README.md").write_text("# Another name for it?\n")
    persons_git(stage, "stash", "push", "-q")
    (where / "src" / "staged.py").write_text("# not committed yet\n")
    persons_git(stage, "add", "src/staged.py")
    (where / "run.sh").write_text("#!/bin/sh\nexit 1\n")
    (where / "notes.txt").write_text("not committed, and nobody's business\n")


def persons_git(stage: Stage, *words: str) -> str:
    """Git as the project's owner runs it in his own checkout; raises :class:`GitError`."""
    who = ("-c", "user.name=Person", "-c", "user.email=person@example.org", "-c",
           "commit.gpgSign=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false")  # fmt: skip
    done = subprocess.run(
        ["git", *who, *words],
        cwd=stage.repository,
        env=stage.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise GitError(f"git {words[0]}: {done.stderr.decode(errors='replace')}", "see doctor")
    return done.stdout.decode(errors="replace").strip()

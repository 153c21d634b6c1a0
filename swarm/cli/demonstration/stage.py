"""What the demo plays on: a temporary directory with a home, a repository and a configuration."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from swarm.cli.control import MAX_SOCKET_PATH
from swarm.config.places import Places
from swarm.errors import GitError, SwarmError

PREFIX = "agentctl-demo-"
ROLES = ("builder", "auditor", "qa")
FLEET = {"builder": 3, "auditor": 1, "qa": 1}
MAX_ACTIVE, MAX_ACTIVE_LATER = 3, 4
CHECK = """\
# Every module gives something back; what does not is named, and does not land.
! grep -L return src/*.py | grep .
"""
"""``check.sh`` of the project: it must pass on what is about to land."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The directories of one demo."""

    root: Path

    @property
    def places(self) -> Places:
        """Its ``AGENTCTL_HOME``."""
        return Places(self.root / "home")

    @property
    def repository(self) -> Path:
        """A small real repository, the user's project as it were."""
        return self.root / "project"

    @property
    def workspaces(self) -> Path:
        """Its ``workspace_base``."""
        return self.root / "agents"

    def environment(self) -> dict[str, str]:
        """Ours, with nothing in it that points to another home or repository."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AGENTCTL_", "GIT_"))}
        return {**kept, "AGENTCTL_HOME": str(self.places.home)}


def empty_stage(prefix: str) -> Stage:
    """A stage with an empty home in a temporary directory, whose name begins with ``prefix``.

    Raises :class:`SwarmError` where a directory cannot be made, :class:`GitError` without git.
    """
    if shutil.which("git") is None:
        raise GitError("git is not on PATH, and the fleet's work is kept with it", "install git")
    try:
        stage = Stage(Path(tempfile.mkdtemp(prefix=prefix, dir=_short_directory(prefix))).resolve())
    except OSError as error:
        raise SwarmError(
            f"no temporary directory can be made: {error.strerror}", "set TMPDIR to one that works"
        ) from error
    try:
        stage.places.roles.mkdir(mode=0o700, parents=True)
        stage.places.home.chmod(0o700)
        stage.workspaces.mkdir()
    except BaseException:
        clear(stage)
        raise
    return stage


def set_stage() -> Stage:
    """Make the demo's stage in the temporary directory; raises what :func:`empty_stage` does."""
    stage = empty_stage(PREFIX)
    try:
        write_settings(stage, MAX_ACTIVE)
        for role in ROLES:
            (stage.places.roles / f"{role}.yaml").write_text("runtime: scripted\n")
        (stage.repository / "src").mkdir(parents=True)
        readme = "# A small project\n\nThe demo's fleet works on it.\n"
        (stage.repository / "README.md").write_text(readme)
        (stage.repository / "check.sh").write_text(CHECK)
        commit_repository(stage, "Demo", "A small project")
    except BaseException:
        clear(stage)
        raise
    return stage


def commit_repository(stage: Stage, person: str, message: str) -> None:
    """Make ``repository`` one of git's, with what lies there and a module in its first commit.

    Raises :class:`GitError`.
    """
    module = stage.repository / "src" / "words.py"
    module.write_text("def words(text):\n    return text.split()\n")
    who = ("-c", f"user.name={person}", "-c", f"user.email={person.lower()}@example.org")
    git(stage, "init", "-q")
    git(stage, "symbolic-ref", "HEAD", "refs/heads/main")  # whatever init.defaultBranch says
    git(stage, "add", "-A")
    git(stage, *who, "-c", "commit.gpgSign=false", "commit", "-q", "-m", message)


def write_settings(stage: Stage, max_active: int) -> None:
    """(Over)write swarm.yaml; strings are JSON strings, which YAML reads as they are."""
    agents = "".join(f"  - {{role: {role}, count: {n}}}\n" for role, n in FLEET.items())
    stage.places.config.write_text(
        f"""\
version: 1
workspace_base: {json.dumps(str(stage.workspaces))}
agents:
{agents}chat: {{listen: "127.0.0.1:0"}}
limits: {{max_active: {max_active}, min_free_memory_mb: 0, min_free_disk_mb: 0, stagger_seconds: 0}}
health: {{heartbeat_seconds: 1}}
restart: {{base_seconds: 0.2}}
stop: {{grace_seconds: 2}}
repo:
  source: {json.dumps(str(stage.repository))}
  author: "Demo <demo@example.org>"
  checks: ["sh check.sh"]
"""
    )


def clear(stage: Stage, patience: float = 5.0) -> None:
    """Remove the whole stage; what cannot be removed within ``patience`` seconds is left.

    A git that the ended swarm had started may write for some milliseconds more, so that a folder
    is not empty at the moment it is to go.
    """
    end = time.monotonic() + patience
    while True:
        shutil.rmtree(stage.root, ignore_errors=True)
        if not stage.root.exists() or time.monotonic() > end:
            return
        time.sleep(0.05)


def agentctl(*arguments: str) -> list[str]:
    """The command line of this same program; ``-P`` as in ``swarm.cli.up``."""
    return [sys.executable, "-P", "-m", "swarm.cli", *arguments]


def _short_directory(prefix: str) -> str | None:
    """``None`` for the usual temporary directory; ``/tmp`` where a socket's path would not fit."""
    longest = len(os.fsencode(tempfile.gettempdir())) + len(f"/{prefix}12345678/home/control.sock")
    return "/tmp" if longest > MAX_SOCKET_PATH else None  # noqa: S108 - mkdtemp makes the name


def git(stage: Stage, *arguments: str) -> bytes:
    """Run git in ``repository``; what it printed.  Raises :class:`GitError`."""
    done = subprocess.run(
        ["git", "-c", "core.hooksPath=/dev/null", *arguments],
        cwd=stage.repository,
        env=stage.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    if done.returncode != 0:
        raise GitError(f"git {arguments[0]}: {done.stderr.decode(errors='replace')}", "see doctor")
    return done.stdout

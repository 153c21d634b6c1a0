"""A source repository, its hub and a workspace with a clone: what the spawner's tests work on."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarm.sandbox.environment import session_environment
from swarm.sandbox.grants import session_rules
from swarm.sandbox.launch import Command, Confinement
from swarm.sandbox.run import Done, run
from swarm.spawner.author import git_identity
from swarm.spawner.clone import borrowed_paths, checkout_prelude, ensure_clone, freshen, mark_in_use
from swarm.spawner.homecoming import Homecoming, bring_home
from swarm.spawner.hub import Hub
from swarm.spawner.workspace import Workspace, prepare_task

HOME_ID = "h0me1d"
AGENT = "swarm-builder-001"
WHO = {
    "GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@example.org",
}  # fmt: skip


def sh_git(folder: Path | str, *words: str) -> str:
    """Git as a person runs it, without a person's configuration."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **WHO}
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"git {words}: {done.stderr}"
    return done.stdout.strip()


def make_source(path: Path, branch: str = "main") -> Path:
    path.mkdir(parents=True)
    sh_git(path, "init", "-q", "-b", branch)
    (path / "README").write_text("hello\n")
    (path / ".gitignore").write_text("ignored/\n")
    sh_git(path, "add", "-A")
    sh_git(path, "commit", "-q", "-m", "first")
    return path


def fingerprint(folder: Path) -> str:
    """One digest of every name, kind, mode, time and byte below ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        digest.update(f"{path}|{info.st_mode}|{info.st_mtime_ns}|{info.st_nlink}|".encode())
        if path.is_symlink():
            digest.update(os.readlink(path).encode())
        elif path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass
class Desk:
    """All of it, and the steps of a task."""

    root: Path
    source: Path
    hub: Hub
    workspace: Workspace
    mode: str = "shared"
    start: str = ""
    task: str = "t-1"
    fence: int = 1

    @property
    def branch(self) -> str:
        return f"swarm/{AGENT}/{self.task}"

    @property
    def salvage(self) -> str:
        return f"refs/agentctl/salvage/{AGENT}/{self.task}.{self.fence}"

    @property
    def repo(self) -> Path:
        return Path(self.workspace.repo)

    def confinement(self, out: str = "", env: dict[str, str] | None = None) -> Confinement:
        rules = session_rules(
            repo=self.workspace.repo,
            out=out or self.workspace.out(self.task),
            tmp=self.workspace.tmp,
            state=self.workspace.state,
            notes=self.workspace.notes,
            programs=("sh",),
            env=env or {"PATH": os.environ["PATH"]},
            borrowed=borrowed_paths(self.hub.path, self.mode),
            hidden=(str(self.root), self.workspace.path),
        )
        return Confinement(landlock=rules, marker=f"{HOME_ID}:t:1", tmp=self.workspace.tmp)

    def session(self, script: str, *, check: bool = True) -> Done:
        """One session: clone, checkout, a shell script as the agent; all of it contained."""
        ensure_clone(self.workspace, self.hub.path, self.mode)
        out = prepare_task(self.workspace, self.task)
        freshen(self.workspace, new_task=True)
        env = session_environment(
            os.environ, home=self.workspace.state, tmp=self.workspace.tmp, runtime_env={},
            pass_env=(), secrets={}, extra=git_identity("Ann", "ann@example.org", AGENT),
            task=self.task, out=out,
        )  # fmt: skip
        prelude = checkout_prelude(
            self.workspace.repo, self.branch, self.start or self.hub.tip, env,
            self.hub.target, self.hub.tip,
        )  # fmt: skip
        command = Command(("sh", "-ec", script), self.workspace.repo, env)
        done = run(command, self.confinement(out, env), prelude)
        if done.prelude_failed is None:
            mark_in_use(self.workspace)  # as the daemon does when the program has started
        if check:
            assert done.prelude_failed is None, done.error
            assert done.exit == 0, done.error
        return done

    def home(self, *, holder: bool = False) -> Homecoming:
        return bring_home(
            self.workspace,
            hub=self.hub.path,
            branch=self.branch,
            start=self.start or self.hub.tip,
            agent=AGENT,
            task=self.task,
            fence=self.fence,
            identity=git_identity("Ann", "ann@example.org", AGENT),
            confinement=self.confinement(),
            holder=holder,
        )

    def in_hub(self, *words: str) -> str:
        return sh_git(self.hub.path, *words)

    def files(self, commit: str) -> Sequence[str]:
        return self.in_hub("ls-tree", "-r", "--name-only", commit).split()

"""A source repository, its hub and tasks' branches: what the tests of landing work on."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
from spawner_support import AGENT, make_source, sh_git

from swarm.landing.land import FOLDER, land
from swarm.landing.model import Job, Landed, NotLanded, SentBack, Verdict
from swarm.spawner.hub import branch_tip, ensure_hub, hub_path

HOME_ID = "h0me1d"
PUBLISHED = "swarm/main"


def source_digest(source: Path, branch: str = PUBLISHED) -> str:
    """All of the source but its objects and the published branch: names, kinds, modes, bytes.

    Of files also their times; a folder's own time moves when git makes a lock in it.
    """
    gitdir = source / ".git" if (source / ".git").exists() else source
    ours = [gitdir / "objects"]
    for top in (gitdir / "refs" / "heads", gitdir / "logs" / "refs" / "heads"):
        ours += [top / branch, (top / branch).parent]
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        if any(path == one or one in path.parents for one in ours):
            continue
        info = path.lstat()
        digest.update(f"{path}|{info.st_mode}|".encode())
        if path.is_symlink():
            digest.update(os.readlink(path).encode())
        elif path.is_file():
            digest.update(f"{info.st_mtime_ns}|{info.st_ino}|".encode() + path.read_bytes())
    return digest.hexdigest()


@dataclass
class World:
    """All of it."""

    root: Path
    source: Path
    hub: str
    scratch: Path

    @property
    def tip(self) -> str:
        found = branch_tip(self.hub, "main")
        assert found is not None
        return found

    def branch(
        self, task: str, files: dict[str, str | None], base: str = "", message: str = "work"
    ) -> str:
        """A commit on the task's branch in the hub; ``None`` removes a file."""
        name = f"swarm/{AGENT}/{task}"
        sh_git(self.scratch, "fetch", "-q", "origin")
        sh_git(self.scratch, "checkout", "-q", "-f", "-B", name, base or "origin/main")
        return self.commit(task, files, message)

    def commit(self, task: str, files: dict[str, str | None], message: str = "more") -> str:
        """One more commit on the branch that is checked out."""
        for path, text in files.items():
            full = self.scratch / path
            if text is None:
                full.unlink()
            else:
                full.parent.mkdir(parents=True, exist_ok=True)
                full.write_text(text)
        sh_git(self.scratch, "add", "-A")
        sh_git(self.scratch, "commit", "-q", "--allow-empty", "-m", message)
        return self.push(task)

    def push(self, task: str) -> str:
        sh_git(self.scratch, "push", "-q", "-f", "origin", f"HEAD:refs/heads/swarm/{AGENT}/{task}")
        return sh_git(self.scratch, "rev-parse", "HEAD")

    def job(self, task: str, commit: str, **changes: object) -> Job:
        job = Job(
            task=task,
            n=1,
            hub=self.hub,
            source=str(self.source),
            target="main",
            branch=f"swarm/{AGENT}/{task}",
            commit=commit,
            message=f"Do {task}",
            log=str(self.root / "logs" / "checks" / f"{task}.1.log"),
            agent=AGENT,
            author_name="Ann",
            author_email="ann@example.org",
        )
        return replace_job(job, **changes)

    def land(self, job: Job) -> Verdict:
        verdict = land(job, HOME_ID, {})
        self.nothing_left()
        return verdict

    def landed(self, job: Job) -> Landed:
        verdict = self.land(job)
        assert isinstance(verdict, Landed), verdict
        assert verdict.commit == self.tip
        return verdict

    def sent_back(self, job: Job) -> SentBack:
        before = self.tip
        verdict = self.land(job)
        assert isinstance(verdict, SentBack), verdict
        assert verdict.target == self.tip == before
        return verdict

    def not_landed(self, job: Job) -> NotLanded:
        verdict = self.land(job)
        assert isinstance(verdict, NotLanded), verdict
        return verdict

    def nothing_left(self) -> None:
        """No work tree, no lock of git, no repository but the hub's."""
        assert not os.path.exists(os.path.join(self.hub, FOLDER))
        assert not list(Path(self.hub, "refs").rglob("*.lock"))

    def in_hub(self, *words: str) -> str:
        return sh_git(self.hub, *words)

    def in_source(self, *words: str) -> str:
        return sh_git(self.source, *words)

    def show(self, path: str, commit: str = "main") -> str:
        return self.in_hub("show", f"{commit}:{path}")

    def log(self, commit: str = "main", form: str = "%s") -> list[str]:
        return self.in_hub("log", f"--format={form}", commit).splitlines()


def replace_job(job: Job, **changes: object) -> Job:
    """The job with fields of another value."""
    return msgspec.structs.replace(job, **changes)


def make_world(root: Path) -> World:
    source = make_source(root / "source")
    (source / "untracked").write_text("mine")
    (source / "README").write_text("stashed\n")
    sh_git(source, "stash", "-q")
    (source / "README").write_text("being edited\n")
    (source / "staged").write_text("staged\n")
    sh_git(source, "add", "staged")
    hub = ensure_hub(hub_path(root / "hub", str(source)), str(source), "main").path
    scratch = root / "scratch"
    sh_git(root, "clone", "-q", hub, str(scratch))
    return World(root, source, hub, scratch)


def sleeping(word: str) -> list[str]:
    """The processes ``sleep WORD`` that live."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", word.encode()]:
                found.append(name)
    return found

"""`task show` of what has landed: where it is, told by a command that works."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_fake import Ran

from swarm.cli.hubs import hub_of
from swarm.config.places import Places
from swarm.core.model import Outcome
from swarm.ledger import Ledger, NewTask, open_ledger
from swarm.ledger.records import Way
from swarm.spawner.hub import hub_path
from swarm.wire.lifeline import Finished

Cli = Callable[..., Ran]
AGENT = "swarm-builder-001"


@dataclass(frozen=True, slots=True)
class Landed:
    """A task that has landed in the hub of ``project``."""

    places: Places
    ledger: Ledger
    project: Path
    hub: Path
    task: str
    commit: str

    def git(self, *arguments: str) -> str:
        return git(self.project, *arguments)

    def publish(self, branch: str) -> None:
        self.git("fetch", "-q", str(self.hub), f"main:refs/heads/{branch}")

    def configure(self, **repo: object) -> None:
        settings = {"version": 1, "repo": {"source": str(self.project), **repo}}
        self.places.config.write_text(json.dumps(settings))

    def take(self, out: str) -> str:
        """Follow what was printed, in the project; the subject that is there then."""
        commands = [line for line in out.splitlines() if line.startswith("  git ")]
        for command in commands:
            done = subprocess.run(["sh", "-c", command], cwd=self.project, capture_output=True)
            assert done.returncode == 0, (command, done.stderr)
        return self.git("log", "-1", "--format=%s")


def git(where: Path, *arguments: str) -> str:
    words = ("-c", "user.name=n", "-c", "user.email=e@x", "-C", str(where), *arguments)
    done = subprocess.run(["git", *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def landed(places: Places, tmp_path: Path) -> Iterator[Landed]:
    project = tmp_path / "my project"
    subprocess.run(["git", "init", "-q", "-b", "main", str(project)], check=True)
    git(project, "commit", "-q", "--allow-empty", "-m", "first")
    hub = hub_path(places.hub, str(project))
    hub.parent.mkdir()
    subprocess.run(["git", "clone", "-q", "--bare", str(project), str(hub)], check=True)
    work = tmp_path / "work"
    subprocess.run(["git", "clone", "-q", str(hub), str(work)], check=True)
    git(work, "commit", "-q", "--allow-empty", "-m", "landed")
    commit = git(work, "rev-parse", "HEAD")
    with open_ledger(places.ledger) as ledger:
        task = ledger.submit(NewTask("words"))
        claimed = ledger.claim(task, AGENT, "a" * 16, 90.0)
        assert claimed is not None
        branch = f"swarm/{AGENT}/{task}"
        git(work, "push", "-q", "origin", "main:main", f"main:{branch}")
        finished = Finished(
            task=task, fence=claimed.fence, outcome=Outcome.SUCCEEDED, commit=commit, commits=1
        )
        ledger.finish(finished, AGENT, way=Way())
        ledger.landed(task, commit, commit)
        yield Landed(places, ledger, project, hub, task, commit)


def test_what_was_published_is_merged_from_its_branch(cli: Cli, landed: Landed) -> None:
    landed.configure()
    landed.publish("swarm/main")
    out = cli("task", "show", landed.task).out
    assert f"it has landed on swarm/main of {landed.project};" in out
    assert "git fetch" not in out
    assert landed.take(out) == "landed"


@pytest.mark.parametrize("publish", ["swarm/{target}", "elsewhere", None])
def test_what_was_not_is_fetched_from_the_hub(
    cli: Cli, landed: Landed, publish: str | None
) -> None:
    landed.configure(publish=publish)
    landed.git("branch", "swarm/main")  # there, but without the work
    out = cli("task", "show", landed.task).out
    assert "it has landed on main in the hub;" in out
    assert landed.take(out) == "landed"


def test_the_repository_one_stands_in_is_known_without_a_configuration(
    cli: Cli, landed: Landed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    landed.publish("swarm/main")
    assert "on main in the hub" in cli("task", "show", landed.task).out
    (landed.project / "deep").mkdir()
    monkeypatch.chdir(landed.project / "deep")
    assert "on swarm/main of" in cli("task", "show", landed.task).out


def test_a_branch_that_was_cleaned_away_hides_nothing_that_landed(cli: Cli, landed: Landed) -> None:
    landed.configure()
    git(landed.hub, "update-ref", "-d", f"refs/heads/swarm/{AGENT}/{landed.task}")
    assert hub_of(landed.places, landed.ledger.find(landed.task)) is None
    out = cli("task", "show", landed.task).out
    assert f"git show {landed.commit}" in out
    assert landed.take(out) == "landed"
    ran = cli("task", "diff", landed.task)
    assert ran.code == 1
    assert "cleaned away" in ran.err
    assert f"git show {landed.commit}" in ran.err

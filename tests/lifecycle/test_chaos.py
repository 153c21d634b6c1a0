"""A short storm over real processes holds; a broken outcome makes its report fail."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests_support import eventually

from swarm.cli.hubs import git
from swarm.cli.storm.conductor import Conductor
from swarm.cli.storm.evidence import hub_of
from swarm.cli.storm.notes import Options
from swarm.cli.storm.plan import Kind
from swarm.cli.storm.processes import fleet
from swarm.cli.storm.stage import Size, set_stage
from swarm.core.model import TaskState
from swarm.ledger import open_ledger

SEED = "20273752"
"""Its eleven seconds have disturbances of every kind, four of them to landings, three to the HTTP
interface, one to a hook and one by a person at the source, and no disk that is waited for."""


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of its own for the storm's; nothing may be left in it, nor run from it."""
    path = Path(tempfile.mkdtemp(prefix="acc-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield path
    left = sorted(str(p) for p in path.iterdir())
    running = fleet(str(path))
    shutil.rmtree(path)
    assert left == []
    assert not running


def command(*options: str) -> list[str]:
    return [sys.executable, "-P", "-m", "swarm.cli", "chaos", *options]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_storm_loses_nothing_and_leaves_nothing(temporary: Path) -> None:
    seed = os.environ.get("CHAOS_SEED", SEED)
    done = subprocess.run(
        command("--seed", seed, "--seconds", "11", "--pace", "0.6", "--json"),
        capture_output=True,
        timeout=280,
        check=False,
    )
    assert done.stdout, done.stderr
    report = msgspec.json.decode(done.stdout)
    assert report["violations"] == [], report
    assert done.returncode == 0
    assert report["ok"] is True
    kinds = {label.partition(" ")[0].rstrip(":") for label in report["disturbed"]}
    assert len(kinds & set(Kind)) >= 5, report["disturbed"]
    assert sum(report["tasks"].values()) >= 10
    assert report["commits_lost"] == 0
    assert report["tasks"].get("done/merged", 0) >= 3, report["tasks"]


def spoil(conductor: Conductor, sleepers: list[subprocess.Popen[bytes]]) -> None:
    """Each of these is what a storm must never find."""
    stage = conductor.fleet.stage
    hub = hub_of(stage.places)
    assert hub is not None
    with open_ledger(stage.places.ledger) as ledger:
        done = [task for task in ledger.tasks([TaskState.DONE]) if task.branch and task.commits]
    deleted = git(hub, "update-ref", "-d", f"refs/heads/{done[0].branch}")
    assert deleted.returncode == 0, deleted.stderr
    back = git(hub, "update-ref", "refs/heads/main", "refs/heads/main~1")
    assert back.returncode == 0, back.stderr
    for clone in stage.workspaces.glob("*/repo"):  # or the last stop brings it home again
        shutil.rmtree(clone)
    marker = f"{conductor.fleet.home_id}:t-none:1"
    sleepers.append(
        subprocess.Popen(["sleep", "600"], env={**os.environ, "AGENTCTL_TREE": marker}, cwd="/")
    )
    (stage.repository / "README.md").write_text("another's hand\n")
    (stage.workspaces / ".making-it").mkdir()
    with (stage.places.journal / "journal.jsonl").open("a") as journal:
        journal.write("not a line\n")


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_broken_outcome_fails_the_storm(temporary: Path) -> None:
    size = Size.of(4)
    stage = set_stage(size)
    sleepers: list[subprocess.Popen[bytes]] = []
    try:
        with open_ledger(stage.places.ledger) as ledger:
            options = Options(1, 2.0, size, tasks=8, only=(Kind.DISCONNECT,))
            conductor = Conductor(stage, ledger, options, lambda _: None)
            try:
                report = conductor.run(lambda one: spoil(one, sleepers))
            finally:
                conductor.end()
    finally:
        shutil.rmtree(stage.root)
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
    assert not report.held
    assert {violation.rule for violation in report.violations} == {
        "nothing announced is lost",
        "its work is in the hub",
        "the target only grows",
        "what is merged is there once",
        "published is what landed",
        "no process is left",
        "the source is untouched",
        "nothing lies about",
        "the journal is readable",
    }
    assert report.lost > 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_interrupted_it_leaves_nothing(temporary: Path) -> None:
    with subprocess.Popen(
        command("--seed", SEED, "--seconds", "60"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        seen = 0
        while seen < 3:
            line = process.stdout.readline()
            assert line, process.communicate()
            seen += ", pid " in line
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    eventually(lambda: not list(temporary.iterdir()))

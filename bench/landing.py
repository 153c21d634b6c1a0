"""Ten one-file branches landed one after the other, against the same by hand."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.fleet import Fleet, until
from bench.rows import Row, median
from swarm.core.model import TaskResult
from swarm.landing.client import Lander
from swarm.landing.model import Job, Landed
from swarm.ledger import open_ledger
from swarm.spawner.hub import ensure_hub, hub_path

BRANCHES = 10
ROUNDS = 3
FILES = 100
_ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.org",
    "GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@example.org",
}  # fmt: skip


def landing() -> Iterator[Row]:
    """From the first order to the last verdict, the worker's own start included."""
    bare, checked, by_hand = [], [], []
    for _ in range(ROUNDS):
        bare.append(_in_world(_land, ()))
        checked.append(_in_world(_land, ("test -e README",)))
        by_hand.append(_in_world(_by_hand, ()))
    value = median(checked)
    yield Row(
        "ten one-file branches landed, published",
        f"{FILES} files, one check each",
        f"median {value:.2f} s ({median(bare):.2f} s without checks)",
        "<= 5 s",
        value <= 5,
        f"git merge, commit and push by hand {median(by_hand):.2f} s",
        {"seconds": value, "bare_seconds": median(bare), "baseline_seconds": median(by_hand)},
    )


def merged() -> Iterator[Row]:
    """Ten one-file tasks from queued to merged by a fleet of five, beyond their sessions."""
    beyond, whole = [], []
    for _ in range(ROUNDS):
        with Fleet(5) as fleet, open_ledger(fleet.places.ledger) as ledger:
            until(lambda: sum(bool(a.get("warm")) for a in fleet.status()["agents"]) >= 5, 20)
            tasks, first = [], 0.0
            for number in range(BRANCHES):
                task, committed = fleet.submit(f"write f{number}.txt x\ncommit add f{number}")
                tasks.append(task)
                first = first or committed
            until(lambda ids=tasks: all(ledger.task(one).state.ended for one in ids))  # type: ignore[misc]
            ended = [ledger.task(task) for task in tasks]
            assert all(one and one.result is TaskResult.MERGED for one in ended), ended
            attempts = [one for task in tasks for one in ledger.attempts(task)]
            sessions = sum((a.ended_at or 0) - (a.started_at or 0) for a in attempts)
            whole.append(max(one.ended_at or 0 for one in ended if one) - first)
            beyond.append(whole[-1] - sessions / 5)
    value = median(beyond)
    yield Row(
        "ten one-file tasks from queued to merged",
        "5 agents",
        f"median {value:.2f} s beyond their sessions ({median(whole):.2f} s in all)",
        "<= 5 s",
        value <= 5,
        "a queue looked at each 10 s: 100 s",
        {"beyond_seconds": value, "seconds": median(whole)},
    )


def _in_world(work: object, checks: tuple[str, ...]) -> float:
    assert callable(work)
    with tempfile.TemporaryDirectory(prefix="agentctl-bench-", dir="/tmp") as root:
        source, scratch = Path(root, "source"), Path(root, "scratch")
        source.mkdir()
        _git(source, "init", "-q", "-b", "main")
        (source / "README").write_text("hello\n")
        for number in range(FILES):
            folder = source / f"d{number % 20}"
            folder.mkdir(exist_ok=True)
            (folder / f"f{number}").write_text(f"{number}\n" * 20)
        _git(source, "add", "-A")
        _git(source, "commit", "-q", "-m", "first")
        hub = ensure_hub(hub_path(Path(root, "hub"), str(source)), str(source), "main").path
        _git(Path(root), "clone", "-q", hub, str(scratch))
        for number in range(BRANCHES):
            _git(scratch, "checkout", "-q", "-b", f"swarm/a/t-{number}", "origin/main")
            (scratch / f"new-{number}").write_text("x\n")
            _git(scratch, "add", "-A")
            _git(scratch, "commit", "-q", "-m", f"work {number}")
        _git(scratch, "push", "-q", "origin", "--all")
        _git(scratch, "checkout", "-q", "-B", "main", "origin/main")
        began = time.perf_counter()
        work(source, hub, scratch, checks)
        return time.perf_counter() - began


def _land(source: Path, hub: str, scratch: Path, checks: tuple[str, ...]) -> None:
    jobs = [
        Job(
            task=f"t-{number}",
            n=1,
            hub=hub,
            source=str(source),
            target="main",
            branch=f"swarm/a/t-{number}",
            commit=_git(scratch, "rev-parse", f"swarm/a/t-{number}"),
            message=f"Task {number}",
            log=str(source.parent / "logs" / f"t-{number}.1.log"),
            checks=checks,
            publish="swarm/main",
            agent="swarm-builder-001",
        )
        for number in range(BRANCHES)
    ]
    asyncio.run(_all(jobs))


async def _all(jobs: list[Job]) -> None:
    lander = Lander("bench")
    try:
        for job in jobs:
            verdict = await lander.land(job)
            assert isinstance(verdict, Landed), verdict
            assert verdict.published
    finally:
        await lander.close()


def _by_hand(source: Path, _hub: str, scratch: Path, _checks: tuple[str, ...]) -> None:
    for number in range(BRANCHES):
        _git(scratch, "merge", "-q", "--squash", f"swarm/a/t-{number}")
        _git(scratch, "commit", "-q", "-m", f"Task {number}")
        _git(scratch, "push", "-q", str(source), "HEAD:refs/heads/swarm/main")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], env=_ENV, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()

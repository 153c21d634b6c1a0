"""What survival costs: from a kill to clean, from a crash to a restart, sampling, the sandbox."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench.fleet import Fleet, processor_seconds, until
from bench.rows import Row, median, percentile
from swarm.health.sampler import Sampler
from swarm.sandbox.grants import session_rules
from swarm.sandbox.launch import Command, Confinement, launch, reap
from swarm.sandbox.trees import MARKER

SESSIONS = 10
KILLS = 5
RESTARTS = 20
TREES = 200
STARTS = 60


def clean() -> Iterator[Row]:
    """``kill -9`` of a supervisor with ten sessions, each with children that hold on."""
    took = []
    for _ in range(KILLS):
        with Fleet(SESSIONS, max_active=SESSIONS) as fleet:
            for _ in range(SESSIONS):
                fleet.submit("setsid 3600\ndaemonize 3600\nignore-term\nhang")
            until(lambda fleet=fleet: _active(fleet) == SESSIONS)
            supervisor = int(fleet.status()["swarm"]["pid"])
            token = str(fleet.root).encode()
            until(lambda token=token: len(_of(token)) >= 3 * SESSIONS)
            began = time.perf_counter()
            os.kill(supervisor, signal.SIGKILL)
            until(lambda token=token: not _of(token))
            took.append((time.perf_counter() - began) * 1000)
            fleet.agentctl("swarm", "up", "--detach")  # takes away what only a start sweeps
    plain = [_plain_kill() for _ in range(KILLS)]
    yield Row(
        "supervisor killed to nothing left",
        f"{SESSIONS} sessions with setsid'ed children",
        f"median {median(took):.0f} ms, worst {max(took):.0f} ms",
        "<= 2 s",
        max(took) <= 2000,
        f"kill and wait of {SESSIONS} plain children {median(plain):.0f} ms",
        {"median_ms": median(took), "worst_ms": max(took), "baseline_ms": median(plain)},
    )


def restarts() -> Iterator[Row]:
    """A crash's restart, counted from the end of its backoff."""
    beyond = []
    with Fleet(RESTARTS, base_seconds=0.2) as fleet:
        pids = {a["name"]: int(a["pid"]) for a in fleet.status()["agents"]}
        for name, pid in pids.items():
            os.kill(pid, signal.SIGKILL)
            due = until(lambda name=name: _entry(fleet, "child_backoff", name))
            back = until(lambda name=name, due=due: _entry(fleet, "child_ready", name, due[0]))
            beyond.append((back[0] - due[0] - due[1]) * 1000)
    yield Row(
        "crash to restart, beyond its backoff",
        f"{RESTARTS} crashes",
        f"median {median(beyond):.1f} ms, p99 {percentile(beyond, 0.99):.1f} ms",
        "-",
        None,
        "fresh interpreter signed in: see the row above",
        {"median_ms": median(beyond), "p99_ms": percentile(beyond, 0.99)},
    )


def sampling() -> Iterator[Row]:
    """One sample of two hundred trees of three processes each, against psutil's own way."""
    script = f"sleep 600 & sleep 600 & exec sleep 600 # {MARKER}"
    roots = [subprocess.Popen(["sh", "-c", script], start_new_session=True) for _ in range(TREES)]
    try:
        named = {f"swarm-builder-{n:03}": one.pid for n, one in enumerate(roots)}
        sampler = Sampler()
        sampler.sample(named)
        ours = [_busy(lambda: sampler.sample(named)) for _ in range(15)]
        theirs = [_busy(lambda: _by_psutil(named.values())) for _ in range(3)]
    finally:
        for one in roots:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()
    share = median(ours) / 10.0 * 100
    yield Row(
        "processor use of sampling, every 10 s",
        f"{TREES} trees of 3",
        f"{share:.2f} % of a core ({median(ours) * 1000:.0f} ms a sample)",
        "<= 2 %",
        share <= 2,
        f"psutil, tree by tree {median(theirs) / 10 * 100:.2f} %",
        {"share": share, "baseline_share": median(theirs) / 10 * 100},
    )


def sandbox() -> Iterator[Row]:
    """What the sandbox adds to the start of a session."""
    with tempfile.TemporaryDirectory(prefix="agentctl-bench-", dir="/tmp") as root:
        bare, confined = [], []
        places = {name: str(Path(root, name)) for name in ("repo", "out", "tmp", "state")}
        for path in places.values():
            os.mkdir(path)
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": places["state"]}
        command = Command(("/bin/true",), places["repo"], env)
        rules = session_rules(
            **places, notes=(), programs=("git", sys.executable), env=env, hidden=(root,)
        )
        within = Confinement(landlock=rules, tmp=places["tmp"])
        for _ in range(STARTS):
            confined.append(_to_started(command, within))
            bare.append(_timed(lambda: subprocess.Popen(["/bin/true"]).wait()))
        loose = [_to_started(command, Confinement()) for _ in range(STARTS)]
    cost = median(confined) - median(bare)
    yield Row(
        "cost of the sandbox at a session's start",
        f"{STARTS} starts",
        f"median {cost:.1f} ms (of it Landlock {median(confined) - median(loose):.1f} ms)",
        "<= 20 ms",
        cost <= 20,
        f"bare start and end of a process {median(bare):.1f} ms",
        {"cost_ms": cost, "baseline_ms": median(bare), "confined_ms": median(confined)},
    )


def _active(fleet: Fleet) -> int:
    return sum(agent["state"] == "active" for agent in fleet.status()["agents"])


def _of(token: bytes) -> list[int]:
    """Processes that name the fleet's directory in their environment, arguments or folder."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            place = os.fsencode(os.readlink(f"/proc/{name}/cwd"))
            text = Path(f"/proc/{name}/environ").read_bytes()
            if token in place or token in text:
                found.append(int(name))
    return found


def _entry(fleet: Fleet, kind: str, child: str, after: float = 0.0) -> tuple[float, float] | None:
    """Time of the first such entry after ``after``, and the seconds it names."""
    for entry in fleet.journal():
        at = dt.datetime.fromisoformat(entry["ts"]).timestamp()
        if entry["kind"] == kind and entry.get("child") == child and at > after:
            return at, float(entry.get("seconds", 0.0))
    return None


def _plain_kill() -> float:
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(SESSIONS)]
    began = time.perf_counter()
    for one in children:
        one.kill()
    for one in children:
        one.wait()
    return (time.perf_counter() - began) * 1000


def _busy(work: object) -> float:
    """Processor seconds of one call."""
    assert callable(work)
    before = processor_seconds(os.getpid())
    work()
    return processor_seconds(os.getpid()) - before


def _to_started(command: Command, confinement: Confinement) -> float:
    """Milliseconds until the program runs; what its end takes is not counted."""
    began = time.perf_counter()
    tree = launch(command, (), confinement)
    select.select([tree.status], [], [])
    took = (time.perf_counter() - began) * 1000
    select.select([tree.pidfd], [], [])
    reap(tree)
    return took


def _timed(work: object) -> float:
    assert callable(work)
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _by_psutil(roots: object) -> int:
    seen = 0
    for pid in list(roots):  # type: ignore[call-overload]
        root = psutil.Process(pid)
        for one in (root, *root.children(recursive=True)):
            with one.oneshot():
                one.memory_info()
                one.cpu_times()
                seen += 1
    return seen

"""The demo plays the whole story, checks it, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_fake import Ran
from tests_support import eventually, stretch

from swarm.cli.demo import clean_up
from swarm.cli.demonstration import acts, stage
from swarm.cli.demonstration.project import fingerprint, landed
from swarm.cli.demonstration.report import Report, _between
from swarm.cli.demonstration.tasks import ANNOUNCED, PLAN, TASKS, VICTIM, plan_text
from swarm.cli.interruption import ENDING, ended_by_signals, held_back
from swarm.cli.lock import is_locked
from swarm.config.load import load_settings
from swarm.errors import Interrupted
from swarm.plans.reading import read_plan
from swarm.sessions.scripted import directive

Cli = Callable[..., Ran]


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of its own for the demo's; nothing may be left in it, nor run from it."""
    path = Path(tempfile.mkdtemp(prefix="acd-"))
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield path
    left = sorted(str(p) for p in path.rglob("*"))
    running = eventually(lambda: not processes_of(path), within=3)
    shutil.rmtree(path)
    assert left == []
    assert running


def processes_of(root: Path) -> list[str]:
    """Processes that lie in ``root``, or were told of it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            where = os.readlink(entry / "cwd")
        except OSError:
            continue
        if str(root).encode() + b"/" in told or where.startswith(f"{root}/"):
            found.append(f"{entry.name} {told[:200]!r}")
    return found


def test_the_cast_is_what_was_promised() -> None:
    assert len(TASKS) == 8
    assert len({piece.role for piece in TASKS}) == 3
    assert {piece.review for piece in TASKS} == {"", "agent", "human"}
    assert sum(stage.FLEET.values()) == 5
    assert TASKS.count(ANNOUNCED) == TASKS.count(VICTIM) == 1
    for piece in TASKS:
        lines = piece.prompt.splitlines()
        assert lines[0] == piece.title
        assert all(directive(line) is not None for line in lines[1:]), piece.title
        assert sum(line.startswith("commit ") for line in lines) == piece.commits


def test_the_plan_is_one_chain(home: Path) -> None:
    read = read_plan(plan_text(PLAN).encode(), "plan.yaml", sorted(stage.FLEET))
    assert read.problems == ()
    assert read.plan is not None
    assert [len(task.after) for task in read.plan.tasks] == [0, 1]
    assert [task.text.splitlines()[0] for task in read.plan.tasks] == [p.title for p in PLAN]


def test_a_fingerprint_sees_everything_but_what_is_published(temporary: Path) -> None:
    made = stage.set_stage()
    before = fingerprint(made.repository)
    stage.git(made, "branch", "swarm/main")
    stage.git(made, "hash-object", "-w", "README.md")
    assert fingerprint(made.repository) == before
    assert landed(made) == ()
    (made.repository / ".git" / "refs" / "heads" / "other").write_text("0" * 40 + "\n")
    assert fingerprint(made.repository) != before
    stage.clear(made)


def test_the_stage_is_a_good_configuration_with_a_real_repository(temporary: Path) -> None:
    made = stage.set_stage()
    loaded = load_settings(made.places.config)
    assert loaded.ok, loaded.problems
    assert {entry.role: entry.count for entry in loaded.settings.agents} == stage.FLEET
    assert loaded.settings.repo.source == str(made.repository)
    log = subprocess.run(
        ["git", "-C", str(made.repository), "log", "--format=%s", "main"], capture_output=True
    )
    assert log.stdout == b"A small project\n"
    stage.write_settings(made, 17)
    assert load_settings(made.places.config).settings.limits.max_active == 17
    assert made.places.home.stat().st_mode & 0o077 == 0
    stage.clear(made)


def test_a_stage_that_fails_half_way_is_removed(
    temporary: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = temporary / "bin"
    empty.mkdir()
    (empty / "git").write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    (empty / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(empty))
    ran = cli("demo")
    assert ran.code == 1
    assert "broken" in ran.err
    assert len(ran.err.splitlines()) == 1
    shutil.rmtree(empty)


def test_only_processes_that_were_seen_are_ended(temporary: Path) -> None:
    made = stage.Stage(temporary / "gone")
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        clean_up(made, {sleeper.pid: 1}, keep=False)
        assert sleeper.poll() is None, "its start time is another: the pid was reused"
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_signal_waits_until_what_was_started_is_known() -> None:
    known = []

    def work() -> None:
        with ended_by_signals():
            with held_back():
                signal.raise_signal(signal.SIGTERM)
                known.append("a process")
            known.append("not reached")

    with pytest.raises(Interrupted, match="SIGTERM"):
        work()
    assert known == ["a process"]


def test_a_second_signal_does_not_cut_the_cleaning_up_short() -> None:
    cleaned = []

    def work() -> None:
        with ended_by_signals():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                for number in ENDING:
                    signal.raise_signal(number)
                cleaned.append("all")

    with pytest.raises(Interrupted, match="SIGINT"):
        work()
    assert cleaned == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_times_are_taken_from_the_last_announcement() -> None:
    events = [
        ("announced", "a", 1.0),
        ("announced", "a", 2.0),
        ("started", "a", 2.5),
        ("started", "b", 3.0),
        ("announced", "a", 5.0),
        ("started", "a", 5.25),
    ]
    assert _between(events, "announced", "started") == (0.5, 0.25)


def test_an_empty_report_says_so() -> None:
    report = Report(0, (), (), (), (), 0, (), ())
    assert any("not measured" in line for line in report.lines())


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*stage.agentctl("demo", *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )


@pytest.mark.slow
def test_the_whole_demo(temporary: Path) -> None:
    process = start()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    acts = ("kill -9", "runs again as pid", "scale 7", "kill -HUP", "swarm stop", "plan apply")
    for said in (*acts, "needs-revision, says swarm-auditor-", "accept, says", "is approved at"):
        assert said in out
    report = dict(line.split(maxsplit=1) for line in out.rpartition("\n\n")[2].splitlines())
    assert report["tasks"].startswith("8 done")
    assert "1 lost" in report["attempts"]
    assert report["landed"] == "6 commits on swarm/main, for 'git merge swarm/main':"
    assert report["verdicts"] == "2 accept, 1 needs-revision"
    assert float(report["all"].split()[1]) < 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "number"),
    [("kill -9", signal.SIGINT), ("task add", signal.SIGTERM), ("up --detach", signal.SIGINT)],
)
def test_interrupted_it_leaves_nothing(temporary: Path, at: str, number: signal.Signals) -> None:
    with start() as process:
        assert process.stdout is not None
        while at not in (line := process.stdout.readline()):
            assert line, process.communicate()
        if "up" in at:
            eventually(lambda: any("swarm.supervisor" in p for p in processes_of(temporary)))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_claim_that_does_not_hold_fails_the_demo(
    temporary: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: nobody is scaled up."""
    monkeypatch.setattr(acts, "PATIENCE", 4.0 * stretch())
    real = acts.Play._run
    monkeypatch.setattr(acts.Play, "_run", lambda self, *a: "" if "scale" in a else real(self, *a))
    ran = cli("demo")
    assert ran.code == 1
    assert "there are not 7 agents" in ran.err


def test_the_command_line_is_this_program() -> None:
    assert stage.agentctl("x")[0] == sys.executable
    assert not is_locked(stage.Stage(Path("/nonexistent")).places)

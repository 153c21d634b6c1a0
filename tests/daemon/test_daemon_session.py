"""A session's tree as the daemon drives it, helper processes, and what is kept of both."""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

import msgspec
import pytest
from daemon_bench import HOME_ID, NAME, SCRIPTED, Bench
from tests_support import eventually

from swarm.core.model import Outcome, Usage
from swarm.daemon import concluding, launching, memory
from swarm.daemon.chore import Chore, in_helper
from swarm.daemon.concluding import Home, Left, Witnessed, conclude, read_question
from swarm.daemon.launching import Means
from swarm.daemon.session import RawLog, Session
from swarm.daemon.state import (
    Event,
    Job,
    LaunchFailed,
    SessionBegan,
    SessionOver,
    SessionSpent,
    SessionSpoke,
)
from swarm.errors import SwarmError
from swarm.sandbox.launch import Confinement
from swarm.sessions.model import Result, Summary
from swarm.spawner.workspace import Workspace
from swarm.wire.spawn import RuntimeSpec

COORDINATOR = "c" * 16


def to_the_end(session: Session, within: float = 20.0) -> list[Event]:
    """Every event of a session, until its tree is gone."""
    events: list[Event] = []
    waiting = set(session.descriptors)
    end = time.monotonic() + within
    while not session.over:
        assert time.monotonic() < end, events
        poll = select.poll()
        for fd in waiting:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(1000):
            if not session.over:
                more, ended = session.readable(fd, 1000.0)
                events += more
                if ended:
                    waiting.discard(fd)
    return events


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_the_events_of_a_session(place: Bench, workspace: Workspace) -> None:
    means = Means(place.spec(), workspace, sandboxed=True)
    job = Job(place.work("print 3 words\nusage 7 2\nstderr a warning\nanswer ok"), 1, COORDINATOR)
    session = launching.start(means, job)
    events = to_the_end(session)
    assert isinstance(events[-1], SessionOver)
    assert kinds(events).count("SessionBegan") == 1
    (began,) = [e for e in events if isinstance(e, SessionBegan)]
    assert began.tree_start > 0
    assert [e for e in events if isinstance(e, SessionSpoke)]
    spent = [e for e in events if isinstance(e, SessionSpent)]
    assert spent[-1].usage.output_tokens == 2
    assert session.exit_status == 0
    assert b"a warning" in session.stderr_tail
    assert session.summary.result == Result("ok", is_error=False)
    assert (place.home / "logs" / "sessions" / "t-1.1.jsonl").stat().st_size > 0


def test_a_program_that_is_missing_and_a_start_that_does_not_exist(
    place: Bench, workspace: Workspace
) -> None:
    missing = place.spec(runtime=RuntimeSpec("x", "command", ("no-such-program-xyz", "{prompt}")))
    session = launching.start(
        Means(missing, workspace, sandboxed=True), Job(place.work("x"), 1, COORDINATOR)
    )
    (failed,) = [e for e in to_the_end(session) if isinstance(e, LaunchFailed)]
    assert "no-such-program-xyz" in failed.reason
    assert not failed.unprepared

    repo = place.work("x").repo
    assert repo is not None
    lost = place.work("x", repo=msgspec.structs.replace(repo, start="0" * 39 + "1"))
    session = launching.start(
        Means(place.spec(), workspace, sandboxed=True), Job(lost, 2, COORDINATOR)
    )
    (failed,) = [e for e in to_the_end(session) if isinstance(e, LaunchFailed)]
    assert failed.unprepared


def test_prompts_stay_on_without_a_sandbox(place: Bench, workspace: Workspace) -> None:
    """A role that bypasses them does so only where a sandbox is in force."""
    spec = place.spec()
    assert Means(spec, workspace, sandboxed=True).bypass
    assert not Means(spec, workspace, sandboxed=False).bypass
    assert "prompts stay on" in Means(spec, workspace, sandboxed=False).trouble
    required = place.spec(sandbox="required")
    assert not Means(required, workspace, sandboxed=True).refuses
    assert "no Landlock" in Means(required, workspace, sandboxed=False).refuses
    assert not launching.can_confine(place.spec(sandbox="off"))


def test_the_raw_log_ends_at_its_cap_and_says_so(tmp_path: Path) -> None:
    log = RawLog(str(tmp_path / "new" / "t.1.jsonl"), cap=10)
    log.write(b"12345678")
    log.write(b"abcdef")
    log.write(b"more")
    log.close()
    log.write(b"late")
    text = (tmp_path / "new" / "t.1.jsonl").read_text()
    assert text.startswith("12345678ab\n")
    assert text.count("the log ends here") == 1
    assert "more" not in text
    again = RawLog(str(tmp_path / "new" / "t.1.jsonl"), cap=10)
    again.write(b"resumed")
    again.close()
    assert "resumed" not in (tmp_path / "new" / "t.1.jsonl").read_text()
    RawLog("/proc/nowhere/x").write(b"lost, and no error")


def test_a_helper_answers_or_fails_in_its_own_words() -> None:
    assert in_helper(lambda: b"x" * 200_000) == b"x" * 200_000

    def fail() -> bytes:
        raise SwarmError("no such hub", "make one")

    with pytest.raises(SwarmError, match="no such hub; make one"):
        in_helper(fail)

    def crash() -> bytes:
        os.kill(os.getpid(), 9)
        return b""

    with pytest.raises(SwarmError, match="killed"):
        in_helper(crash)

    def bug() -> bytes:
        empty: dict[str, bytes] = {}
        return empty["x"]

    with pytest.raises(SwarmError, match="KeyError"):
        in_helper(bug)


def test_a_helper_holds_nothing_of_ours_open() -> None:
    reading, writing = os.pipe()
    chore = Chore(lambda: time.sleep(60) or b"")  # type: ignore[func-returns-value]
    os.close(writing)
    assert os.read(reading, 1) == b"", "the other end is closed, in the helper too"
    os.close(reading)
    chore.abandon()


def test_a_question_is_read_only_from_a_plain_file(workspace: Workspace, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    out = Path(workspace.out("t-1"))
    assert read_question(workspace, "t-1") == ""
    out.mkdir(parents=True)
    question = out / "needs_human.md"
    question.write_text("  Which one?\n" + "x" * 9000)
    asked = read_question(workspace, "t-1")
    assert asked.startswith("Which one?")
    assert len(asked) <= concluding.MAX_QUESTION
    question.unlink()
    question.symlink_to(secret)
    assert read_question(workspace, "t-1") == ""
    question.unlink()
    os.mkfifo(question)
    assert read_question(workspace, "t-1") == ""
    question.unlink()
    out.rmdir()
    out.symlink_to(tmp_path)
    (tmp_path / "needs_human.md").write_text("elsewhere")
    assert read_question(workspace, "t-1") == ""


def test_a_conclusion_names_what_did_not_come_home(place: Bench) -> None:
    job = Job(place.work("x"), 3, COORDINATOR)
    summary = Summary(session_id="s", usage=Usage(1, 2), result=Result("fine", is_error=False))
    seen = Witnessed(summary, 0, tells_result=True)
    home = Home(commit="a" * 40, commits=2, saved=("refs/agentctl/salvage/x/t-1.3",))
    done = conclude(job, seen, home, None, "", now=0.0, utc_offset=0.0)
    assert (done.outcome, done.commits, done.fence) == (Outcome.SUCCEEDED, 2, 3)
    assert "refs/agentctl/salvage/x/t-1.3" in done.reason
    lost = conclude(
        job, seen, Home(problem="disk full"), Outcome.LOST, "stopping", now=0.0, utc_offset=0.0
    )
    assert (lost.outcome, lost.branch, lost.commit) == (Outcome.LOST, None, None)
    assert "disk full" in lost.reason
    assert lost.session_id == "s"
    nowhere = conclude(job, seen, Home(problem="disk full"), None, "", now=0.0, utc_offset=0.0)
    assert nowhere.outcome is Outcome.FAILED, "what it made is nowhere to be had"
    repo = job.work.repo
    assert repo is not None
    older = Home(commit=repo.start, commits=1, problem="disk full")
    earlier = conclude(job, seen, older, None, "", now=0.0, utc_offset=0.0)
    assert earlier.outcome is Outcome.FAILED, "what an earlier attempt left is not its work"
    some = Home(commit="a" * 40, commits=1, problem="sub is a repository")
    partly = conclude(job, seen, some, None, "", now=0.0, utc_offset=0.0)
    assert partly.outcome is Outcome.SUCCEEDED


def test_what_is_remembered_on_disk(workspace: Workspace) -> None:
    assert memory.load_fences(workspace) == {}
    memory.save_fences(workspace, {"t-1": 4})
    assert memory.load_fences(workspace) == {"t-1": 4}
    Path(workspace.fences).write_text("torn{")
    assert memory.load_fences(workspace) == {}
    memory.save_used(workspace, "sid", Usage(5, 1))
    memory.save_used(workspace, "sid", Usage(2, 1))
    assert memory.used_before(workspace, "sid") == Usage(7, 2)
    assert memory.used_before(workspace, None) == Usage()
    for n in range(memory.MAX_SESSIONS + 5):
        memory.save_used(workspace, f"s{n}", Usage(1))
    assert memory.used_before(workspace, "sid") == Usage()
    assert memory.is_clean(workspace), "never checked out"
    (Path(workspace.repo) / "x").write_text("x")
    assert not memory.is_clean(workspace)
    memory.mark_resting(workspace, "a" * 40)
    assert memory.is_clean(workspace)
    assert memory.resting_at(workspace) == "a" * 40
    memory.mark_used(workspace)
    assert not memory.is_clean(workspace)


def test_securing_cleans_the_tree_and_counts_the_commits(
    place: Bench, workspace: Workspace
) -> None:
    means = Means(place.spec(), workspace, sandboxed=True)
    prompt = "write .gitignore *.o\nwrite a.txt a\ncommit one\nwrite b.o junk\nwrite c.txt c"
    job = Job(place.work(prompt), 1, COORDINATOR)
    to_the_end(launching.start(means, job))
    assert job.work.repo is not None
    told = in_helper(
        lambda: concluding.secure(
            workspace,
            NAME,
            HOME_ID,
            Left(job.key, 1, job.work.repo),
            Confinement(tmp=workspace.tmp),
        )
    )
    home = concluding.read_home(told)
    assert (home.commits, home.problem, home.commit) == (2, "", place.branch())
    assert os.listdir(workspace.repo) == [".git"], "at rest it holds the target again"
    assert memory.resting_at(workspace) == job.work.repo.base


def test_killing_a_session_leaves_no_process(place: Bench, workspace: Workspace) -> None:
    means = Means(place.spec(), workspace, sandboxed=True)
    job = Job(place.work("ignore-term\nfork 2 600\ndaemonize 600\nhang"), 1, COORDINATOR)
    session = launching.start(means, job)
    time_out = time.monotonic() + 10
    while not session.summary.session_id and time.monotonic() < time_out:
        session.readable(session.tree.status, 0.0)
        session.readable(session.tree.stdout, 0.0)
    tree = session.tree.tree_pid
    session.terminate()
    session.kill()
    events = to_the_end(session)
    assert isinstance(events[-1], SessionOver)
    eventually(lambda: not os.path.exists(f"/proc/{tree}"))
    session.kill()  # harmless once it is over
    assert SCRIPTED[0] == sys.executable

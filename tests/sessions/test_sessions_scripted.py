"""The stand-in agent CLI, run as a real process; its stream is read by its adapter."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests_support import eventually

from swarm.core.model import Outcome, Usage
from swarm.sessions import scripted
from swarm.sessions.model import LaunchRequest, Problem, SessionEvent, Summary
from swarm.sessions.outcome import Evidence, Verdict, decide
from swarm.sessions.registry import adapter
from swarm.wire.spawn import RuntimeSpec

NOW = 1_795_175_200.0
COMMAND = (sys.executable, "-m", "swarm.sessions.scripted")


@dataclass
class Seen:
    """What one run left."""

    status: int
    events: list[SessionEvent]
    stdout: bytes
    stderr: bytes

    @property
    def summary(self) -> Summary:
        summary = Summary()
        for event in self.events:
            summary = summary.heard(event)
        return summary

    def verdict(self, question: str = "") -> Verdict:
        return decide(Evidence(self.summary, self.status, question=question), NOW, 0.0)


class Place:
    """A repository, an out and a state directory, and the CLI run there."""

    def __init__(self, root: Path) -> None:
        self.repo, self.out, self.state = root / "repo", root / "out", root / "state"
        self.repo.mkdir()
        self.git("init", "-q")

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.repo, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def argv(self, prompt: str, resume: str | None = None) -> tuple[str, ...]:
        request = LaunchRequest(
            runtime=RuntimeSpec(name="scripted", adapter="scripted", command=COMMAND),
            prompt=prompt,
            prompt_file=str(self.state / "prompt.md"),
            workspace=str(self.repo),
            out_dir=str(self.out),
            state_dir=str(self.state),
            task_id="t-1",
            resume_session=resume,
        )
        launch = adapter("scripted").launch(request)
        for path, text in launch.files.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text)
        return launch.argv

    def start(self, prompt: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv(prompt),
            cwd=self.repo,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, prompt: str, resume: str | None = None, **env: str) -> Seen:
        done = subprocess.run(
            self.argv(prompt, resume),
            cwd=self.repo,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
            env={"PATH": os.environ["PATH"], "HOME": str(self.repo.parent), **env},
        )
        parser = adapter("scripted").parser()
        events = parser.feed(done.stdout) + parser.feed_stderr(done.stderr) + parser.finish()
        return Seen(done.returncode, events, done.stdout, done.stderr)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_work_becomes_a_commit_with_usage_result_and_session_id(place: Place) -> None:
    seen = place.run(
        "Please do this.\nwrite src/a.txt one\\ntwo\nappend src/a.txt three\nusage 100 20 0.5\n"
        "usage 1 2\nrun echo out; exit 3\nout notes.md for you\ncommit made it\nanswer all fine"
    )
    assert seen.verdict() == Verdict(Outcome.SUCCEEDED, "", "all fine")
    assert seen.summary.usage == Usage(101, 22, 0, 0)
    assert seen.summary.cost_usd == 0.5
    assert re.fullmatch(r"[0-9a-f-]{36}", seen.summary.session_id or "")
    assert (place.repo / "src/a.txt").read_text() == "one\ntwo\nthree\n"
    assert (place.out / "notes.md").read_text() == "for you\n"
    assert place.git("log", "--format=%s|%an") == "made it|scripted agent"
    assert b"out (exit 3)" in seen.stdout


def test_without_a_directive_it_writes_and_commits_a_note(place: Place) -> None:
    seen = place.run("- please look\ninto -- this", GIT_AUTHOR_NAME="Ann", GIT_AUTHOR_EMAIL="a@b")
    assert seen.verdict().outcome is Outcome.SUCCEEDED
    assert (place.repo / "t-1.md").read_text() == "- please look into -- this\n"
    assert place.git("log", "--format=%s|%an|%cn") == "note on t-1|Ann|Ann"


def test_a_long_prompt_goes_by_file(place: Place) -> None:
    seen = place.run("x" * 200_000 + "\nanswer read to the end")
    assert seen.verdict().result == "read to the end"


@pytest.mark.parametrize(
    ("prompt", "outcome", "status", "reason"),
    [
        ("fail it broke", Outcome.FAILED, 1, "it broke"),
        ("fail", Outcome.FAILED, 1, "it did not work"),
        ("status 7", Outcome.FAILED, 7, "exit status 7"),
        ("exit 0", Outcome.FAILED, 0, "exit status 0, but no result was told"),
        ("exit 9", Outcome.FAILED, 9, "exit status 9"),
        ("crash", Outcome.FAILED, -signal.SIGSEGV, "killed by signal 11"),
        ("overflow", Outcome.OVERFLOW, 1, "Prompt is too long"),
        ("deny WebFetch", Outcome.DENIED, 0, "WebFetch was refused"),
        ("quota", Outcome.QUOTA, 1, "You have hit your usage limit"),
        ("write ../outside.txt no", Outcome.FAILED, 1, "outside the workspace"),
        ("stderr on my way\nexit 4", Outcome.FAILED, 4, "exit status 4: on my way"),
    ],
)
def test_endings(place: Place, prompt: str, outcome: Outcome, status: int, reason: str) -> None:
    seen = place.run(prompt)
    assert seen.status == status
    found = seen.verdict()
    assert found.outcome is outcome
    assert reason in found.reason


def test_a_quota_tells_when_it_resets(place: Place) -> None:
    found = place.run("quota 2026-11-21T17:00Z").verdict()
    assert (found.outcome, found.retry_at) == (Outcome.QUOTA, 1_795_280_400.0)


def test_a_question_is_left_for_a_person(place: Place) -> None:
    seen = place.run("ask Which colour?")
    question = (place.out / "needs_human.md").read_text()
    assert seen.verdict(question).needs_human
    assert question == "Which colour?\n"


def test_output_of_every_kind_is_survived(place: Place) -> None:
    seen = place.run(
        "print 3 hello\nspam 64\nraw {not json\nenv SECRET\nread /nonexistent\nthink 0"
    )
    assert seen.verdict().outcome is Outcome.SUCCEEDED
    assert seen.stdout.count(b'"text": "hello"') == 3
    assert b"SECRET=(not set)" in seen.stdout
    assert b"No such file" in seen.stdout
    assert "{not json" in seen.summary.raw_tail


def test_once_is_for_the_first_attempt_only(place: Place) -> None:
    first = place.run("once quota\nanswer second time")
    assert first.verdict().outcome is Outcome.QUOTA
    session = first.summary.session_id
    again = place.run("once quota\nanswer second time", resume=session)
    assert again.verdict().result == "second time"
    assert again.summary.session_id == session
    assert b'"run": 2' in again.stdout


def test_again_is_for_later_attempts_and_the_prompt_can_be_kept(place: Place) -> None:
    words = "answer first time\nagain prompt told.md\nagain answer second time"
    assert place.run(words).verdict().result == "first time"
    assert not (place.out / "told.md").exists()
    assert place.run(words, resume="5d41402a").verdict().result == "second time"
    assert (place.out / "told.md").read_text() == words


def test_once_is_also_over_when_another_agent_has_tried(place: Place) -> None:
    prompt = "<earlier>\nattempt 1: quota\n</earlier>\n\n<task>\nonce fail\nanswer ok\n</task>"
    assert place.run(f"\n{prompt}").verdict().result == "ok"


def test_retrying_goes_on_and_becomes_hopeless(place: Place) -> None:
    run = place.start("retrying 429")
    assert run.stdout is not None
    assert run.stderr is not None
    parser = adapter("scripted").parser()
    fatal = False
    while not fatal:
        events = parser.feed(run.stdout.readline())
        fatal = any(isinstance(event, Problem) and event.fatal for event in events)
    run.kill()
    run.wait()
    run.stdout.close()
    run.stderr.close()


def sleepers(seconds: str) -> list[int]:
    """The processes that sleep exactly so long: the number is this test's own."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            argv = Path(f"/proc/{entry}/cmdline").read_bytes() if entry.isdigit() else b""
        except OSError:
            continue  # gone meanwhile
        if argv.split(b"\0")[:2] == [b"sleep", seconds.encode()]:
            found.append(int(entry))
    return found


@pytest.fixture
def odd() -> Iterator[str]:
    """A number of seconds nobody else sleeps; who does is ended."""
    seconds = str(900 + int.from_bytes(os.urandom(4)) / 2**33)
    yield seconds
    for pid in sleepers(seconds):
        os.kill(pid, signal.SIGKILL)


def test_it_leaves_processes_behind_as_told(place: Place, odd: str) -> None:
    seen = place.run(f"setsid {odd}\ndaemonize {odd}\nfork 2 {odd}")
    assert seen.verdict().outcome is Outcome.SUCCEEDED
    pids = eventually(lambda: found if len(found := sleepers(odd)) == 4 else [])
    environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in pids]
    assert environments.count(b"") == 1
    leaders = [pid for pid in pids if os.getsid(pid) == pid]
    assert len(leaders) == 2


def test_it_ignores_term_when_told_and_hangs(place: Place) -> None:
    run = place.start("ignore-term\nprint 1 ready\nhang")
    assert run.stdout is not None
    assert run.stderr is not None
    while b"ready" not in run.stdout.readline():
        pass
    run.terminate()
    run.terminate()
    assert run.poll() is None
    run.kill()
    assert run.wait() == -signal.SIGKILL
    run.stdout.close()
    run.stderr.close()


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_it_takes_memory_and_processor_time(place: Place) -> None:
    before = processor_seconds()
    seen = place.run("alloc 48\nburn 0.2\nrun grep VmRSS /proc/$PPID/status")
    assert processor_seconds() - before >= 0.2
    found = re.search(rb"VmRSS:\\t\s*(\d+) kB", seen.stdout)
    assert found is not None
    assert int(found[1]) > 48 * 1024


def test_plain_words_are_no_directives() -> None:
    for line in (
        "write tests",
        "print the report",
        "think about it",
        "hang on",
        "crash the party",
        "once upon a time",
        "once " * 2000 + "hang",
        "exit strategy",
        "Write a.txt hello",
        "",
        "run",
    ):
        assert scripted.directive(line) is None, line
    for line in ("write a b", "hang", "commit", "think 1", "once fail", " exit 3"):
        assert scripted.directive(line) is not None, line


def test_help_names_every_directive() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert all(re.search(rf"^ .*\b{verb}\b", done.stdout, re.M) for verb in scripted.VERBS)
    bad = subprocess.run([*COMMAND, "--nope"], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert "unknown option --nope" in bad.stderr
    missing = subprocess.run(
        [*COMMAND, "--prompt-file", "/nonexistent"], capture_output=True, text=True, check=False
    )
    assert (missing.returncode, "No such file" in missing.stderr) == (2, True)

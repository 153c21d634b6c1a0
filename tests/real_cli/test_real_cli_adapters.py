"""The adapters against the real programs: each CLI runs for a stand-in provider on loopback."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_cli_install import PACKAGES, CannotInstall, program, quiet
from standin_provider import RESETS, Provider, point, standin_provider

from swarm.core.model import Outcome, Usage
from swarm.sessions.model import Adapter, Launch, LaunchRequest, Problem, Summary
from swarm.sessions.outcome import Evidence, Verdict, decide
from swarm.sessions.registry import adapter
from swarm.wire.spawn import RuntimeSpec

pytestmark = [pytest.mark.real_cli, pytest.mark.timeout(600)]

NOW = 1_795_175_200.0
PATIENCE = 90.0
"""Seconds a run may take before it is killed: opencode's first one unpacks itself."""


@dataclass
class Ran:
    """One run of a CLI."""

    summary: Summary
    status: int
    fatal: bool
    tells_result: bool
    notes: str

    @property
    def verdict(self) -> Verdict:
        ended_by = Outcome.QUOTA if self.fatal else None
        evidence = Evidence(self.summary, self.status, self.tells_result, ended_by=ended_by)
        return decide(evidence, NOW, 0.0)


class Bench:
    """A person's home, a repository, and one CLI pointed at the provider."""

    def __init__(self, cli: str, root: Path, provider: Provider) -> None:
        self.cli, self.root, self.provider = cli, root, provider
        self.home, self.repo, self.out = root / "home", root / "repo", root / "out"
        for place in (self.home, self.repo, self.out):
            place.mkdir()
        try:
            path = program(cli)
        except CannotInstall as reason:
            pytest.skip(f"{cli} cannot be had here: {reason}")
        env = point(cli, provider.address, self.home) | quiet(cli, path)
        self.runtime = RuntimeSpec(name=cli, adapter=cli, command=(str(path),), env=env)
        who = {f"GIT_{who}_NAME": "agent" for who in ("AUTHOR", "COMMITTER")}
        who |= {f"GIT_{who}_EMAIL": "agent@localhost" for who in ("AUTHOR", "COMMITTER")}
        tmp = root / "tmp"
        tmp.mkdir()
        places = dict.fromkeys(("TMPDIR", "CLAUDE_CODE_TMPDIR", "BUN_TMPDIR"), str(tmp))
        self.base = {"PATH": os.environ["PATH"], "HOME": str(root / "scrubbed"), **places, **who}
        self.git("init", "-q", "-b", "main")
        self.git("commit", "-q", "--allow-empty", "-m", "start")

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=self.repo,
            env=self.base,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def run(
        self,
        prompt: str,
        bypass: bool = True,
        resume: str | None = None,
        before: Usage | None = None,
    ) -> Ran:
        adapting = adapter(self.cli)
        launch = adapting.launch(
            LaunchRequest(
                runtime=self.runtime,
                prompt=prompt,
                prompt_file=str(self.root / "prompt.md"),
                workspace=str(self.repo),
                out_dir=str(self.out),
                state_dir=str(self.root / "state"),
                task_id="t-1",
                resume_session=resume,
                bypass_permissions=bypass,
                environ={"HOME": str(self.home)},
            )
        )
        prepare(launch)
        with subprocess.Popen(
            launch.argv,
            cwd=self.repo,
            env={**self.base, **launch.env, **self.runtime.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                return follow(process, adapting, before or Usage())
            finally:
                kill(process)


def prepare(launch: Launch) -> None:
    """Make what a launch asks for, as the daemon does."""
    for directory in launch.directories:
        Path(directory).mkdir(parents=True, exist_ok=True)
    for path, text in launch.files.items():
        Path(path).write_text(text)
    for link, target in launch.links.items():
        Path(link).unlink(missing_ok=True)
        if Path(target).exists():
            Path(link).symlink_to(target)


def follow(process: subprocess.Popen[bytes], adapting: Adapter, before: Usage) -> Ran:
    """Read both pipes to their ends; a fatal problem ends the run, as it does in a daemon."""
    parser = adapting.parser(before)
    summary, fatal, notes = Summary(), False, b""
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, parser.feed)
        selector.register(process.stderr, selectors.EVENT_READ, parser.feed_stderr)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            if not ready:
                kill(process)
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                notes += data
                for event in key.data(data):
                    summary = summary.heard(event)
                    fatal = fatal or (isinstance(event, Problem) and event.fatal)
                if fatal:
                    kill(process)
    for event in parser.finish():
        summary = summary.heard(event)
    said = notes[-4000:].decode("utf-8", "replace")
    return Ran(summary, process.wait(), fatal, adapting.tells_result, said)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the CLI and what it started; its launcher's own process group holds them."""
    with suppress(ProcessLookupError):  # all gone
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(params=sorted(PACKAGES))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with standin_provider() as provider:
        yield Bench(request.param, tmp_path, provider)


def test_work_becomes_a_commit_with_tokens_and_a_session_that_resumes(bench: Bench) -> None:
    ran = bench.run("--help is what this begins with; make the file")
    assert ran.verdict == Verdict(
        Outcome.SUCCEEDED, "", "Done: wrote made.txt and committed it."
    ), ran.notes
    assert bench.git("log", "--format=%s|%an") == "add made|agent\nstart|agent"
    usage = ran.summary.usage
    assert (usage.input_tokens, usage.output_tokens) == (2400, 68)
    assert ran.summary.tool_calls == 1
    if bench.cli == "claude":
        assert ran.summary.cost_usd
        assert ran.summary.cost_usd > 0
    elif bench.cli == "codex":
        assert ran.summary.cost_usd is None

    bench.provider.mode = "talk"
    again = bench.run("-and once more", resume=ran.summary.session_id, before=usage)
    assert again.verdict.outcome is Outcome.SUCCEEDED, again.notes
    assert again.summary.session_id == ran.summary.session_id
    second = again.summary.usage
    assert (second.input_tokens, second.output_tokens) == (1200, 34)


def test_a_session_it_does_not_know_is_a_failure_with_its_words(bench: Bench) -> None:
    unknown = {
        "claude": "11111111-2222-3333-4444-555555555555",
        "codex": "01a1f924-7aba-7030-8700-de69e1dfe1ff",
        "opencode": "ses_e06db7c00ffeEdGy0rNIo3kpP5",
    }
    ran = bench.run("go on", resume=unknown[bench.cli])
    found = ran.verdict
    assert found.outcome is Outcome.FAILED
    told = Evidence(ran.summary, ran.status, ran.tells_result, resumed=True)
    assert decide(told, NOW, 0.0).outcome is Outcome.LOST, "the next attempt must start afresh"
    assert any(word in found.reason for word in ("No conversation", "no rollout", "not found"))


def test_a_full_context_is_overflow(bench: Bench) -> None:
    bench.provider.mode = "overflow"
    ran = bench.run("make the file")
    assert ran.verdict.outcome is Outcome.OVERFLOW, ran.notes


@pytest.mark.parametrize("mode", ["429", "429-retried"])
def test_a_quota_is_quota_and_never_waited_for(bench: Bench, mode: str) -> None:
    if mode == "429-retried" and bench.cli != "claude":
        pytest.skip("only claude tells the two apart")
    bench.provider.mode = mode
    ran = bench.run("make the file")
    assert ran.verdict.outcome is Outcome.QUOTA, ran.notes
    if mode == "429" and bench.cli != "codex":  # which keeps the provider's words to itself
        assert RESETS in ran.verdict.reason


def test_without_bypass_it_is_denied_or_works_in_its_own_sandbox(bench: Bench) -> None:
    ran = bench.run("make the file", bypass=False)
    if bench.cli == "claude":
        assert ran.verdict.outcome is Outcome.DENIED, ran.notes
        assert "Bash was refused" in ran.verdict.reason
    else:
        assert ran.verdict.outcome is Outcome.SUCCEEDED, ran.notes

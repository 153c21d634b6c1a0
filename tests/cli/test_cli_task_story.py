"""Retrying a task with a word to it, and taking its whole story along."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_fake import Ran

from swarm.cli import task_export
from swarm.config.places import Places
from swarm.core.model import Outcome, TaskState
from swarm.errors import SwarmError
from swarm.ledger import Ledger, NewTask, open_ledger
from swarm.wire.lifeline import Finished

Cli = Callable[..., Ran]
AGENT, AGENT_ID = "swarm-builder-001", "0123456789abcdef"


@pytest.fixture
def ledger(places: Places) -> Iterator[Ledger]:
    with open_ledger(places.ledger) as opened:
        yield opened


def failed(ledger: Ledger, prompt: str = "x") -> str:
    """A task whose only attempt failed."""
    task = ledger.submit(NewTask(prompt))
    claimed = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    ledger.begin(task, claimed.fence, AGENT, time.time())
    ledger.finish(Finished(task, claimed.fence, Outcome.FAILED, "no"), AGENT, commits=["a" * 40])
    return task


class Work:
    """A repository and a hub with a task's branch, made step by step."""

    def __init__(self, home: Path, ledger: Ledger, folder: Path | None = None) -> None:
        self.here = home / "work"
        self.here.mkdir()
        self.hub = home / "hub" / "x.git"
        self.run("init", "-q", "-b", "main")
        self.base = self.commit("a.txt", "one\n")
        new = NewTask("do it", folder=str(folder) if folder is not None else "")
        self.task = ledger.submit(new)
        claimed = ledger.claim(self.task, AGENT, AGENT_ID, 90.0)
        assert claimed is not None
        assert claimed.task.branch is not None
        ledger.begin(self.task, claimed.fence, AGENT, time.time())
        self.branch, self.fence = claimed.task.branch, claimed.fence
        self.run("checkout", "-q", "-b", self.branch)

    def run(self, *words: str) -> str:
        named = ("-c", "user.name=x", "-c", "user.email=x@y")
        done = subprocess.run(
            ["git", *named, *words], cwd=self.here, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, name: str, text: str) -> str:
        (self.here / name).write_text(text)
        self.run("add", "-A")
        self.run("commit", "-qm", f"write {name}")
        return self.run("rev-parse", "HEAD")

    def end(self, ledger: Ledger) -> None:
        """The branch is in the hub, the report in the ledger."""
        self.hub.parent.mkdir(exist_ok=True)
        subprocess.run(["git", "clone", "-q", "--bare", str(self.here), str(self.hub)], check=True)
        commits = self.run("rev-list", "--reverse", f"main..{self.branch}").split()
        finished = Finished(
            self.task,
            self.fence,
            Outcome.SUCCEEDED,
            commit=commits[-1],
            commits=len(commits),
            start=self.base,
        )
        ledger.finish(finished, AGENT, commits=commits)


# -- retry


def test_a_retry_may_be_told_something(cli: Cli, ledger: Ledger) -> None:
    task = failed(ledger)
    assert cli("task", "retry", task, "use the  other parser").out == f"{task} is queued again\n"
    claimed = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    assert "use the  other parser" in claimed.feedback
    (remark,) = ledger.remarks(task)
    assert remark.author == "person"


def test_a_fresh_retry_names_where_the_old_work_is_kept(cli: Cli, ledger: Ledger) -> None:
    one, two = failed(ledger), failed(ledger)
    ran = cli("task", "retry", "--fresh", one, two)
    kept = f"on a new branch; the old one is kept as swarm/{AGENT}/"
    assert ran.out == f"{one} is queued again {kept}{one}\n{two} is queued again {kept}{two}\n"
    found = ledger.task(one)
    assert found is not None
    assert (found.state, found.branch, found.commits) == (TaskState.QUEUED, None, None)


@pytest.mark.parametrize("words", [["a text alone"], ["a b", "c d"], ["a b", "t-1"]])
def test_a_text_is_of_a_task(cli: Cli, ledger: Ledger, words: list[str]) -> None:
    failed(ledger)
    ran = cli("task", "retry", *words)
    assert ran.code == 2
    assert "agentctl task retry ID" in ran.err


# -- export


def test_the_whole_story_of_a_task(cli: Cli, ledger: Ledger, places: Places) -> None:
    folder = places.task_folder("one")
    (folder / "input").mkdir(parents=True)
    (folder / "input" / "spec.md").write_text("as here")
    (folder / "results" / "1").mkdir(parents=True)
    (folder / "results" / "1" / "out.txt").write_text("made")
    (folder / "results" / "latest").symlink_to("1")
    os.mkfifo(folder / "results" / "pipe")
    work = Work(places.home, ledger, folder)
    work.commit("b.bin", "two \x00\n")
    work.end(ledger)
    places.session_log(work.task, 1).parent.mkdir(parents=True)
    places.session_log(work.task, 1).write_text('{"type":"result"}\n')
    places.session_prompt(work.task, 1).write_text("<task>do it</task>")
    place = places.home / "story"
    ran = cli("task", "export", work.task, str(place))
    assert (ran.code, ran.out) == (0, f"{place}\n")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()) == [
        "attempts/1/attempt.json",
        "attempts/1/log.jsonl",
        "attempts/1/prompt.md",
        "events.jsonl",
        "input/spec.md",
        "prompt.md",
        "remarks.md",
        "results/1/out.txt",
        "task.json",
        "work.bundle",
        "work.patch",
    ]
    assert os.readlink(place / "results" / "latest") == "1"
    shown = json.loads((place / "task.json").read_text())
    assert shown["id"] == work.task
    assert shown["attempts"][0]["base"] == work.base
    assert shown["attempts"][0]["tip"] == work.run("rev-parse", "HEAD")
    assert shown["attempts"][0]["prompt_file"] == str(places.session_prompt(work.task, 1))
    kinds = [json.loads(line)["kind"] for line in (place / "events.jsonl").read_text().splitlines()]
    assert kinds[:3] == ["submitted", "claimed", "begun"]
    assert (place / "prompt.md").read_text() == "do it"
    assert not list(places.home.glob(".story*"))
    shown_text = cli("task", "show", work.task).out
    assert f"told: {places.session_prompt(work.task, 1)}" in shown_text
    assert f"{work.base[:9]}.." in shown_text

    other = places.home / "other"  # the work, taken along into a repository that has the base
    subprocess.run(["git", "clone", "-q", "-b", "main", str(work.here), str(other)], check=True)
    subprocess.run(["git", "apply", str(place / "work.patch")], cwd=other, check=True)
    assert (other / "b.bin").read_text() == "two \x00\n"
    fetch = ["git", "fetch", "-q", str(place / "work.bundle"), work.branch]
    subprocess.run(fetch, cwd=other, check=True)


def test_a_task_without_work_has_a_story_too(cli: Cli, ledger: Ledger, home: Path) -> None:
    task = ledger.submit(NewTask("later"))
    assert cli("task", "export", task[2:6], str(home / "story")).code == 0
    names = ["events.jsonl", "prompt.md", "remarks.md", "task.json"]
    assert sorted(os.listdir(home / "story")) == names


def test_what_is_there_is_not_written_over(cli: Cli, ledger: Ledger, home: Path) -> None:
    task = ledger.submit(NewTask("x"))
    (home / "dangling").symlink_to(home / "nowhere")
    (home / "empty").mkdir()
    for name in ("dangling", "empty"):
        ran = cli("task", "export", task, str(home / name))
        assert ran.code == 2
        assert "is there already" in ran.err
    assert os.listdir(home / "empty") == []
    assert cli("task", "export", task, str(home / "no" / "such")).code == 1


def test_an_export_is_there_whole_or_not_at_all(home: Path) -> None:
    def fill(part: Path) -> None:
        (part / "half").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(SwarmError, match="No space left"):
        task_export.whole(home / "story", fill)
    assert [name for name in os.listdir(home) if "story" in name] == []


def test_a_diff_leaves_out_what_was_merged_in(cli: Cli, ledger: Ledger, places: Places) -> None:
    work = Work(places.home, ledger)
    work.commit("mine.txt", "mine\n")
    work.run("checkout", "-q", "main")
    work.commit("theirs.txt", "theirs\n")
    work.run("checkout", "-q", work.branch)
    work.run("merge", "-q", "--no-edit", "main")
    work.commit("more.txt", "more\n")
    work.end(ledger)
    place = places.home / "story"
    assert cli("task", "export", work.task, str(place)).code == 0
    patch = (place / "work.patch").read_text()
    assert "mine.txt" in patch
    assert "more.txt" in patch
    assert "theirs.txt" not in patch


def test_work_that_a_clean_up_saved_is_exported_and_a_retry_says_where_it_is(
    cli: Cli, ledger: Ledger, places: Places
) -> None:
    """The second clean-up of a task, after a retry, saves beside what the first one saved."""
    work = Work(places.home, ledger)
    work.commit("mine.txt", "mine\n")
    work.end(ledger)
    tip, saved = work.run("rev-parse", "HEAD"), f"refs/agentctl/salvage/{work.branch}"
    git = ["git", f"--git-dir={work.hub}", "update-ref"]
    for words in (
        [saved, work.base],
        [f"{saved}.{tip[:12]}", tip],
        ["-d", f"refs/heads/{work.branch}"],
    ):
        subprocess.run([*git, *words], check=True)
    place = places.home / "story"
    ran = cli("task", "export", work.task, str(place))
    assert (ran.code, ran.err) == (0, "")
    assert "mine.txt" in (place / "work.patch").read_text()
    assert tip in work.run("bundle", "list-heads", str(place / "work.bundle"))
    ran = cli("task", "retry", work.task)
    assert ran.out == f"{work.task} is queued again\n"
    assert ran.err.endswith(f"it begins anew; earlier work is kept as {saved}.{tip[:12]}\n")

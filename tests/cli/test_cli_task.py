"""The task commands against a real ledger."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_fake import FakeSupervisor, Ran

from swarm.cli import task_wait
from swarm.config.places import Places
from swarm.core.model import Outcome, TaskState, Usage
from swarm.desk.verbs import Desk
from swarm.ledger import Ledger, NewTask, open_ledger
from swarm.wire import control
from swarm.wire.lifeline import Finished

Cli = Callable[..., Ran]
AGENT = "swarm-builder-001"


@pytest.fixture
def ledger(places: Places) -> Iterator[Ledger]:
    with open_ledger(places.ledger) as opened:
        yield opened


def begin(ledger: Ledger, task: str) -> int:
    claimed = ledger.claim(task, AGENT, "0123456789abcdef", 90.0)
    assert claimed is not None
    assert ledger.begin(task, claimed.fence, AGENT, time.time()) is not None
    return claimed.fence


def end(
    ledger: Ledger,
    task: str,
    fence: int,
    outcome: Outcome = Outcome.SUCCEEDED,
    commits: tuple[str, ...] = (),
    reason: str = "",
) -> None:
    ledger.finish(
        Finished(
            task,
            fence,
            outcome,
            reason=reason,
            result="all \x1b[2Jgood",
            usage=Usage(1200, 340),
            cost_usd=0.0123,
            session_id="s-1",
            exit_status=0,
            commit=commits[-1] if commits else None,
            commits=len(commits),
        ),
        AGENT,
        commits=commits,
    )


def test_add_prints_the_id_and_says_that_it_waits(cli: Cli, places: Places) -> None:
    ran = cli("task", "add", "Fix", "the typo")
    assert ran.code == 0
    assert ran.err == "no swarm is running: the task waits for 'agentctl swarm up'\n"
    with open_ledger(places.ledger) as ledger:
        [task] = ledger.tasks()
        assert ran.out == f"{task.id}\n"
        assert (task.state, task.role, task.title) == (TaskState.QUEUED, "builder", "Fix the typo")
    assert places.home.stat().st_mode & 0o077 == 0


def test_add_with_everything(cli: Cli, ledger: Ledger, supervisor: FakeSupervisor) -> None:
    first = ledger.submit(NewTask(prompt="first"))
    more = ["--role", "qa", "--component", "parser", "--priority", "7", "--title", "T"]
    ran = cli("task", "add", *more, "--after", first[:7], "--json", "Do it")
    told = json.loads(ran.out)
    assert told == {"version": 1, "id": told["id"], "state": "queued", "swarm_running": True}
    task = ledger.task(told["id"])
    assert task is not None
    assert (task.role, task.component, task.priority, task.title, task.blocked) == (
        "qa", "parser", 7, "T", 1,
    )  # fmt: skip
    assert supervisor.heard == [control.PokeLedger()], "the coordinator is woken, it does not poll"
    assert ran.err == ""


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_add_reads_standard_input(
    cli: Cli, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, "Überschrift\n\nmore\n".encode())
    task = cli("task", "add", "-").out.strip()
    assert ledger.prompt(task) == "Überschrift\n\nmore\n"


@pytest.mark.parametrize("data", [b"", b" \n", b"\xff\xfe", b"x" * 400_000, b"a\0b"])
def test_bad_standard_input(
    data: bytes, cli: Cli, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, data)
    ran = cli("task", "add", "-")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert ledger.tasks() == []


def test_list(cli: Cli, ledger: Ledger) -> None:
    assert cli("task", "list").out == "no tasks; 'agentctl task add' adds one\n"
    ids = [ledger.submit(NewTask(prompt=f"task \x1b[31m {n}")) for n in range(3)]
    begin(ledger, ids[1])
    out = cli("task", "list").out
    assert [line.split()[0] for line in out.splitlines()[1:]] == ids
    assert "\x1b" not in out
    running = json.loads(cli("task", "list", "--state", "running", "--json").out)
    assert running["version"] == 1
    assert [task["id"] for task in running["tasks"]] == [ids[1]]
    assert "the newest 2 of 3" in cli("task", "list", "-n", "2").out
    assert cli("task", "list", "--role", "qa").out == "no such tasks\n"


def test_show(cli: Cli, ledger: Ledger, places: Places) -> None:
    task = ledger.submit(NewTask(prompt="do\x1b[2J\nthis", title="A [bold]title[/]"))
    fence = begin(ledger, task)
    end(ledger, task, fence, commits=("a" * 40,))
    told = json.loads(cli("task", "show", task[:5], "--json").out)
    assert told["version"] == 1
    assert (told["id"], told["state"], told["result"]) == (task, "done", "branch")
    [attempt] = told["attempts"]
    assert attempt["log"] == str(places.session_log(task, 1))
    assert attempt["usage"]["cache_read_tokens"] is None
    out = cli("task", "show", task.removeprefix("t-")).out
    assert "A [bold]title[/]" in out
    assert "1200 in, 340 out" in out
    assert "$0.0123" in out
    assert "\x1b" not in out
    assert "git fetch" not in out, "no hub has the branch"


@pytest.fixture
def landed(ledger: Ledger, places: Places) -> str:
    """A finished task whose branch with one commit lies in a hub."""
    work = places.home / "work"
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-C", str(work)]

    def run(*arguments: str) -> str:
        done = subprocess.run([*git, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    subprocess.run(["git", "init", "-q", str(work)], check=True)
    (work / "a.txt").write_text("one\n")
    run("add", "-A")
    run("commit", "-qm", "first")
    task = ledger.submit(NewTask(prompt="x"))
    fence = begin(ledger, task)
    found = ledger.task(task)
    assert found is not None
    assert found.branch is not None
    run("checkout", "-q", "-b", found.branch)
    (work / "a.txt").write_text("two \x1b[31m\n")
    run("commit", "-qam", "second")
    places.hub.mkdir()
    (places.hub / "no-repository").mkdir()
    subprocess.run(
        ["git", "clone", "-q", "--bare", str(work), str(places.hub / "x.git")], check=True
    )
    end(ledger, task, fence, commits=(run("rev-parse", "HEAD"),))
    return task


def test_show_says_how_to_get_the_work_out(cli: Cli, landed: str, places: Places) -> None:
    out = cli("task", "show", landed).out
    [command] = [line for line in out.splitlines() if "git fetch" in line]
    fetched = places.home / "fetched"
    subprocess.run(["git", "init", "-q", str(fetched)], check=True)
    subprocess.run(["sh", "-c", command.strip()], cwd=fetched, check=True, capture_output=True)
    shown = subprocess.run(
        ["git", "show", "FETCH_HEAD:a.txt"], cwd=fetched, check=True, capture_output=True
    )
    assert shown.stdout == b"two \x1b[31m\n"


def test_diff_piped_is_git_s_own_and_on_a_terminal_harmless(
    landed: str, home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "swarm.cli", "task", "diff", landed], capture_output=True
    )
    assert done.returncode == 0
    assert b"\n-one\n+two \x1b[31m\n" in done.stdout
    monkeypatch.setattr("swarm.cli.task_diff.on_terminal", lambda: True)
    paged: list[str] = []
    monkeypatch.setattr("click.echo_via_pager", paged.append)
    assert cli("task", "diff", landed).code == 0
    assert "+two \\x1b[31m" in paged[0]


def test_diff_without_commits(cli: Cli, ledger: Ledger, landed: str) -> None:
    ran = cli("task", "diff", ledger.submit(NewTask(prompt="x")))
    assert ran.code == 1
    assert "no branch yet: it is queued" in ran.err


def test_cancel_and_retry(cli: Cli, ledger: Ledger, supervisor: FakeSupervisor) -> None:
    task = ledger.submit(NewTask(prompt="x"))
    assert cli("task", "cancel", task).out == f"{task} is cancelled\n"
    assert cli("task", "retry", task[:6]).out == f"{task} is queued again\n"
    assert cli("task", "retry", task).code == 2
    begin(ledger, task)
    assert "its session is being ended" in cli("task", "cancel", task).out
    assert set(supervisor.heard) == {control.PokeLedger()}


def test_wait_for_what_has_ended(cli: Cli, ledger: Ledger) -> None:
    good, bad, asked = (ledger.submit(NewTask(prompt=str(n))) for n in range(3))
    end(ledger, good, begin(ledger, good))
    end(ledger, bad, begin(ledger, bad), Outcome.FAILED, reason="it \x07broke")
    end(ledger, asked, begin(ledger, asked), Outcome.DENIED, reason="may I?")
    ran = cli("task", "wait", good)
    assert ran.code == 0
    assert f"{good} done" in ran.out
    ran = cli("task", "wait", good, bad, "--quiet")
    assert (ran.code, ran.out) == (3, "")
    assert f"{bad} failed: it " in ran.err
    assert "\x07" not in ran.err
    ran = cli("task", "wait", asked)
    assert ran.code == 3
    assert "needs_human" in ran.err


def test_wait_times_out_with_124(cli: Cli, ledger: Ledger) -> None:
    task = ledger.submit(NewTask(prompt="x"))
    ran = cli("task", "wait", task, "--timeout", "0.05")
    assert ran.code == 124
    assert f"{task} queued" in ran.err
    assert "no swarm is running" in ran.err


def test_wait_any_returns_with_the_first(cli: Cli, ledger: Ledger) -> None:
    slow, quick = ledger.submit(NewTask(prompt="a")), ledger.submit(NewTask(prompt="b"))
    end(ledger, quick, begin(ledger, quick))
    assert cli("task", "wait", slow, quick, "--any").code == 0


def test_wait_sees_changes_by_another_process(places: Places, ledger: Ledger) -> None:
    task = ledger.submit(NewTask(prompt="x"))
    told: list[str] = []
    waiting = threading.Event()

    def tell(found: task_wait.Seen) -> None:
        told.append(str(found.task.state))
        waiting.set()

    def work() -> None:
        assert waiting.wait(10)
        with open_ledger(places.ledger) as other:
            end(other, task, begin(other, task))

    worker = threading.Thread(target=work)
    worker.start()
    ended = task_wait.watch(Desk(places, ledger, lambda: None), [task], 20, False, tell)
    worker.join()
    assert [one.state for one in ended] == [TaskState.DONE]
    assert (told[0], told[-1]) == ("queued", "done")

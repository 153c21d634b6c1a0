"""People are told, at least once, by real programs and a real HTTP server on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests_support import eventually, eventually_async

from swarm.coordinator import notices as module
from swarm.coordinator.notices import Notices
from swarm.coordinator.telling import addressed, hook_of, kind_of, of_fleet, wants
from swarm.core.model import NoticeKind, Outcome, Review, TaskState
from swarm.errors import LedgerError
from swarm.ledger import Event, NewTask, SqliteLedger, Task
from swarm.logs import JsonLog
from swarm.sandbox.guard import guard_command
from swarm.wire.lifeline import Finished, NotifyRule

WRITE = "cat >> told; echo >> told"
"""A hook's program: one line for each notice, in the home."""


class World:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.ledger = SqliteLedger(home / "ledger.db")
        self.review = Review.HUMAN
        self.fence = 0
        self.notices: Notices
        self.troubles: list[str] = []
        self._running: asyncio.Task[None] | None = None

    def start(self, *rules: NotifyRule) -> None:
        log = JsonLog(self.home / "log")
        self.notices = Notices(
            self.ledger, self.home, lambda _task: self.review, log, trouble=self.troubled
        )
        self.notices.use(rules)
        self._running = asyncio.create_task(self.notices.run())

    def troubled(self, about: str, text: str) -> None:
        assert about.startswith("notify ")
        self.troubles.append(text)

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    def ends(self, outcome: Outcome = Outcome.FAILED, prompt: str = "x", **more: Any) -> str:
        """One task that came to this end."""
        folder = more.pop("folder", "")
        task = self.ledger.submit(NewTask(prompt, folder=folder))
        claimed = self.ledger.claim(task, "swarm-builder-001", "a" * 16, 90)
        assert claimed is not None
        self.ledger.finish(
            Finished(task=task, fence=claimed.fence, outcome=outcome, **more), "swarm-builder-001"
        )
        if self._running is not None:
            self.notices.look()
        return task

    def told(self, name: str = "told") -> list[dict[str, Any]]:
        path = self.home / name
        if not path.exists():
            return []
        lines = [line for line in path.read_text().splitlines() if line]
        return [json.loads(line) for line in lines]

    async def until_told(self, count: int, name: str = "told") -> list[dict[str, Any]]:
        await eventually_async(
            lambda: len(self.told(name)) >= count, say=f"{self.log()} {self.told(name)}"
        )
        return self.told(name)

    def log(self) -> str:
        path = self.home / "log"
        return path.read_text() if path.exists() else ""

    async def settled(self) -> None:
        """Nothing waits to be told."""
        await eventually_async(
            lambda: (
                self.notices._seen == self.ledger.last_event() and self.ledger.next_notice() is None
            ),
            say=self.log(),
        )


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.stop()
    made.ledger.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried again soon."""
    monkeypatch.setattr(module, "RETRY_FIRST", 0.01)


def by(script: str = WRITE, *on: str, seconds: float = 20) -> NotifyRule:
    return NotifyRule(on or ("*",), command=("sh", "-c", script), timeout_seconds=seconds)


async def test_a_program_gets_the_event_on_its_standard_input(world):
    world.start(by("cat > told; echo $AGENTCTL_EVENT $AGENTCTL_TASK $AGENTCTL_HOME > env"))
    task = world.ends(reason="it broke", prompt="Fix it\nsoon")
    (told,) = await world.until_told(1)
    assert told | {"at": None} == {
        "version": 1, "event": "failed", "text": "it broke", "at": None, "home": str(world.home),
        "task": task, "title": "Fix it", "state": "failed", "result": None, "role": "builder",
        "branch": f"swarm/swarm-builder-001/{task}", "agent": "swarm-builder-001",
        "todo": f"agentctl task retry {task}",
    }  # fmt: skip
    assert told["at"].endswith("Z")
    await world.settled()
    assert (world.home / "env").read_text().split() == ["failed", task, str(world.home)]


async def test_its_environment_is_scrubbed_and_nothing_hostile_is_in_its_arguments(
    world, monkeypatch
):
    monkeypatch.setenv("SECRET_API_KEY", "hush")
    rule = NotifyRule(
        ("*",), command=("sh", "-c", "env > env; tr '\\0' '\\n' < /proc/$$/cmdline > told", "x$(y)")
    )
    world.start(rule)
    world.ends(reason="$(touch hacked) `touch hacked`; touch hacked \x1b[2J")
    await world.settled()
    assert "hush" not in (world.home / "env").read_text()
    argv = (world.home / "told").read_text()
    assert "hacked" not in argv
    assert argv.rstrip().endswith("x$(y)")
    assert not (world.home / "hacked").exists()


async def test_only_the_kinds_a_rule_names(world):
    world.start(by(WRITE, "needs_human"))
    world.ends()
    world.ends(Outcome.SUCCEEDED, result="fine")
    asked = world.ends(Outcome.SUCCEEDED, needs_human=True, reason="Which colour?")
    (told,) = await world.until_told(1)
    assert (told["event"], told["task"]) == ("needs_human", asked)
    assert "Which colour?" in told["text"]
    assert told["todo"] == f"agentctl task answer {asked} TEXT"
    await world.settled()
    assert len(world.told()) == 1


async def test_what_is_done_is_told_once(world):
    world.start(by(WRITE, "done", "merged"))
    task = world.ends(Outcome.SUCCEEDED, result="All fine.")
    (told,) = await world.until_told(1)
    assert (told["event"], told["task"], told["text"]) == ("done", task, "All fine.")
    await world.settled()
    assert len(world.told()) == 1


async def test_one_that_failed_twice_is_told_the_third_time(world, quick):
    script = "cat > body; echo x >> tries; test $(wc -l < tries) -ge 3 && cat body >> told"
    world.start(by(script))
    world.ends()
    await world.until_told(1)
    await world.settled()
    assert (world.home / "tries").read_text() == "x\nx\nx\n"
    assert world.log().count("not told yet") == 2


async def test_a_hook_that_does_not_work_is_shown_until_it_does(world, quick):
    world.start(by("echo x >> tries; test $(wc -l < tries) -ge 3 || exit 7"))
    world.ends()
    await world.settled()
    assert world.troubles == ["notify: sh was not told: exit 7"] * 2 + [""]
    world.ends()
    await world.settled()
    assert len(world.troubles) == 3
    world.notices.use((by("exit 7"),))
    world.ends()
    await eventually_async(lambda: len(world.troubles) > 3)
    world.notices.use(())
    assert world.troubles[-1] == ""


async def test_it_is_given_up_after_ten_tries_with_a_line_in_the_log(world, monkeypatch):
    monkeypatch.setattr(module, "RETRY_FIRST", 0.0)
    world.start(by("echo x >> tries; echo no room >&2; exit 3"))
    world.ends()
    await world.settled()
    assert (world.home / "tries").read_text() == "x\n" * 10
    assert '"exit 3: no room"' in world.log()
    assert world.log().count('"not told"') == 1


async def test_a_program_that_hangs_ends_with_all_it_started_and_holds_up_no_other(world):
    hang = "sleep 1000 & echo $! > child; echo $$ > pid; wait"
    world.start(by(hang, seconds=0.3), by())
    world.ends()
    await world.until_told(1)
    await eventually_async(lambda: "not done within 0.3 s" in world.log())
    for name in ("child", "pid"):
        pid = int((world.home / name).read_text())
        await eventually_async(lambda pid=pid: not os.path.exists(f"/proc/{pid}"))


async def test_nothing_that_a_program_leaves_behind_stays(world):
    world.start(by("sleep 1000 & echo $! > child"))
    world.ends()
    await world.settled()
    pid = int((world.home / "child").read_text())
    await eventually_async(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_killed_coordinator_takes_the_program_with_it(tmp_path):
    script = "sleep 1000 & echo $! > child.part; mv child.part child; wait"
    code = (
        "import os, subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-I', '-S', sys.argv[1], str(os.getpid()), '1000',"
        " 'sh', '-c', sys.argv[2]], start_new_session=True)\n"
        "time.sleep(1000)\n"
    )
    program = guard_command(1000)[3]
    parent = subprocess.Popen([sys.executable, "-c", code, program, script], cwd=tmp_path)
    try:
        eventually((tmp_path / "child").exists)
    finally:
        parent.kill()
        parent.wait()
    pid = int((tmp_path / "child").read_text())
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


async def test_what_a_killed_guard_s_program_has_started_ends_with_it(world):
    world.start(by("sleep 1000 & echo $! > child.part; mv child.part child; wait"))
    world.ends()
    await eventually_async((world.home / "child").exists)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    (guard,) = [
        one for one in children if b"guard_program" in Path(f"/proc/{one}/cmdline").read_bytes()
    ]
    os.kill(int(guard), signal.SIGKILL)
    await eventually_async(lambda: "it was killed" in world.log())
    pid = int((world.home / "child").read_text())
    await eventually_async(lambda: not os.path.exists(f"/proc/{pid}"))


async def test_what_was_told_is_not_told_again_while_the_ledger_cannot_keep_it(
    world, quick, monkeypatch
):
    """A disk that was full for two seconds told the same notice as often as its program could."""
    monkeypatch.setattr(module, "LEDGER_SECONDS", 0.01)
    refused, keep = [], world.ledger.notice_told

    def notice_told(seq: int) -> None:
        if len(refused) < 5:
            refused.append(seq)
            raise LedgerError("the ledger cannot be written: disk full", "make room")
        keep(seq)

    monkeypatch.setattr(world.ledger, "notice_told", notice_told)
    world.start(by())
    world.ends()
    await world.until_told(1)
    await world.settled()
    assert (len(refused), len(world.told())) == (5, 1)


async def test_without_a_descriptor_left_it_is_told_later(world, quick, monkeypatch):
    """It was tried again at once, thousands of times a second, each with a traceback."""
    made, make = [], os.memfd_create

    def memfd_create(name: str) -> int:
        made.append(name)
        if len(made) == 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return make(name)

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    world.start(by())
    world.ends()
    await world.until_told(1)
    await world.settled()
    assert "it cannot be told now: Too many open files" in world.log()
    assert len(world.told()) == 1


async def test_a_program_that_is_not_there_is_said_to_be_missing(world):
    world.start(NotifyRule(("*",), command=("no-such-program-at-all",)))
    world.ends()
    await eventually_async(lambda: "no-such-program-at-all: [Errno 2]" in world.log())


async def test_one_that_prints_without_end_and_reads_nothing_is_no_trouble(world):
    world.start(by("head -c 3000000 /dev/zero | tr '\\0' x >&2; cat > /dev/null; touch done"))
    world.ends(result="y" * 200_000)
    await world.settled()
    assert (world.home / "done").exists()


async def test_a_restart_goes_on_where_the_last_life_was(world, quick):
    rule = by("test -e open || exit 1; " + WRITE)
    world.start(rule)
    first = world.ends()
    await eventually_async(lambda: "not told yet" in world.log())
    await world.stop()
    second = world.ends()  # while nobody listened
    (world.home / "open").touch()
    world.start(rule)
    told = await world.until_told(2)
    assert {one["task"] for one in told} == {first, second}
    await world.settled()
    await world.stop()
    world.start(rule)
    world.ends()
    assert len(await world.until_told(3)) == 3


async def test_a_kill_while_a_program_runs_tells_it_again(world):
    rule = by("cat > body; touch began; test -e open || sleep 1000; cat body >> told")
    world.start(rule)
    world.ends()
    await eventually_async((world.home / "began").exists)
    await world.stop()
    (world.home / "open").touch()
    world.start(rule)
    await world.until_told(1)


async def test_the_first_hook_is_told_of_nothing_old(world):
    world.ends()
    world.start()
    world.ends()
    await eventually_async(lambda: world.notices._seen == world.ledger.last_event())
    assert world.ledger.notice_cursor() is None
    world.notices.use((by(),))
    new = world.ends()
    (told,) = await world.until_told(1)
    assert told["task"] == new
    await world.settled()
    world.notices.use(())
    assert world.ledger.notice_cursor() is None


async def test_what_waits_for_a_hook_that_is_configured_no_more_is_dropped(world):
    world.start(by("exit 1"))
    world.ends()
    await eventually_async(lambda: "not told yet" in world.log())
    world.notices.use((by("true"),))
    await world.settled()


async def test_a_question_that_was_answered_meanwhile_is_not_told(world):
    rule = by()
    world.start(rule)
    await world.stop()
    task = world.ends(Outcome.SUCCEEDED, needs_human=True, reason="Which?")
    world.ledger.retry(task)
    new = world.ends()
    world.start(rule)
    (told,) = await world.until_told(1)
    assert told["task"] == new


async def test_the_fleets_own_are_told_too(world):
    world.start(by(WRITE, "degraded"))
    world.notices.tell(NoticeKind.QUOTA, "parked")
    world.notices.tell(NoticeKind.DEGRADED, "swarm-builder-002:\n gave up", "swarm-builder-002")
    (told,) = await world.until_told(1)
    assert (told["event"], told["agent"]) == ("degraded", "swarm-builder-002")
    assert told["text"] == "swarm-builder-002: gave up"


async def test_each_ended_task_with_a_folder_says_there_what_came_of_it(world, tmp_path):
    world.start()
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    task = world.ends(Outcome.SUCCEEDED, result="All *fine*.", folder=str(folders[0]))
    answer = folders[0] / "results" / "answer.md"
    await eventually_async(answer.exists)
    assert f"- task: {task}\n- state: done (answer)\n" in answer.read_text()
    assert answer.read_text().endswith("\n\nAll *fine*.\n")
    await world.stop()
    world.ends(reason="no luck", folder=str(folders[1]))  # while nobody looked
    world.start()
    other = folders[1] / "results" / "answer.md"
    await eventually_async(other.exists)
    assert "- state: failed\n" in other.read_text()
    assert "- reason: no luck" in other.read_text()


# -- by HTTP --------------------------------------------------------------------------------------


class Server:
    """Answers requests as it is told to, one after the other."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, bytes]] = []
        self.port = 0
        self._hanging: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line.split(":")[1])
                    for line in head.splitlines()
                    if line.lower().startswith("content-length")
                )
                self.requests.append((head, await reader.readexactly(length)))
                answer = self.answers.pop(0) if self.answers else "200 OK"
                if answer == "hang":
                    await reader.read()
                    break
                writer.write(f"HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(*answers: str) -> AsyncIterator[Server]:
    server = Server(answers)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


def to(server: Server, seconds: float = 20) -> NotifyRule:
    return NotifyRule(
        ("*",), webhook=f"http://127.0.0.1:{server.port}/hook?x=1", timeout_seconds=seconds
    )


async def test_a_webhook_gets_the_event_as_json(world):
    async with serving() as server:
        world.start(to(server))
        task = world.ends(reason="it broke")
        await world.settled()
        ((head, body),) = server.requests
        assert head.startswith("POST /hook?x=1 HTTP/1.1\r\n")
        assert "content-type: application/json" in head.lower()
        assert json.loads(body)["task"] == task
        await world.stop()


async def test_a_webhook_that_fails_twice_is_asked_again(world, quick):
    async with serving("500 Oh", "404 No") as server:
        world.start(to(server))
        world.ends()
        await world.settled()
        assert len(server.requests) == 3
        assert len({body for _, body in server.requests}) == 1
        assert "it answers 500" in world.log()
        await world.stop()


async def test_no_redirect_is_followed(world, quick):
    async with serving() as other:
        where = f"http://127.0.0.1:{other.port}/"
        async with serving(f"307 Moved\r\nlocation: {where}", "302 x\r\nlocation: file:///") as one:
            world.start(to(one))
            world.ends()
            await world.settled()
            assert len(one.requests) == 3
            assert other.requests == []
            assert "it answers 307, a redirect" in world.log()
            await world.stop()


async def test_a_webhook_that_hangs_is_left(world, quick):
    async with serving("hang") as server:
        world.start(to(server, seconds=0.2))
        world.ends()
        await world.settled()
        assert "no answer within 0.2 s" in world.log()
        assert len(server.requests) == 2
        await world.stop()


async def test_nobody_listens(world):
    async with serving() as server:
        rule = to(server)
    world.start(rule)
    world.ends()
    await eventually_async(lambda: "ConnectError" in world.log())


async def test_httpx_is_only_loaded_for_a_webhook(world):
    code = (
        "import sys; import swarm.coordinator.service, swarm.coordinator.notices;"
        "sys.exit('httpx2' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


# -- decisions ------------------------------------------------------------------------------------


def event(kind: str) -> Event:
    return Event(1, 0.0, "t-1", kind, "", 0, "")


def task_in(world: World, state: TaskState) -> Task:
    found = world.ledger.task(world.ledger.submit(NewTask("x")))
    assert found is not None
    return replace(found, state=state)


@pytest.mark.parametrize(
    ("kind", "state", "later", "review", "notice"),
    [
        ("needs_human", TaskState.NEEDS_HUMAN, (), Review.NONE, NoticeKind.NEEDS_HUMAN),
        ("needs_human", TaskState.QUEUED, (), Review.NONE, None),
        ("review", TaskState.REVIEW, (), Review.HUMAN, NoticeKind.REVIEW),
        ("review", TaskState.REVIEW, (), Review.AGENT, None),
        ("review", TaskState.LANDING, (), Review.HUMAN, None),
        ("merged", TaskState.DONE, (), Review.NONE, NoticeKind.MERGED),
        ("finished", TaskState.DONE, (), Review.NONE, NoticeKind.DONE),
        ("finished", TaskState.DONE, ("landing", "merged"), Review.NONE, None),
        ("finished", TaskState.DONE, ("retried", "finished"), Review.NONE, None),
        ("finished", TaskState.REVIEW, (), Review.NONE, None),
        ("finished", TaskState.FAILED, ("failed",), Review.NONE, None),
        ("failed", TaskState.FAILED, (), Review.NONE, NoticeKind.FAILED),
        ("failed", TaskState.QUEUED, ("retried",), Review.NONE, None),
        ("plan", TaskState.DONE, (), Review.NONE, NoticeKind.PLAN),
        ("claimed", TaskState.RUNNING, (), Review.NONE, None),
    ],
)
async def test_what_an_event_is_to_people(world, kind, state, later, review, notice):
    found = kind_of(event(kind), task_in(world, state), map(event, later), review)
    assert found is notice


def test_a_rule_for_done_hears_of_merges_once():
    both = NotifyRule(("done", "merged"), command=("a",))
    twice = (both, NotifyRule(("merged",), command=("a",)), NotifyRule(("done",), command=("b",)))
    assert wants(both, NoticeKind.MERGED)
    assert not wants(NotifyRule(("merged",), command=("a",)), NoticeKind.DONE)
    merged = of_fleet(NoticeKind.MERGED, "x", "", 0, "/home")
    assert [one.hook for one in addressed(merged, twice)] == [hook_of(both), hook_of(twice[2])]


def test_the_name_of_a_hook_shows_nothing_of_its_address():
    rule = NotifyRule(("*",), webhook="https://example.org/secret-token")
    assert "secret" not in hook_of(rule)
    assert hook_of(rule) == hook_of(NotifyRule(("done",), webhook=rule.webhook))

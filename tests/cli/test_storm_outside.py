"""A storm's HTTP clients and its hooks: what an answer means to them, and what is complained of."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from tests_support import eventually, eventually_async

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm import hooks
from swarm.cli.storm.caller import NOBODY, UNHEARD, Answer, Caller, request
from swarm.cli.storm.guest import Guest
from swarm.cli.storm.history import find_taken
from swarm.cli.storm.hooks import Listener, notify_settings, told_program
from swarm.cli.storm.invariants import RULES
from swarm.cli.storm.landed import TAKEN, judge_taken
from swarm.cli.storm.notes import Notes
from swarm.cli.storm.telling import COMMAND, PEOPLE, WEBHOOK, Ended, Told, judge_again, judge_told
from swarm.cli.storm.verdict import _answers
from swarm.cli.storm.work import Sort, piece
from swarm.config.places import Places
from swarm.core.model import TaskState
from swarm.desk.service import serve_api
from swarm.ledger import NewTask, SqliteLedger, open_ledger
from swarm.logs import JsonLog

COMMIT = next(one for n in range(100) if (one := piece(1, n)).sort is Sort.COMMIT)
REVIEWED = next(one for n in range(100) if (one := piece(1, n)).sort is Sort.REVIEWED)


@pytest.fixture
def stage(home: Path) -> Stage:
    made = Stage(home)
    made.places.logs.mkdir(parents=True)
    return made


@pytest.fixture
def ledger(stage: Stage) -> Iterator[SqliteLedger]:
    with open_ledger(stage.places.ledger) as ledger:
        yield ledger


# -- requests -------------------------------------------------------------------------------------


async def test_what_is_asked_of_a_real_interface_is_heard(
    stage: Stage, ledger: SqliteLedger
) -> None:
    places, heard = stage.places, list[Answer]()
    caller = Caller(places)
    log = JsonLog(places.service_log("api"))

    def answered() -> bool:
        caller.listen()
        return not caller.busy

    async def asked(path: str, body: dict[str, object]) -> Answer:
        caller.ask("POST", path, body, heard.append)
        await eventually_async(answered)
        return heard.pop()

    async with serve_api(places, "127.0.0.1:0", log):
        added = await asked("/v1/tasks", {"prompt": "a task"})
        assert (added.status, added.good) == (201, True)
        assert ledger.task(added.data["id"]) is not None
        refused = await asked("/v1/tasks", {"prompt": ""})
        assert not any((refused.good, refused.unclear, refused.later))
        assert str(refused) == "400 the task's text is empty"
    gone = await asked("/v1/tasks", {"prompt": "another"})
    assert (gone.status, gone.later, gone.unclear) == (NOBODY, True, False)


async def test_a_request_without_an_answer_may_have_been_done(stage: Stage) -> None:
    """Nobody knows: not what a server that dies, nor one that is somebody else's, has done."""
    said = [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"]

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said.pop())
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    address = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    stage.places.api_address.write_text(json.dumps({"address": address}))
    stage.places.api_token.write_text("x")
    async with server:
        for _ in (1, 2):
            answer = await asyncio.to_thread(request, stage.places, "GET", "/v1/tasks", None, 30)
            assert (answer.status, answer.unclear, answer.later) == (UNHEARD, True, False)


class Scripted(Caller):
    """Answers as the test says."""

    def __init__(self) -> None:
        super().__init__(Places(Path("/nowhere")))
        self.asked: list[str] = []

    def ask(
        self, method: str, path: str, body: Any, then: Callable[[Answer], object], limit: float = 1
    ) -> None:
        self.asked.append(f"{method} {path}")
        self.then = then


def test_a_guest_asks_again_only_what_was_not_done(stage: Stage) -> None:
    notes, wrong = Notes(), list[tuple[str, str]]()
    guest = Guest(stage, notes, lambda *what: wrong.append(what))
    assert not guest.takes(REVIEWED), "no client asks for an agent's review"
    submits, waits = Scripted(), Scripted()
    guest._submits, guest._waits = submits, waits
    guest.hand(COMMIT)
    guest.turn(1.0)
    submits.then(Answer(503))
    guest.turn(2.0)
    assert submits.asked == ["POST /v1/tasks"] * 2
    submits.then(Answer(201, {"id": "t-1"}))
    assert (notes.pieces, notes.accepted) == ({"t-1": COMMIT}, {COMMIT.prompt: "t-1"})
    guest.turn(3.0)
    assert waits.asked == ["GET /v1/tasks/t-1/wait?seconds=3"]
    waits.then(Answer(UNHEARD))
    guest.turn(4.0)
    waits.then(Answer(200, {"ended": True, "task": {"state": "done", "result": "merged"}}))
    assert notes.waited == {"t-1": ("done", "merged")}
    assert guest.idle
    guest.hand(COMMIT)
    guest.turn(5.0)
    submits.then(Answer(UNHEARD))
    assert guest.idle, "it could become two"
    assert notes.unanswered == [COMMIT]
    guest.hand(COMMIT)
    guest.turn(6.0)
    submits.then(Answer(400))
    assert [rule for rule, _ in wrong] == ["commands answer"]


def test_what_was_taken_in_is_there_once() -> None:
    said = {"a": "t-1"}
    assert judge_taken(said, ["b"], {"a": ["t-1"]}) == []
    assert judge_taken(said, ["b"], {"a": ["t-1"], "b": ["t-2"]}) == []
    for broken in ({}, {"a": ["t-9"]}, {"a": ["t-1", "t-2"]}, {"a": ["t-1"], "b": ["t-2", "t-3"]}):
        (found,) = judge_taken(said, ["b"], broken)
        assert found.rule == TAKEN
    assert {TAKEN, PEOPLE} <= set(RULES)


def test_what_nobody_heard_of_is_found_in_the_ledger(ledger: SqliteLedger) -> None:
    notes = Notes(unanswered=[COMMIT])
    assert find_taken(ledger, notes) == []
    assert notes.pieces == {}
    one = ledger.submit(NewTask(COMMIT.prompt))
    assert find_taken(ledger, notes) == []
    assert notes.pieces == {one: COMMIT}
    ledger.submit(NewTask(COMMIT.prompt))
    assert [found.rule for found in find_taken(ledger, notes)] == [TAKEN]


def test_a_late_answer_that_was_taken_and_a_wait_that_lied_are_seen(ledger: SqliteLedger) -> None:
    task = ledger.submit(NewTask("a task", lane="outside"))
    claimed = ledger.lane_claim("visitor", lane="outside")
    assert claimed is not None
    ledger.lane_respond(task, claimed.fence, "visitor", "the answer")
    right = Notes(answers={task: "the answer"}, waited={task: ("done", "answer")}, late={"late"})
    assert _answers(ledger, right) == []
    for notes, rule in (
        (Notes(answers={task: "another"}), "leases are kept"),
        (Notes(late={"the answer"}), "leases are kept"),
        (Notes(waited={task: ("failed", None)}), TAKEN),
        (Notes(waited={"t-none": ("done", "answer")}), TAKEN),
    ):
        (found,) = _answers(ledger, notes)
        assert found.rule == rule
    again = ledger.submit(NewTask("another"))
    ledger.cancel(again)
    ledger.retry(again)
    assert _answers(ledger, Notes(waited={again: ("cancelled", None)})) == []


# -- hooks ----------------------------------------------------------------------------------------

BODY = json.dumps({"version": 1, "event": "failed", "task": "t-1"})


def test_the_program_takes_a_notice_or_fails(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    luck = "luck=$(( $(od -An -N1 -tu1 /dev/urandom) % 16 ))"
    written = hooks._HOOK_SH
    assert luck in written
    argv = notify_settings(stage, "")[0]["command"]
    assert isinstance(argv, list)
    for number, status, told in ((1, 1, 0), (3, 1, 1), (4, 0, 2)):
        monkeypatch.setattr(hooks, "_HOOK_SH", written.replace(luck, f"luck={number}"))
        hooks._program(stage).unlink(missing_ok=True)
        hooks._folder(stage).mkdir(exist_ok=True)
        hooks._program(stage).write_text(hooks._HOOK_SH)
        done = subprocess.run(argv, input=BODY.encode(), check=False, timeout=60)
        assert done.returncode == status
        assert len(told_program(stage)) == told
    assert sorted(one.taken for one in told_program(stage)) == [False, True]
    assert {(one.hook, one.event, one.task) for one in told_program(stage)} == {
        (COMMAND, "failed", "t-1")
    }


class Luck:
    """Numbers of the test's choice."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = list(numbers)

    def randrange(self, _count: int) -> int:
        return self._numbers.pop(0)


def test_the_webhook_takes_a_notice_or_fails_or_hangs() -> None:
    told: list[Told] = []
    listener = Listener(1, told.append)
    try:
        listener._random = Luck(1, 2, 3, 4, 0)  # type: ignore[assignment]
        assert [post(listener.address) for _ in range(4)] == [500, None, 500, 200]
        assert [one.taken for one in told] == [False, False, True]
        assert {(one.hook, one.task) for one in told} == {(WEBHOOK, "t-1")}
        with pytest.raises(TimeoutError):
            post(listener.address, 0.1)
    finally:
        listener.close()
    eventually(lambda: not listener._thread.is_alive())


def post(address: str, limit: float = 30) -> int | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, BODY.encode(), limit) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (HTTPException, ConnectionError):
        return None


DONE = Ended("t-1", TaskState.DONE, "merged")
FAILED = Ended("t-2", TaskState.FAILED, None)
TOLD = (
    Told(WEBHOOK, "merged", "t-1", "1", taken=True),
    Told(WEBHOOK, "failed", "t-2", "2", taken=True),
    Told(COMMAND, "failed", "t-2", "2", taken=True),
)


def test_a_hook_that_was_not_told_is_seen() -> None:
    assert judge_told([DONE, FAILED], TOLD) == []
    assert judge_told([Ended("t-3", TaskState.CANCELLED, None)], ()) == [], "is told to nobody"
    for missing in TOLD:
        others = [one for one in TOLD if one is not missing]
        for told in (others, [*others, replace(missing, taken=False)]):
            (found,) = judge_told([DONE, FAILED], told)
            assert found.rule == PEOPLE
            assert missing.hook in found.what


def test_who_is_told_all_the_time_what_he_has_taken_is_seen() -> None:
    refused = replace(TOLD[0], taken=False)
    assert judge_again([*TOLD, refused, refused], 0) == []
    assert judge_again([*TOLD, TOLD[0]], 1) == [], "a disturbance came between"
    assert [one.rule for one in judge_again([*TOLD, TOLD[0]], 0)] == [PEOPLE]

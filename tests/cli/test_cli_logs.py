"""Logs, stories and session streams, read for people and followed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

from cli_fake import Ran
from tests_support import eventually

from swarm.cli.logs import follow, pretty, read_last
from swarm.cli.task_logs import told
from swarm.config.places import Places
from swarm.core import journal
from swarm.core.model import Outcome
from swarm.ledger import NewTask, open_ledger
from swarm.logs import JsonLog
from swarm.sessions.registry import adapter
from swarm.wire.lifeline import Finished

Cli = Callable[..., Ran]


def test_a_log_is_shown_readably_and_harmless(cli: Cli, places: Places) -> None:
    log = JsonLog(places.service_log("supervisor"))
    log.write("child_exited", child="swarm-qa-001", status=-9, why="evil \x1b[2J thing", empty=None)
    with open(log.path, "a") as file:
        file.write("Traceback \x1b]0;x\x07\n")
    first, second = cli("swarm", "logs").out.splitlines()
    assert "child_exited" in first
    assert "child=swarm-qa-001 status=-9" in first
    assert "empty" not in first
    assert second == "Traceback \\x1b]0;x\\x07"
    raw = cli("swarm", "logs", "supervisor", "--json", "-n", "2").out.splitlines()[0]
    assert json.loads(raw)["status"] == -9
    assert cli("swarm", "logs", "-n", "0").out == ""


def test_an_agent_s_log_and_none(cli: Cli, places: Places) -> None:
    JsonLog(places.agent_log("swarm-qa-001")).write("hello")
    assert "hello" in cli("swarm", "logs", "qa-001").out
    ran = cli("swarm", "logs", "qa-002")
    assert ran.code == 1
    assert "there are logs of swarm-qa-001" in ran.err


def test_the_last_lines_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("".join(f"{n}\n" for n in range(100)) + "no end")
    assert read_last(path, 3) == ["98", "99", "no end"]
    assert read_last(path, 0) == []
    assert read_last(tmp_path / "none", 5) == []


def test_pretty_takes_anything() -> None:
    for line in (
        "",
        "{",
        "[]",
        "null",
        "1",
        '{"ts": 3}',
        '{"kind": {"a": [1, {"b": null}]}}',
        "\ud800",
    ):
        assert "\n" not in pretty(line)


def test_following_through_rotation_truncation_and_a_late_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    seen: list[str] = []
    over = threading.Event()

    def read() -> None:
        seen.extend(follow(path, until=over.is_set))

    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(_collect(path, seen, over)))
    reader.start()
    path.write_text("one\ntw")
    eventually(lambda: seen == ["one"])
    with path.open("a") as file:
        file.write("o\n")
    eventually(lambda: seen == ["one", "two"])
    os.replace(path, tmp_path / "log.1")
    with (tmp_path / "log.1").open("a") as old:
        old.write("three\n")  # written by somebody who had it open
    path.write_text("four\n")
    eventually(lambda: seen == ["one", "two", "three", "four"])
    path.write_text("5\n")
    eventually(lambda: seen[-1] == "5")
    with path.open("a") as file:
        file.write("no newline")
    over.set()
    reader.join(10)
    assert seen[-1] == "no newline"


def _collect(path: Path, seen: list[str], over: threading.Event) -> list[str]:
    for line in follow(path, until=over.is_set):
        seen.append(line)  # noqa: PERF402 - seen while it grows
    return seen


def test_the_story_of_an_agent(cli: Cli, places: Places) -> None:
    places.journal.mkdir()
    log = JsonLog(places.journal / "journal.jsonl")
    for entry in (
        journal.ChildSpawned(child="swarm-qa-001", pid=11),
        journal.ChildSpawned(child="swarm-qa-002", pid=12),
        journal.ChildBackoff(child="swarm-qa-001", reason="crashed, \x1b[2J", seconds=2),
    ):
        log.write(entry.kind, **journal.as_fields(entry))
    out = cli("swarm", "story", "qa-001").out
    assert "spawned (pid 11)" in out
    assert "restarts in 2 s" in out
    assert "pid 12" not in out
    assert "\x1b" not in out
    assert len(cli("swarm", "story", "qa-001", "--json").out.splitlines()) == 2
    assert cli("swarm", "story", "qa-009").code == 1


SAID = {"content": [{"type": "text", "text": "I look \x1b[2J around"}]}
RESULT = {"is_error": False, "subtype": "success", "result": "It is done", "total_cost_usd": 0.5}
STREAM = b"\n".join(
    (
        json.dumps({"type": "system", "subtype": "init", "session_id": "s-1"}).encode(),
        json.dumps({"type": "assistant", "message": SAID, "session_id": "s-1"}).encode(),
        b"not json \x1b[31m\xff",
        json.dumps({"type": "result", **RESULT, "session_id": "s-1"}).encode(),
        b"",
    )
)


def test_a_session_s_stream_in_words(cli: Cli, places: Places) -> None:
    with open_ledger(places.ledger) as ledger:
        task = ledger.submit(NewTask(prompt="x"))
        claimed = ledger.claim(task, "swarm-builder-001", "0123456789abcdef", 90.0)
        assert claimed is not None
        ran = cli("task", "logs", task)
        assert ran.code == 1
        assert "no attempt yet" in ran.err
        ledger.begin(task, claimed.fence, "swarm-builder-001", 1.0)
        path = places.session_log(task, 1)
        assert cli("task", "logs", task).code == 1
        path.parent.mkdir(parents=True)
        path.write_bytes(STREAM)
        out = cli("task", "logs", task).out
        assert "I look \\x1b[2J around" in out
        assert "ended: It is done" in out
        assert out.count("used ") <= 1
        assert out.count("session s-1") == 1
        assert "| not json \\x1b[31m" in out
        assert "\x1b" not in out
        raw = cli("task", "logs", task, "1", "--raw").out
        assert raw.startswith('{"type": "system"')
        assert "\x1b" not in raw
        ran = cli("task", "logs", task, "2")
        assert ran.code == 1
        assert "no attempt 2" in ran.err
        done = Finished(task, claimed.fence, Outcome.SUCCEEDED)
        ledger.finish(done, "swarm-builder-001")
    assert cli("task", "logs", "-f", task).out == out


def test_every_recorded_stream_is_told_without_control_characters() -> None:
    recorded = sorted((Path(__file__).parents[1] / "transcripts").glob("*.jsonl"))
    for path in recorded:
        parser = adapter(path.name.split("-")[0]).parser()
        lines = list(told(path.read_text().splitlines(), parser))
        assert lines, path.name
        assert not any(c < " " for line in lines for c in line if c not in "\t\n")

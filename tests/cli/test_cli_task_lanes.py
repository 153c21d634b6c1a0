"""Lanes, labels, threads and files on the command line of tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_fake import FakeSupervisor, Ran

from swarm.config.places import Places
from swarm.ledger import Ledger, NewTask, Task, open_ledger

Cli = Callable[..., Ran]


@pytest.fixture
def ledger(places: Places) -> Iterator[Ledger]:
    with open_ledger(places.ledger) as opened:
        yield opened


def added(cli: Cli, ledger: Ledger, *arguments: str) -> Task:
    ran = cli("task", "add", *arguments)
    assert ran.code == 0, ran.err
    task = ledger.task(ran.out.strip())
    assert task is not None
    return task


def test_a_task_says_what_it_needs_and_follows(
    cli: Cli, ledger: Ledger, supervisor: FakeSupervisor
) -> None:
    parent = ledger.submit(NewTask("first", thread="parser"))
    task = added(
        *(cli, ledger, "--lane", "reviews", "--label", "vendor=openai", "--label", "area=a=b"),
        *("--parent", parent[:7], "look"),
    )
    assert (task.lane, task.labels, task.thread) == (
        *("reviews", {"vendor": "openai", "area": "a=b"}),
        "parser",
    )
    shown = cli("task", "show", task.id).out
    assert "lane      reviews, wants area=a=b vendor=openai\n" in shown
    assert "thread    parser\n" in shown
    assert f"parent    {parent}\n" in shown
    told = json.loads(cli("task", "show", task.id, "--json").out)
    assert (told["lane"], told["labels"], told["thread"], told["parent"]) == (
        *("reviews", {"vendor": "openai", "area": "a=b"}),
        *("parser", parent),
    )
    assert (told["request"], told["response"]) == (None, None)


def test_what_nobody_takes_is_said_and_accepted(
    cli: Cli, ledger: Ledger, places: Places, supervisor: FakeSupervisor
) -> None:
    ran = cli("task", "add", "--lane", "reviews", "look")
    task = ran.out.strip()
    assert ran.code == 0
    assert f"{task} waits: lane reviews is taken by no agent" in ran.err
    assert ledger.task(task) is not None
    assert "offers effort=high" in cli("task", "add", "--label", "effort=high", "look").err
    assert cli("task", "add", "--label", "vendor=anthropic", "look").err == ""
    places.roles.mkdir(parents=True)
    (places.roles / "builder.yaml").write_text("lanes: [reviews]\n")
    assert cli("task", "add", "--lane", "reviews", "look").err == ""
    (places.roles / "builder.yaml").write_text("lanes: {}\n")
    assert cli("task", "add", "--lane", "reviews", "look").code == 0, "told where it is used"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--lane", "A B", "x"),
        ("--lane", "*", "x"),
        ("--label", "vendor", "x"),
        ("--label", "vendor=", "x"),
        ("--label", "a=1", "--label", "a=2", "x"),
        ("--thread", "a b", "x"),
        ("--parent", "t-nothere0", "x"),
        ("--request-from", "/nowhere/at/all"),
        ("--response-to", "/nowhere/at/all", "x"),
        ("--response-to", "/tmp", "x"),
        ("--request-from", "/etc/hostname", "and", "words"),
    ],
)
def test_what_cannot_be_is_one_line(cli: Cli, ledger: Ledger, arguments: tuple[str, ...]) -> None:
    ran = cli("task", "add", *arguments)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert ledger.tasks() == []


def test_text_from_a_file_and_the_answer_into_another(
    cli: Cli, ledger: Ledger, supervisor: FakeSupervisor, tmp_path: Path
) -> None:
    ask, answer = tmp_path / "ask.md", tmp_path / "answer.md"
    ask.write_text("What is it?\n")
    task = added(cli, ledger, "--request-from", str(ask), "--response-to", str(answer))
    assert ledger.prompt(task.id) == "What is it?\n"
    assert task.request_sha256 == hashlib.sha256(b"What is it?\n").hexdigest()
    claimed = ledger.lane_claim("chat-1")
    assert claimed is not None
    ledger.lane_respond(task.id, claimed.fence, "chat-1", "A parser.")
    assert answer.read_text() == "A parser.\n"
    shown = cli("task", "show", task.id).out
    assert f"request   {ask.resolve()} (SHA-256 {task.request_sha256[:12]}…: unchanged)" in shown
    assert ": unchanged)" in shown.split("response  ")[1]
    answer.write_text("forged")
    ask.unlink()
    shown = cli("task", "show", task.id).out
    assert "it has changed since" in shown
    assert "cannot be read any more" in shown


def test_tasks_are_listed_by_lane_label_thread_and_plan(cli: Cli, ledger: Ledger) -> None:
    lane = ledger.submit(NewTask("a", lane="reviews", labels={"vendor": "openai"}))
    thread = ledger.submit(NewTask("b", thread="parser"))

    def listed(*arguments: str) -> list[str]:
        told = json.loads(cli("task", "list", "--json", *arguments).out)
        return [task["id"] for task in told["tasks"]]

    assert listed("--lane", "reviews") == listed("--label", "vendor=openai") == [lane]
    assert listed("--lane", "") == listed("--thread", "parser") == [thread]
    assert listed("--plan", "p-none") == listed("--label", "vendor=other") == []

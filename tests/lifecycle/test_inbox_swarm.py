"""The inbox and the hooks of a whole swarm of real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

from swarm_support import Swarm
from tests_support import eventually

from swarm.core.model import TaskState
from swarm.ledger import Task, open_ledger

TELL = ["sh", "-c", "cat >> told; echo >> told"]
"""A hook's program: its working directory is the home."""


def told(swarm: Swarm) -> list[dict[str, Any]]:
    path = swarm.places.home / "told"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line]


def tasks(swarm: Swarm, count: int, within: float = 30) -> list[Task]:
    with open_ledger(swarm.places.ledger) as ledger:
        return eventually(
            lambda: found if len(found := ledger.tasks()) >= count else [], within, swarm.log_tail
        )


def coordinator(swarm: Swarm) -> int:
    """Its pid, once it runs."""

    def running() -> int:
        (one,) = (s for s in swarm.status()["services"] if s["name"] == "coordinator")
        return int(one["pid"]) if one["state"] == "running" else 0

    return eventually(running)


def test_a_dropped_folder_is_worked_on_and_its_results_lie_beside_it(swarm: Swarm) -> None:
    swarm.configure(inbox={"settle_seconds": 0}, notify=[{"on": ["done"], "command": TELL}])
    swarm.places.inbox.mkdir()
    early = swarm.places.inbox / "early.md"
    early.write_text("---\ntitle: Before the swarm\n---\nanswer early\n")
    swarm.up()
    (first,) = tasks(swarm, 1)
    assert first.title == "Before the swarm"
    made = swarm.root / "made"
    made.mkdir()
    (made / "TASK.md").write_text("answer The sum is 3.\n")
    (made / "numbers.csv").write_text("1,2\n")
    shutil.copytree(made, swarm.places.inbox / "sums")
    _, task = tasks(swarm, 2)
    swarm.ended([first.id, task.id])
    folder = Path(json.loads(swarm.must("task", "show", task.id, "--json"))["folder"])
    assert folder == swarm.places.task_folder(task.id)
    assert (folder / "input" / "sums" / "numbers.csv").read_text() == "1,2\n"
    answer = folder / "results" / "answer.md"
    eventually(answer.exists)
    assert "The sum is 3." in answer.read_text()
    heard = eventually(lambda: found if len(found := told(swarm)) == 2 else None)
    assert {one["task"] for one in heard or ()} == {first.id, task.id}
    assert all(name.startswith(".") for name in os.listdir(swarm.places.inbox))


def test_drops_survive_kills_of_the_coordinator_each_exactly_once(swarm: Swarm) -> None:
    swarm.configure(inbox={"settle_seconds": 0}, agents=[{"role": "builder", "count": 1}])
    swarm.up("--role", "builder=1")
    swarm.must("swarm", "pause")
    eventually(swarm.places.inbox.is_dir)
    for number in range(150):
        (swarm.places.inbox / f"{number}.md").write_text(f"answer {number}")
        if number % 50 == 30:
            os.kill(coordinator(swarm), signal.SIGKILL)
    found = tasks(swarm, 150)
    eventually(lambda: all(Path(one.folder, "input").is_dir() for one in found))
    with open_ledger(swarm.places.ledger) as ledger:
        asked = sorted(ledger.prompt(one.id) for one in ledger.tasks())
    assert asked == sorted(f"answer {number}" for number in range(150))
    assert not list((swarm.places.tasks / ".incoming").iterdir())


def test_a_question_is_shown_and_told_and_a_reload_changes_the_hooks(swarm: Swarm) -> None:
    swarm.configure(agents=[{"role": "builder", "count": 1}])
    swarm.up()
    silent = swarm.add("ask Which colour?")
    swarm.ended([silent])
    swarm.configure(
        agents=[{"role": "builder", "count": 1}],
        notify=[{"on": ["needs_human"], "command": TELL}],
    )
    swarm.must("swarm", "reload")
    asked = swarm.add("ask Which font?")
    (ended,) = swarm.ended([asked])
    assert ended.state is TaskState.NEEDS_HUMAN
    (one,) = eventually(lambda: told(swarm)) or ()
    assert (one["event"], one["task"]) == ("needs_human", asked)
    assert "Which font?" in one["text"]
    status = json.loads(swarm.must("swarm", "status", "--json"))
    assert [one["task"] for one in status["attention"]] == [silent, asked]
    assert "Which colour?" in swarm.must("swarm", "status")


def test_a_bad_drop_is_trouble_in_status_and_told(swarm: Swarm) -> None:
    swarm.configure(
        agents=[{"role": "builder", "count": 1}],
        inbox={"settle_seconds": 0},
        notify=[{"on": ["needs_human"], "command": TELL}],
    )
    swarm.up()
    eventually(swarm.places.inbox.is_dir)
    (swarm.places.inbox / "bad.md").write_text("---\nrole: painter\n---\nPaint it.\n")
    eventually(lambda: "in quarantine" in swarm.must("swarm", "status"), 20)
    (one,) = eventually(lambda: told(swarm)) or ()
    assert one["task"] is None
    assert "no role 'painter'" in one["text"]

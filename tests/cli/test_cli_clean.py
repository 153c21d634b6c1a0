"""``agentctl clean`` without a swarm: what it prints, and its exit status."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from swarm.cli import clean
from swarm.cli.clean import lines, size_text
from swarm.cli.main import run
from swarm.config.places import Places
from swarm.core.keep import Branch, Ending, Folder, Log, Owner, Place, Plan, Sorted
from swarm.core.model import TaskState
from swarm.desk.cleaning import Report, Saved
from swarm.errors import ControlError, NotRunning
from swarm.ledger import NewTask, open_ledger
from swarm.ledger.database import Database

DONE = Owner("t-1", TaskState.DONE, 0.0)


@pytest.fixture
def places(home: Path) -> Places:
    (home / "swarm.yaml").write_text(f"workspace_base: {home}/agents\n")
    return Places(home)


def ended_task(places: Places) -> str:
    with open_ledger(places.ledger) as ledger:
        task = ledger.submit(NewTask(prompt="x"))
    database = Database(places.ledger)
    with database.writing() as db:
        db.execute("UPDATE tasks SET state = 'failed', ended_at = ?", (time.time() - 60,))
    database.close()
    log = places.session_log(task, 1)
    log.parent.mkdir(parents=True)
    log.write_text("x")
    places.task_folder(task).mkdir(parents=True)
    return task


def test_it_says_the_same_with_dry_run_and_changes_nothing(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ended_task(places)
    assert run(["clean", "--dry-run"]) == 0
    assert "1 stay" in capsys.readouterr().out, "nothing is old enough"
    assert run(["clean", "--dry-run", "--older-than", "0"]) == 0
    said = capsys.readouterr().out
    assert places.session_log(task, 1).exists()
    assert places.task_folder(task).exists()
    assert run(["clean", "--older-than", "0"]) == 0
    did = capsys.readouterr().out
    assert said == f"{did}nothing was changed: --dry-run\n"
    assert "logs: 1 of 1 go" in did
    assert f"  {places.task_folder(task)}" in did
    assert not places.session_log(task, 1).exists()
    assert not places.task_folder(task).exists()


def test_it_is_one_json_object(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    ended_task(places)
    assert run(["clean", "--json", "--older-than", "0"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["version"] == 1
    assert data["dry_run"] is False
    assert [len(data[kind]["goes"]) for kind in ("workspaces", "branches", "logs", "folders")] == [
        0, 0, 1, 1,
    ]  # fmt: skip
    assert data["problems"] == []


def test_what_stays_behind_is_an_error(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    ghost = places.hub / "ghost.git"
    (ghost / "objects").mkdir(parents=True)
    assert run(["clean"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"agentctl: the branches of {ghost} stay: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--older-than", "-1"], ["--older-than", "x"], ["more"]])
def test_bad_usage_is_told(
    places: Places, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["clean", *arguments]) == 2
    assert capsys.readouterr().err.startswith("agentctl: ")


def test_a_bad_file_or_no_home_changes_nothing(
    places: Places, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    places.config.write_text("keep: {logs_days: often}\n")
    assert run(["clean"]) == 2
    monkeypatch.setenv("AGENTCTL_HOME", str(places.home / "none"))
    assert run(["clean"]) == 1
    assert "there is no home" in capsys.readouterr().err
    assert not (places.home / "none").exists()


def test_who_its_agents_are_is_asked_of_the_swarm(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(answer: object) -> frozenset[str] | None:
        def swarm(_places: Places) -> dict[str, object]:
            if isinstance(answer, Exception):
                raise answer
            return {"in_use": answer}

        monkeypatch.setattr(clean, "_swarm", swarm)
        return clean.in_use(places)

    assert says(["a", "b"]) == {"a", "b"}
    assert says(None) is None, "it is starting: not all are known"
    assert says(NotRunning("none")) == frozenset()
    monkeypatch.setattr(clean, "is_locked", lambda _places: True)
    assert says(ControlError("it hangs")) is None


def test_the_report_names_what_went_and_counts_what_stays() -> None:
    places = tuple(Place(f"swarm-qa-{n:03d}", f"/w/{n}", 0.0, 1_500_000) for n in range(25))
    staying = Place("swarm-qa-100", "/w/100", 0.0, None)
    branch = Branch("/hub", "swarm/a/t-1", "1" * 40, DONE)
    report = Report(
        Plan(
            Sorted(places, ((staying, "its agent is in the fleet"),)),
            Sorted((branch,), ((branch, "2.0 days old, kept for 7"),) * 2),
        ),
        salvage=3,
        places=list(places),
        endings=[Ending(branch, "refs/agentctl/salvage/swarm/a/t-1")],
        logs=[Log("/l/sessions/t-1.1.jsonl", 10, 0.0)],
        folders=[Folder("/t/t-\x1b[2J", 2_000)],
        saved=[Saved("/hub", "refs/agentctl/salvage/swarm/a/t-1", "swarm/a/t-1")],
    )
    said = lines(report)
    assert said[0] == "workspaces: 25 of 26 go, 37.5 MB"
    assert said[1] == "  swarm-qa-000  1.5 MB"
    assert said[21:23] == ["  … and 5 more", "  1 stay: 1 its agent is in the fleet"]
    assert "branches: 1 of 3 go" in said
    assert "  swarm/a/t-1 → refs/agentctl/salvage/swarm/a/t-1" in said
    assert "  2 stay: 2 not old enough" in said
    assert said[-2:] == [
        "salvage: 3 saved earlier, all stay",
        "kept: refs/agentctl/salvage/swarm/a/t-1 (swarm/a/t-1)",
    ]
    assert report.freed == 25 * 1_500_000 + 2_010


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (3_400, "3.4 kB"), (12e6, "12.0 MB"), (1.2e12, "1200.0 GB")],
)
def test_sizes_for_people(size: float, text: str) -> None:
    assert size_text(int(size)) == text

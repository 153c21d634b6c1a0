"""The plan commands, and the task commands that change a waiting task, against a real ledger."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_fake import FakeSupervisor, Ran
from tests_support import eventually

from swarm.cli import plan_make
from swarm.config.places import Places
from swarm.core.model import Outcome, Review, TaskKind, TaskState
from swarm.ledger import Ledger, open_ledger
from swarm.ledger.records import Way
from swarm.wire import control
from swarm.wire.lifeline import Finished

Cli = Callable[..., Ran]
AGENT = "swarm-builder-001"

DIAMOND = """\
title: The diamond
tasks:
- {key: top, text: Begin, files: [a.py]}
- {key: left, text: Go left, after: top, files: [b.py], priority: 2}
- {key: right, text: Go right, after: top, files: [b.py], on_failed: skip}
- {key: end, text: End it, after: [left, right], role: qa}
"""


@pytest.fixture
def ledger(places: Places) -> Iterator[Ledger]:
    with open_ledger(places.ledger) as opened:
        yield opened


@pytest.fixture
def diamond(tmp_path: Path) -> Path:
    path = tmp_path / "diamond.yaml"
    path.write_text(DIAMOND)
    return path


def end(ledger: Ledger, task: str, outcome: Outcome = Outcome.SUCCEEDED, **more: object) -> None:
    claimed = ledger.claim(task, AGENT, "0123456789abcdef", 90.0)
    assert claimed is not None
    ledger.finish(Finished(task, claimed.fence, outcome, **more), AGENT)  # type: ignore[arg-type]


def test_preview_shows_waves_and_what_may_go_wrong(cli: Cli, diamond: Path) -> None:
    ran = cli("plan", "preview", str(diamond))
    assert ran.code == 0
    assert ran.out == (
        "WAVE  KEY    ROLE     PRIO  AFTER        TITLE\n"
        "1     top    builder  0     -            Begin\n"
        "2     left   builder  2     top          Go left\n"
        "2     right  builder  0     top          Go right\n"
        "3     end    qa       0     left, right  End it\n"
        "\n"
        "4 tasks, 3 waves; at most 3 sessions run at the same time\n"
    )
    assert "left and right are both about b.py" in ran.err
    assert "no agent of swarm.yaml takes role qa" in ran.err


def test_apply_prints_the_id_and_lets_the_swarm_know(
    cli: Cli, diamond: Path, supervisor: FakeSupervisor, ledger: Ledger
) -> None:
    ran = cli("plan", "apply", str(diamond))
    (plan,) = ledger.plans()
    assert (ran.code, ran.out) == (0, f"{plan.id}\n")
    assert "no swarm" not in ran.err
    assert any(isinstance(one, control.PokeLedger) for one in supervisor.heard)
    assert (plan.title, plan.total) == ("The diamond", 4)
    assert ledger.plan_source(plan.id) == DIAMOND
    told = json.loads(cli("plan", "apply", str(diamond), "--json").out)
    assert [one["key"] for one in told["tasks"]] == ["top", "left", "right", "end"]
    assert told["fresh"] is True


def test_once_makes_the_same_file_the_same_plan(cli: Cli, diamond: Path, ledger: Ledger) -> None:
    first = cli("plan", "apply", str(diamond), "--once")
    again = cli("plan", "apply", str(diamond), "--once")
    assert again.out == first.out
    assert "applied before" in again.err
    assert cli("plan", "apply", str(diamond)).out != first.out
    diamond.write_text(DIAMOND.replace("Begin", "Start"))
    assert cli("plan", "apply", str(diamond), "--once").out != first.out
    assert len(ledger.plans()) == 3


def test_a_bad_plan_takes_in_nothing_and_tells_every_line(
    cli: Cli, tmp_path: Path, ledger: Ledger
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("- {key: a, text: x, after: b}\n- {key: b, text: x, after: a, role: nobody}\n")
    for verb in ("apply", "preview"):
        ran = cli("plan", verb, str(path))
        assert (ran.code, ran.out) == (2, "")
        assert f"{path}:1: tasks[0].after: waits for itself: a → b → a" in ran.err
        assert f"{path}:2: tasks[1].role: there is no role 'nobody'" in ran.err
    path.write_text("- {text: x, after: t-nothere0}\n- {text: x, after: p-x/y}\n")
    ran = cli("plan", "apply", str(path))
    assert ran.code == 2
    assert f"{path}:1: task-1: there is no task 't-nothere0' to be after" in ran.err
    assert f"{path}:2: task-2: there is no task 'p-x/y' to be after" in ran.err
    assert cli("plan", "apply", str(tmp_path / "none")).code == 2
    assert ledger.plans() == []
    assert ledger.tasks() == []


def test_a_dry_run_changes_nothing(cli: Cli, diamond: Path, ledger: Ledger) -> None:
    ran = cli("plan", "apply", str(diamond), "--dry-run")
    assert ran.out.startswith("WAVE")
    assert ledger.plans() == []


def test_a_follow_up_names_the_earlier_plans_tasks(
    cli: Cli, diamond: Path, tmp_path: Path, ledger: Ledger
) -> None:
    first = cli("plan", "apply", str(diamond)).out.strip()
    path = tmp_path / "next.md"
    top = ledger.plan_task(first, "top")
    path.write_text(
        f"- [ ] a: More\n  after: earlier/left, {first}/top, {top}\n- [ ] b: And more\n"
    )
    assert "earlier/left" in cli("plan", "apply", str(path)).err
    assert cli("plan", "preview", str(path)).code == 0
    then = cli("plan", "apply", str(path), "--follows", first[:6]).out.strip()
    a, b = ledger.plan_tasks(then)
    assert [task.plan_key for task in ledger.waits_for(a.id)] == ["top", "left"]
    assert len(ledger.waits_for(b.id)) == 4
    assert f"follows {first}" in cli("plan", "status", then).out


def test_status_says_what_waits_and_why_and_what_is_next(
    cli: Cli, diamond: Path, ledger: Ledger, supervisor: FakeSupervisor
) -> None:
    plan = cli("plan", "apply", str(diamond)).out.strip()
    ids = {task.plan_key: task.id for task in ledger.plan_tasks(plan)}
    end(ledger, ids["top"])
    end(ledger, ids["left"], Outcome.FAILED, reason="no \x1b[2J luck")
    out = cli("plan", "status").out
    assert f"{plan}  The diamond" in out
    assert "active: 1 of 4 done, 1 failed, 2 queued" in out
    assert "waits for left which failed" in out
    assert "no [2J luck" in out
    assert f"next      agentctl task retry {ids['left']}      # left failed" in out
    told = json.loads(cli("plan", "status", plan, "--json").out)
    assert told["version"] == 1
    assert told["plan"]["counts"]["failed"] == 1
    rows = {row["key"]: row for row in told["tasks"]}
    assert rows["top"]["reason"] == rows["top"]["result"] == "noop"
    assert rows["end"]["after"] == [ids["left"], ids["right"]]
    end(ledger, ids["right"], Outcome.DENIED, needs_human=True, reason="which way?")
    assert f"agentctl task answer {ids['right']} TEXT" in cli("plan", "status").out
    ran = cli("plan", "wait", plan, "-q")  # nothing moves until a person has answered
    assert ran.code == 3
    assert json.loads(cli("plan", "list", "--json").out)["plans"][0]["state"] == "active"


def test_status_tells_commands_that_work(cli: Cli, diamond: Path, ledger: Ledger) -> None:
    """A reason calls a task by its key; a command knows only ids."""
    plan = cli("plan", "apply", str(diamond)).out.strip()
    (top,) = [task.id for task in ledger.plan_tasks(plan) if task.plan_key == "top"]
    claimed = ledger.claim(top, AGENT, "0123456789abcdef", 90.0)
    assert claimed is not None
    work = Finished(top, claimed.fence, Outcome.SUCCEEDED, commit="a" * 40, commits=1)
    ledger.finish(work, AGENT, way=Way(Review.HUMAN))
    out = cli("plan", "status", plan).out
    assert f"agentctl task approve {top}" in out
    assert "waits for top" in out


def test_wait_and_watch_end_when_the_plan_is_over(
    cli: Cli, diamond: Path, ledger: Ledger, places: Places
) -> None:
    plan = cli("plan", "apply", str(diamond)).out.strip()
    ids = {task.plan_key: task.id for task in ledger.plan_tasks(plan)}
    assert cli("plan", "wait", plan, "--timeout", "0").code == 124

    def work() -> None:
        with open_ledger(places.ledger) as own:
            for key in ("top", "left", "right", "end"):
                end(own, ids[key])

    worker = threading.Thread(target=work)
    worker.start()
    ran = cli("plan", "wait", plan)
    worker.join()
    assert ran.code == 0
    assert f"{plan} done: 4 of 4 done" in ran.out
    assert "4 of 4 done" in cli("plan", "status", plan, "--watch").out
    ledger.retry(ids["end"])
    end(ledger, ids["end"], Outcome.FAILED)
    ran = cli("plan", "wait", plan, "-q")
    assert (ran.code, ran.out) == (3, "")
    assert "agentctl task retry" in ran.err


def test_pause_resume_cancel_and_preview_of_what_is_left(
    cli: Cli, diamond: Path, ledger: Ledger
) -> None:
    plan = cli("plan", "apply", str(diamond), "--paused").out.strip()
    assert "paused: 0 of 4 done" in cli("plan", "status", plan).out
    assert cli("plan", "resume", plan).out == f"{plan} is active\n"
    assert f"{plan} is paused" in cli("plan", "pause", plan).out
    cli("plan", "resume", plan)
    end(ledger, ledger.find(f"{plan}/top").id)
    ran = cli("plan", "preview", plan)
    assert [line.split()[:3] for line in ran.out.splitlines()[1:]] == [
        ["1", "left", "queued"],
        ["1", "right", "queued"],
        ["2", "end", "queued"],
    ]
    assert "left and right are both about b.py" in ran.err
    assert "is cancelled: 3 tasks" in cli("plan", "cancel", plan).out
    assert "nothing of it is left to run" in cli("plan", "preview", plan).out
    assert cli("plan", "cancel", plan).code == 2
    assert cli("plan", "resume", plan).code == 2


def test_a_task_is_added_to_a_plan_that_runs(cli: Cli, diamond: Path, ledger: Ledger) -> None:
    plan = cli("plan", "apply", str(diamond)).out.strip()
    added = cli(
        "plan", "add", plan, "Tell the world", "--after", "end", "--file", "NEWS.md", "--json"
    )
    told = json.loads(added.out)
    assert (told["key"], told["plan"]) == ("task-5", plan)
    assert ledger.prompt(told["id"]).endswith("- NEWS.md")
    assert [task.plan_key for task in ledger.waits_for(told["id"])] == ["end"]
    assert cli("plan", "add", plan, "x", "--key", "end").code == 2
    assert cli("plan", "add", plan, "x", "--after", "nowhere").code == 2


def test_edit_and_skip_change_a_waiting_task(
    cli: Cli, diamond: Path, tmp_path: Path, ledger: Ledger
) -> None:
    plan = cli("plan", "apply", str(diamond)).out.strip()
    ids = {task.plan_key: task.id for task in ledger.plan_tasks(plan)}
    text = tmp_path / "better.md"
    text.write_text("Better")
    ran = cli(
        *("task", "edit", f"{plan}/end", "--text-file", str(text), "--priority", "7"),
        *("--after", "right", "--label", "effort=low", "--role", "auditor"),
    )
    assert ran.out == (f"{ids['end']} is queued; changed: prompt, role, priority, labels, after\n")
    found = ledger.find(ids["end"])
    assert (found.priority, found.role, found.labels) == (7, "auditor", {"effort": "low"})
    assert [task.plan_key for task in ledger.waits_for(found.id)] == ["right"]
    assert cli("task", "edit", ids["end"], "--no-after").code == 0
    assert ledger.find(ids["end"]).blocked == 0
    for bad in (
        (),
        ("--role", "nobody"),
        ("--text", "x", "--text-file", str(text)),
        ("--after", "end", "--no-after"),
        ("--after", "end"),
        ("--label", "effort"),
        ("--text-file", str(tmp_path)),
    ):
        ran = cli("task", "edit", ids["end"], *bad)
        assert ran.code == 2, bad
        assert ran.err.startswith("agentctl: ")
    assert cli("task", "skip", ids["top"], "--release").out == f"{ids['top']} is skipped\n"
    assert not ledger.find(ids["left"]).blocked


PLAN = "title: Made\ntasks:\n- {key: a, text: x}\n- {key: b, text: y, after: a}\n"


def planner(places: Places, text: str, outcome: Outcome = Outcome.SUCCEEDED) -> threading.Thread:
    """Somebody who writes a plan as soon as one is wanted."""

    def work() -> None:
        with open_ledger(places.ledger) as own:
            wanted = eventually(lambda: own.tasks([TaskState.QUEUED]), 20)
            assert [task.kind for task in wanted] == [TaskKind.PLAN]
            assert own.prompt(wanted[0].id) == "Make it better"
            end(own, wanted[0].id, outcome, review=text, reason="so")

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_make_writes_the_plan_of_a_session_to_a_file(
    cli: Cli, places: Places, tmp_path: Path, ledger: Ledger
) -> None:
    target = tmp_path / "made.yaml"
    worker = planner(places, PLAN)
    ran = cli("plan", "make", "Make it better", "--out", str(target))
    worker.join()
    assert ran.code == 0, ran.err
    assert target.read_text() == PLAN
    assert "2     b    builder" in ran.out
    assert ledger.plans() == []
    assert "is there already" in cli("plan", "make", "x", "--out", str(target)).err


def test_make_applies_a_plan_only_after_a_yes(
    cli: Cli, places: Places, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = cli("plan", "make", "Make it better", "--apply")
    assert (ran.code, ledger.tasks()) == (2, [])
    assert "nobody is there to ask; add --yes" in ran.err
    monkeypatch.setattr(plan_make, "_somebody_there", lambda: True)
    monkeypatch.setattr(plan_make, "_agreed", lambda: False)
    worker = planner(places, PLAN)
    ran = cli("plan", "make", "Make it better", "--apply")
    worker.join()
    assert (ran.code, ledger.plans()) == (0, [])
    (task,) = ledger.tasks()
    assert f"'agentctl plan make --task {task.id} --apply' asks again" in ran.err
    for _ in range(2):  # a second time is the same plan
        ran = cli("plan", "make", "--task", task.id, "--apply", "--yes")
        (plan,) = ledger.plans()
        assert (ran.code, ran.out.splitlines()[-1]) == (0, plan.id)
        assert (plan.title, plan.total) == ("Made", 2)


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("- {key: a, text: x, review: none}", 2, "plan.yaml:1: tasks[0].review: is for a person"),
        ("- {key: a, text: x, after: t-abcdefgh}", 2, "is no task of this plan"),
        ("!!python/object:os.system {}", 2, "plan.yaml:1: tags are not read here"),
        ("", 3, "is done and left no plan.yaml"),
    ],
)
def test_a_made_plan_is_a_strangers_text(
    cli: Cli, places: Places, ledger: Ledger, text: str, code: int, told: str
) -> None:
    worker = planner(places, text)
    ran = cli("plan", "make", "Make it better", "--apply", "--yes")
    worker.join()
    assert (ran.code, ledger.plans()) == (code, [])
    assert told in ran.err


def test_a_planner_that_failed_made_no_plan(cli: Cli, places: Places, ledger: Ledger) -> None:
    worker = planner(places, PLAN, Outcome.FAILED)
    ran = cli("plan", "make", "Make it better", "--apply", "--yes")
    worker.join()
    assert (ran.code, ledger.plans()) == (3, [])
    task = cli("plan", "make", "Again", "--no-wait").out.strip()
    assert ledger.find(task).kind is TaskKind.PLAN

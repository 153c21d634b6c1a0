"""A whole clean-up of a home without a swarm: hub, workspaces, ledger, logs, folders, all real."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spawner_support import HOME_ID, Desk, make_source, sh_git
from tests_support import eventually

from swarm.config.places import Places
from swarm.core.keep import DAY, Lifetimes
from swarm.desk import cleaner
from swarm.desk.cleaning import Cleaning, Report, home_id, one_at_a_time
from swarm.errors import SwarmError
from swarm.ledger import open_ledger
from swarm.ledger.database import Database
from swarm.ledger.interface import NewTask
from swarm.ledger.owners import Owners
from swarm.spawner.hub import ensure_hub, hub_path
from swarm.spawner.workspace import Brief, Workspace, make_workspace
from swarm.supervisor.startup import await_clean_up
from swarm.wire.spawn import CleanerSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
ALL = Lifetimes(0.0, 0.0, 0.0, None, 0.0)
OLD = 40 * DAY


class House:
    """A home with one hub, one workspace that is left, and tasks."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.places = Places(desk.root)
        self.places.home_id.write_text(HOME_ID)
        self.tasks: list[str] = []

    def task(self, state: str, age: float = OLD, **columns: object) -> str:
        """A task in some state, with a branch of one commit, a log and a folder."""
        with open_ledger(self.places.ledger) as ledger:
            task = ledger.submit(NewTask(prompt="x"))
        name = f"swarm/{self.desk.workspace.name}/{task}"
        tree = self.desk.in_hub("rev-parse", "main^{tree}")
        tip = self.desk.in_hub("commit-tree", "-p", "main", "-m", task, tree)
        self.desk.in_hub("update-ref", f"refs/heads/{name}", tip)
        self.set(task, state=state, branch=name, tip=tip, ended_at=time.time() - age, **columns)
        for path in (
            self.places.session_log(task, 1),
            self.places.logs / "checks" / f"{task}.1.log",
            self.places.task_folder(task) / "input" / "a.txt",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(task)
            os.utime(path, (time.time() - age,) * 2)
        return task

    def set(self, task: str, **columns: object) -> None:
        database = Database(self.places.ledger)
        with database.writing() as db:
            for name, value in columns.items():
                db.execute(f"UPDATE tasks SET {name} = ? WHERE id = ?", (value, task))
        database.close()

    def things(self, task: str) -> set[str]:
        """What there is of a task."""
        found = {"log"} if self.places.session_log(task, 1).exists() else set()
        found |= {"check"} if (self.places.logs / "checks" / f"{task}.1.log").exists() else set()
        found |= {"folder"} if self.places.task_folder(task).exists() else set()
        refs = self.desk.in_hub("for-each-ref", "--format=%(refname)").split()
        name = f"swarm/{self.desk.workspace.name}/{task}"
        found |= {"branch"} if f"refs/heads/{name}" in refs else set()
        return found | ({"saved"} if f"refs/agentctl/salvage/{name}" in refs else set())

    def cleaning(self, terms: Lifetimes = ALL, agents: Any = frozenset, **more: Any) -> Cleaning:
        base = str(self.desk.root / "base")
        return Cleaning(
            self.places, terms, home_id=HOME_ID, agents=agents, **{"base": base, **more}
        )


EVERYTHING = {"log", "check", "folder", "branch"}


@pytest.fixture
def desk(home: Path) -> Desk:
    source = make_source(home / "source")
    hub = ensure_hub(hub_path(home / "hub", str(source)), str(source), "main")
    name = "swarm-builder-001"
    workspace = make_workspace(str(home / "base"), name, HOME_ID, Brief("builder", "Build it."))
    return Desk(home, source, hub, workspace)


@pytest.fixture
def house(desk: Desk) -> House:
    return House(desk)


def shape(report: Report) -> object:
    """What a report says, without what only doing it can tell."""
    return (
        [one.path for one in report.places],
        [(one.branch.name, one.saved) for one in report.endings],
        [one.path for one in report.logs],
        [one.path for one in report.folders],
    )


def test_it_removes_what_is_over_and_loses_nothing(house: House) -> None:
    house.desk.session("git commit -q --allow-empty -m one; echo x > loose")
    work = sh_git(house.desk.repo, "rev-parse", "HEAD")
    over = [house.task(state) for state in ("done", "failed", "cancelled", "skipped")]
    stays = [house.task(s) for s in ("queued", "running", "review", "landing", "needs_human")]
    stays += [house.task("done"), house.task("cancelled", held=1), house.task("done")]
    database = Database(house.places.ledger)
    with database.writing() as db:
        ids = {row["id"]: row["seq"] for row in db.execute("SELECT id, seq FROM tasks")}
        db.execute(
            "INSERT INTO dependencies (task, needs, met) VALUES (?, ?, 1)",
            (ids[stays[0]], ids[stays[-1]]),
        )
    database.close()
    house.set(stays[5], ended_at=time.time() - 60)
    terms = Lifetimes(0.0, DAY, DAY, None, DAY)
    preview = house.cleaning(terms).preview()
    for task in (*over, *stays):
        assert house.things(task) == EVERYTHING, "a preview changes nothing"
    assert os.path.exists(house.desk.workspace.path)
    report = house.cleaning(terms).carry_out()
    assert report.problems == []
    assert shape(report) == shape(preview)
    for task in over:
        assert house.things(task) == {"saved"}
    for task in stays:
        young = {"log", "check"} if task == stays[5] else set()  # ended now, tried long ago
        assert house.things(task) == EVERYTHING - young
    assert not os.path.exists(house.desk.workspace.path)
    kept = {one.ref for one in report.saved}
    assert {f"refs/agentctl/salvage/swarm/{house.desk.workspace.name}/{t}" for t in over} < kept
    (mine,) = [one.ref for one in report.saved if one.what == house.desk.workspace.name]
    assert sh_git(house.desk.hub.path, "merge-base", "--is-ancestor", work, mine) == ""
    house.desk.in_hub("fsck", "--strict")
    assert house.cleaning(terms).carry_out().endings == []


def test_nobody_else_is_at_it_and_a_swarm_that_starts_waits(house: House) -> None:
    said: list[str] = []
    await_clean_up(house.places, said.append)  # none ever was
    with one_at_a_time(house.places):
        with pytest.raises(SwarmError, match="another clean-up"):
            house.cleaning().carry_out()
        house.cleaning().preview()
        with pytest.raises(SwarmError, match="does not end"):
            await_clean_up(house.places, said.append, patience=0.05)
        waiting = threading.Thread(target=await_clean_up, args=(house.places, said.append))
        waiting.start()
        eventually(lambda: len(said) == 2)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()
    assert said == ["waiting for a clean-up to end"] * 2


def answers(*given: frozenset[str] | None) -> Callable[[], frozenset[str] | None]:
    """Who the agents are, as asked again and again; the last answer stays."""
    left = list(given)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize("then", [frozenset({"swarm-builder-001"}), None])
def test_a_swarm_that_starts_meanwhile_keeps_its_workspaces(
    house: House, then: frozenset[str] | None
) -> None:
    none: frozenset[str] = frozenset()
    report = house.cleaning(agents=answers(none, none, then)).carry_out()
    assert os.path.exists(house.desk.workspace.path)
    assert report.places == []
    assert "a swarm has begun to use it" in report.problems[0]
    assert house.cleaning(agents=answers(then)).carry_out().problems == [], "that is no trouble"


def test_a_task_that_is_queued_again_meanwhile_keeps_its_things(house: House) -> None:
    tasks = [house.task("failed"), house.task("failed")]

    def asked_for_the_workspace() -> frozenset[str]:
        house.set(tasks[0], state="queued")  # the facts are gathered, nothing is removed yet
        return frozenset()

    first: list[frozenset[str]] = [frozenset(), frozenset()]
    agents = lambda: first.pop() if first else asked_for_the_workspace()  # noqa: E731
    report = house.cleaning(agents=agents).carry_out()
    assert house.things(tasks[0]) == EVERYTHING
    assert house.things(tasks[1]) == {"saved"}
    assert len(report.logs) == 2


def test_without_a_ledger_every_branch_and_folder_is_somebodys(house: House) -> None:
    task = house.task("done")
    house.places.ledger.unlink()
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (house.places.home / name).unlink(missing_ok=True)
    house.cleaning(Lifetimes(0.0, 0.0, 0.0, None, 0.0)).carry_out()
    assert house.things(task) == {"folder", "branch"}


def test_what_cannot_be_removed_is_told_and_the_rest_goes(house: House) -> None:
    task = house.task("done")
    ghost = house.places.hub / "ghost.git"
    (ghost / "objects").mkdir(parents=True)
    Path(house.desk.workspace.repo).mkdir(exist_ok=True)
    (house.desk.repo / "unknown").write_text("no clone of ours")
    report = house.cleaning().carry_out()
    assert sorted(problem.split(" stay")[0] for problem in report.problems) == sorted(
        [house.desk.workspace.path, f"the branches of {ghost}"]
    )
    assert house.things(task) == {"saved"}


def test_logs_over_their_size_go_the_oldest_first(house: House) -> None:
    old, young, alive = house.task("done", 90.0), house.task("done", 60.0), house.task("running")
    one = house.places.session_log(old, 1).stat().st_blocks * 512
    terms = Lifetimes(log_bytes=4 * one)
    house.cleaning(terms).carry_out()
    assert house.things(old) == EVERYTHING - {"log", "check"}
    assert house.things(young) == house.things(alive) == EVERYTHING


def test_a_branch_from_before_a_fresh_retry_belongs_to_its_task(house: House) -> None:
    """It stays while its task is at work again, and then goes as any: landed, or saved first."""
    landed, lone = house.task("queued"), house.task("queued")
    tips = {}
    for task in (landed, lone):
        name = f"swarm/{house.desk.workspace.name}/{task}"
        tips[task] = house.desk.in_hub("rev-parse", f"refs/heads/{name}")
        house.set(task, branch=f"{name}.2", tip=None)  # as `retry --fresh` and a claim leave it
    tree = house.desk.in_hub("rev-parse", "main^{tree}")
    squashed = house.desk.in_hub("commit-tree", "-p", "main", "-m", "squashed", tree)
    note = f"refs/agentctl/landed/{landed}/{tips[landed]}"
    house.desk.in_hub("update-ref", note, squashed)
    house.desk.in_hub("update-ref", "refs/heads/main", squashed)
    report = house.cleaning().carry_out()
    assert not report.endings
    assert {"branch"} <= house.things(landed) & house.things(lone)
    for task in (landed, lone):
        house.set(task, state="failed", ended_at=time.time() - OLD)
    assert not house.cleaning(Lifetimes(branches=2 * OLD)).carry_out().endings, "too young"
    report = house.cleaning().carry_out()
    assert "branch" not in house.things(landed) | house.things(lone)
    (kept,) = report.saved
    assert kept.ref == f"refs/agentctl/salvage/swarm/{house.desk.workspace.name}/{lone}"
    assert house.desk.in_hub("rev-parse", kept.ref) == tips[lone]
    assert note not in house.desk.in_hub("for-each-ref", "--format=%(refname)").split()


def test_needed_tasks_are_known(house: House) -> None:
    one, other, review = house.task("done"), house.task("done"), house.task("queued")
    owners = Owners(house.places.ledger)
    try:
        seq = {row: n for n, row in enumerate((one, other, review), 1)}
        house.set(review, about=seq[one], parent=seq[other])
        assert [owners.one(t).needed for t in (one, other, review)] == [True, True, False]  # type: ignore[union-attr]
        house.set(review, state="done")
        by_id, by_branch = owners.all()
        assert not any(owner.needed for owner in by_id.values())
        assert len(by_branch) == 3
        assert owners.one("t-none") is None
    finally:
        owners.close()


def test_two_who_come_to_one_workspace_take_turns(house: House) -> None:
    """A stop's janitor and a clean-up: the second finds it gone, and says that it is."""
    house.desk.session("git commit -q --allow-empty -m one; echo x > loose")
    script = (
        "import sys; from swarm.spawner.janitor import tidy\n"
        "from swarm.sandbox.launch import Confinement\n"
        "from swarm.sandbox.landlock import LandlockRules\n"
        "from swarm.spawner.workspace import Workspace\n"
        f"r = tidy(Workspace({house.desk.workspace.path!r}), {HOME_ID!r},"
        " Confinement(landlock=LandlockRules()))\n"
        "print(r.removed, len(r.salvaged), r.problem)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = sorted(one.communicate(timeout=60)[0].strip() for one in both)
    # Who comes when it is gone already finds no workspace of ours, which is as good.
    assert said[-1] == "True 1"
    assert said[0] in ("True 0", "True 1")
    assert said != ["True 1", "True 1"]
    assert not os.path.lexists(house.desk.workspace.path)


def test_the_childs_one_line(house: House) -> None:
    house.task("done")
    mine = make_workspace(str(house.desk.root / "base"), "swarm-qa-001", HOME_ID, Brief("qa", ""))
    spec = CleanerSpec(
        str(house.places.home), HOME_ID, (mine.path,), workspaces=0.0, branches=0.0, logs=0.0
    )
    with one_at_a_time(house.places):
        assert "another clean-up" in cleaner._clean(spec).problems[0]
    said = cleaner._clean(spec)
    assert said.problems == ()
    assert len(said.saved) == 1
    assert not os.path.exists(mine.path)
    assert os.path.exists(Workspace(house.desk.workspace.path).path), "it was not given"
    assert home_id(house.places) == HOME_ID
    assert home_id(Places(house.places.home / "none")) == ""


def test_logs_of_agents_that_are_gone_go_too(house: House) -> None:
    folder = house.places.agent_log("x").parent
    folder.mkdir(parents=True)
    for name in ("swarm-qa-001.log", "swarm-qa-001.log.1", "swarm-qa-002.log"):
        (folder / name).write_text("{}\n")
        os.utime(folder / name, (time.time() - OLD,) * 2)
    house.cleaning(agents=lambda: frozenset({"swarm-qa-002"})).carry_out()
    assert os.listdir(folder) == ["swarm-qa-002.log"]
    house.cleaning(base="", paths=()).carry_out()
    assert os.listdir(folder) == ["swarm-qa-002.log"], "the cleaner does not know who is an agent"

"""What there is in a home, and its branches' ends: real hubs, real files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from mutants import mutant
from spawner_support import HOME_ID, Desk, fingerprint, make_source, sh_git

from swarm.core.keep import Branch, Ending, Owner, endings
from swarm.core.model import TaskResult, TaskState
from swarm.errors import GitError
from swarm.spawner import clearing, keeping, moving
from swarm.spawner.clearing import end_branches
from swarm.spawner.hub import ensure_hub, hub_path

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
DONE = Owner("t-1", TaskState.DONE, 0.0)
SAVED = "refs/agentctl/salvage/"


@pytest.fixture
def hub(home: Path) -> str:
    source = make_source(home / "source")
    return ensure_hub(hub_path(home / "hub", str(source)), str(source), "main").path


def commit(hub: str, *parents: str, text: str = "x") -> str:
    tree = sh_git(hub, "rev-parse", "main^{tree}")
    words = [word for parent in parents for word in ("-p", parent)]
    return sh_git(hub, "commit-tree", "-m", text, *words, tree)


def branch(hub: str, name: str, tip: str) -> str:
    sh_git(hub, "update-ref", f"refs/heads/{name}", tip)
    return name


def end(
    hub: str, owners: dict[str, Owner], module: object = keeping
) -> tuple[list[Ending], list[str]]:
    """As the clean-up does it, for all branches that have an owner here."""
    names = keeping.references(hub)
    going = [one for one in keeping.branches(hub, names, owners) if one.owner]
    loose = module.loose_commits(hub, names, going)  # type: ignore[attr-defined]
    return end_branches(hub, endings(going, loose, names), names)


def test_what_is_merged_goes_and_what_is_nowhere_else_is_saved(hub: str) -> None:
    base = sh_git(hub, "rev-parse", "main")
    merged, lone, kin = commit(hub, base, text="a"), commit(hub, base, text="b"), ""
    kin = commit(hub, lone, text="c")
    branch(hub, "main", commit(hub, base, merged, text="merge"))
    branch(hub, "swarm/a/t-1", merged)
    branch(hub, "swarm/a/t-2", lone)
    branch(hub, "swarm/a/t-3", base)
    branch(hub, "swarm/a/t-9", commit(hub, base, text="somebody's"))
    branch(hub, "theirs", kin)
    owners = {f"swarm/a/t-{n}": DONE for n in (1, 2, 3)}
    done, problems = end(hub, owners)
    assert not problems
    assert {one.branch.name: one.saved for one in done} == {
        "swarm/a/t-1": "",
        "swarm/a/t-2": "",  # a branch of somebody's holds it
        "swarm/a/t-3": "",
    }
    sh_git(hub, "update-ref", "-d", "refs/heads/theirs")
    branch(hub, "swarm/a/t-2", lone)
    done, _ = end(hub, owners)
    assert [one.saved for one in done] == [f"{SAVED}swarm/a/t-2"]
    left = keeping.references(hub)
    assert left[f"{SAVED}swarm/a/t-2"] == lone
    assert {name for name in left if name.startswith("refs/heads/swarm")} == {
        "refs/heads/swarm/a/t-9"
    }
    assert keeping.salvaged(left) == [f"{SAVED}swarm/a/t-2"]


def two_that_vouch_for_each_other(hub: str, module: object = keeping) -> dict[str, str]:
    one = commit(hub, sh_git(hub, "rev-parse", "main"), text="only here and there")
    branch(hub, "swarm/a/t-1", one)
    branch(hub, "swarm/b/t-2", one)
    sh_git(hub, "update-ref", "refs/source/heads/side", one)  # what a fetch moves keeps nothing
    done, problems = end(hub, {"swarm/a/t-1": DONE, "swarm/b/t-2": DONE}, module)
    assert len(done) == 2
    assert not problems
    left = keeping.references(hub)
    assert one in {left[name] for name in keeping.salvaged(left)}, "an unmerged commit is lost"
    return left


def test_two_branches_that_go_do_not_vouch_for_each_other(hub: str) -> None:
    left = two_that_vouch_for_each_other(hub)
    assert keeping.salvaged(left) == [f"{SAVED}swarm/a/t-1", f"{SAVED}swarm/b/t-2"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if name not in leaving and name.startswith(_KEEPING)", "if name.startswith(_KEEPING)"),
        ("if name not in leaving and name.startswith(_KEEPING)", "if name not in leaving"),
        ("loose |= wanted & set(only.decode().split())", "loose |= set()"),
    ],
)
def test_a_clean_up_that_deletes_an_unmerged_commit_is_seen(hub: str, old: str, new: str) -> None:
    """The fault as it was found elsewhere, planted."""
    with mutant(keeping, old, new) as bad, pytest.raises(AssertionError, match="is lost"):
        two_that_vouch_for_each_other(hub, bad)


def test_what_landed_squashed_goes_while_the_target_holds_it(hub: str) -> None:
    base = sh_git(hub, "rev-parse", "main")
    work, squashed = commit(hub, base, text="work"), commit(hub, base, text="squashed")
    landed = Owner("t-1", TaskState.DONE, 0.0, False, False, TaskResult.MERGED, work, squashed)
    branch(hub, "swarm/a/t-1", work)
    done, _ = end(hub, {"swarm/a/t-1": landed})
    assert done[0].saved == f"{SAVED}swarm/a/t-1", "the target does not hold it"
    branch(hub, "main", squashed)
    branch(hub, "swarm/a/t-2", work)
    sh_git(hub, "update-ref", "-d", done[0].saved)
    note, another = (f"refs/agentctl/landed/t-{n}/{work}" for n in (1, 2))
    sh_git(hub, "update-ref", note, squashed)
    sh_git(hub, "update-ref", another, squashed)
    done, _ = end(hub, {"swarm/a/t-2": landed})
    assert done[0].saved == ""
    assert note not in keeping.references(hub), "what it said is in the target itself"
    assert another in keeping.references(hub)
    assert sh_git(hub, "cat-file", "-t", work) == "commit", "a hub is never pruned"


def test_a_branch_that_moved_meanwhile_stays_and_keeps_no_other_back(hub: str) -> None:
    base = sh_git(hub, "rev-parse", "main")
    first, second = commit(hub, base, text="1"), commit(hub, base, text="2")
    branch(hub, "swarm/a/t-1", second)
    branch(hub, "swarm/a/t-2", first)
    going = [
        Ending(Branch(hub, "swarm/a/t-1", first, DONE), f"{SAVED}swarm/a/t-1"),
        Ending(Branch(hub, "swarm/a/t-2", first, DONE), f"{SAVED}swarm/a/t-2"),
    ]
    done, problems = end_branches(hub, going, keeping.references(hub))
    assert [one.branch.name for one in done] == ["swarm/a/t-2"]
    assert len(problems) == 1
    assert "swarm/a/t-1 stays" in problems[0]
    left = keeping.references(hub)
    assert left["refs/heads/swarm/a/t-1"] == second
    assert f"{SAVED}swarm/a/t-1" not in left, "all or nothing"
    assert left[f"{SAVED}swarm/a/t-2"] == first


def test_an_earlier_rescue_is_never_overwritten(hub: str) -> None:
    base = sh_git(hub, "rev-parse", "main")
    first, second = commit(hub, base, text="1"), commit(hub, base, text="2")
    for tip in (first, second, second):
        branch(hub, "swarm/a/t-1", tip)
        done, problems = end(hub, {"swarm/a/t-1": DONE})
        assert not problems
    left = keeping.references(hub)
    assert left[f"{SAVED}swarm/a/t-1"] == first
    assert left[f"{SAVED}swarm/a/t-1.{second[:12]}"] == second
    assert done[0].saved == "", "it is held by then"


def test_locks_of_a_git_that_was_killed_are_in_nobodys_way(
    hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch(hub, "swarm/a/t-1", sh_git(hub, "rev-parse", "main"))
    for name in ("packed-refs", "refs/heads/swarm/a/t-1"):
        Path(hub, f"{name}.lock").touch()
    monkeypatch.setattr(moving, "STALE_SECONDS", 0.05)
    done, problems = end(hub, {"swarm/a/t-1": DONE})
    assert len(done) == 1
    assert problems == []


def test_a_hub_that_is_none_is_an_error(home: Path) -> None:
    (home / "hub" / "x.git" / "objects").mkdir(parents=True)
    (home / "hub" / "y.git.making-7" / "objects").mkdir(parents=True)
    (found,) = keeping.hubs(str(home / "hub"))
    with pytest.raises(GitError):
        keeping.references(found)


def test_workspaces_are_measured_and_dated_by_what_we_wrote(desk: Desk) -> None:
    desk.session("git commit -q --allow-empty -m one")
    now = time.time()
    for folder, _, files in os.walk(desk.workspace.path):
        for name in (folder, *(os.path.join(folder, file) for file in files)):
            os.utime(name, (now - 9000, now - 9000))
    Path(desk.repo, "from-the-future").touch()
    os.utime(desk.repo / "from-the-future", (now + 1e6, now + 1e6))
    os.utime(desk.repo, (now - 9000, now - 9000))
    before = fingerprint(Path(desk.workspace.path))
    (one,) = keeping.places(str(desk.root / "base"), HOME_ID, now=now)
    assert one.name == desk.workspace.name
    assert round(now - one.used_at) == 9000
    assert one.size is not None
    assert one.size > 10_000
    assert not one.holds
    assert fingerprint(Path(desk.workspace.path)) == before, "only looked at"
    Path(desk.workspace.outbox).write_text("{}\n")
    (one,) = keeping.places(str(desk.root / "base"), HOME_ID, now=now, skip={one.name})
    assert "outbox" in one.holds
    assert one.size is None
    assert keeping.places(str(desk.root / "base"), "another", now=now) == []


def test_no_link_is_followed(home: Path) -> None:
    (home / "big").mkdir()
    (home / "big" / "file").write_bytes(b"x" * 1_000_000)
    top = home / "tasks" / "t-1"
    top.mkdir(parents=True)
    (top / "out").symlink_to(home / "big")
    (home / "tasks" / "t-2").symlink_to(home / "big")
    (home / "tasks" / ".incoming").mkdir()
    (one,) = keeping.folders(str(home / "tasks"), {"t-1": DONE})
    assert one.owner is DONE
    assert (one.size or 0) < 100_000
    assert clearing.remove_folder(one.path) == ""
    assert (home / "big" / "file").exists()
    assert "stays" in clearing.remove_folder("/proc/self/fd")


def test_logs_are_known_by_the_task_they_begin_with(home: Path) -> None:
    for name in ("sessions/t-1.1.jsonl", "sessions/t-1.1.prompt", "checks/t-2.1.log"):
        path = home / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (home / "logs" / "supervisor.log").write_text("x")
    found = keeping.logs(str(home / "logs"), {"t-1": DONE})
    assert [(os.path.basename(one.path), one.owner) for one in found] == [
        ("t-1.1.jsonl", DONE),
        ("t-1.1.prompt", DONE),
        ("t-2.1.log", None),
    ]
    assert clearing.remove_log(found[0].path) == ""
    assert clearing.remove_log(found[0].path) == "", "it may be gone already"
    assert "stays" in clearing.remove_log(str(home / "logs"))


def test_a_task_that_began_afresh_still_owns_its_first_branch(hub: str) -> None:
    for name in ("swarm/a/t-1", "swarm/b/t-1.2", "swarm/b/t-9"):
        branch(hub, name, sh_git(hub, "rev-parse", "main"))
    names = keeping.references(hub)
    found = keeping.branches(hub, names, {"swarm/b/t-1.2": DONE}, {"t-1": DONE})
    assert [(one.name, one.owner) for one in found] == [
        ("swarm/a/t-1", DONE),
        ("swarm/b/t-1.2", DONE),
        ("swarm/b/t-9", None),
    ]

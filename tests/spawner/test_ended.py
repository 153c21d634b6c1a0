"""What was cleaned up stays cleaned up, and what never came home is still saved: real git."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from mutants import mutant
from spawner_support import AGENT, HOME_ID, Desk, sh_git

from swarm.core.keep import Ending, Owner, endings
from swarm.core.model import TaskResult, TaskState
from swarm.spawner import clearing, ended, janitor, keeping
from swarm.spawner.clone import mark_in_use
from swarm.spawner.ended import ENDED, ended_commits, never_home, note_ended
from swarm.spawner.homecoming import fetch_ids, unsaved_commits
from swarm.spawner.hub import branch_tip

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


class Killed(BaseException):
    """Stands in for SIGKILL: nobody catches it."""


def landed(desk: Desk) -> str:
    """A task whose work has landed squashed, its clone as its session left it; its tip."""
    desk.session("echo work > work; git add -A; git commit -qm work")
    tip = desk.home().commit
    assert tip is not None
    squashed = desk.in_hub("commit-tree", "-p", desk.hub.tip, "-m", "work", f"{tip}^{{tree}}")
    desk.in_hub("update-ref", "refs/heads/main", squashed)
    return tip


def clean(desk: Desk, module: ModuleType = clearing) -> list[str]:
    """As the clean-up does it; what stayed."""
    squashed = branch_tip(desk.hub.path, "main")
    tip = branch_tip(desk.hub.path, desk.branch)
    owner = Owner("t-1", TaskState.DONE, 0.0, False, False, TaskResult.MERGED, tip, squashed)
    names = keeping.references(desk.hub.path)
    going = keeping.branches(desk.hub.path, names, {desk.branch: owner})
    loose = keeping.loose_commits(desk.hub.path, names, going)
    done, problems = module.end_branches(desk.hub.path, endings(going, loose, names), names)
    assert all(isinstance(one, Ending) and not one.saved for one in done)
    return list(problems)


def stays_clean(desk: Desk, module: ModuleType = clearing) -> None:
    """The whole story: landed, cleaned up, and then its workspace goes."""
    landed(desk)
    assert clean(desk, module) == []
    before = keeping.references(desk.hub.path)
    assert f"refs/heads/{desk.branch}" not in before
    assert janitor.tidy(desk.workspace, HOME_ID, desk.confinement()) == janitor.TidyReport(True)
    assert keeping.references(desk.hub.path) == before, "it came back"


def test_what_was_cleaned_up_does_not_come_back_with_its_workspace(desk: Desk) -> None:
    stays_clean(desk)


def test_what_its_session_did_after_it_came_home_is_still_saved(desk: Desk) -> None:
    """A commit on top, one beside it, files without a commit: none of it was ever in the hub."""
    tip = landed(desk)
    assert clean(desk) == []
    sh_git(desk.repo, "checkout", "-q", "-b", "side", f"{tip}^")
    sh_git(desk.repo, "commit", "-q", "--allow-empty", "-m", "beside")
    sh_git(desk.repo, "checkout", "-q", desk.branch)
    sh_git(desk.repo, "commit", "-q", "--allow-empty", "-m", "on top")
    more = [sh_git(desk.repo, "rev-parse", name) for name in ("side", desk.branch)]
    (desk.repo / "loose").write_text("loose\n")
    mark_in_use(desk.workspace)
    report = janitor.tidy(desk.workspace, HOME_ID, desk.confinement())
    assert report.removed, report.problem
    assert set(report.salvaged) == {
        f"refs/heads/{desk.branch}",
        f"refs/agentctl/salvage/{AGENT}/side",
    }
    assert unsaved_commits(desk.hub.path, more) == []
    assert "loose" in desk.files(branch_tip(desk.hub.path, desk.branch) or "")


def test_what_only_lies_in_the_hub_is_not_home(desk: Desk) -> None:
    """Objects of a fetch that was refused, beside a branch that was cleaned up."""
    tip = landed(desk)
    assert clean(desk) == []
    sh_git(desk.repo, "commit", "-q", "--allow-empty", "-m", "refused")
    refused = sh_git(desk.repo, "rev-parse", "HEAD")
    fetch_ids(desk.workspace, desk.hub.path, {"refs/x": refused}, desk.confinement())
    desk.in_hub("update-ref", "-d", "refs/x")
    assert never_home(desk.hub.path, [refused, tip]) == [refused]


def test_mutant_a_janitor_that_takes_what_lies_there_for_home_is_caught(desk: Desk) -> None:
    wrong = "unsaved_commits(hub, unsaved, unsaved) if"
    with mutant(ended, "unsaved_commits(hub, unsaved, ended) if", wrong) as bad:
        landed(desk)
        assert clean(desk) == []
        sh_git(desk.repo, "commit", "-q", "--allow-empty", "-m", "refused")
        refused = sh_git(desk.repo, "rev-parse", "HEAD")
        fetch_ids(desk.workspace, desk.hub.path, {"refs/x": refused}, desk.confinement())
        desk.in_hub("update-ref", "-d", "refs/x")
        assert bad.never_home(desk.hub.path, [refused]) == [], "a commit would be lost"


def killed_amid(desk: Desk, module: ModuleType) -> None:
    """A clean-up is killed as each thing it does is done; then the workspace goes."""

    def and_killed(step: Callable[..., object]) -> Callable[..., object]:
        def taken(*words: object) -> object:
            step(*words)
            raise Killed

        return taken

    tip = landed(desk)
    for name in ("note_ended", "_transact"):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module, name, and_killed(getattr(module, name)))
            with pytest.raises(Killed):
                clean(desk, module)
        home = desk.in_hub("for-each-ref", "--contains", tip) != ""
        assert home or tip in ended_commits(desk.hub.path), f"it is not known after {name}"
    assert janitor.tidy(desk.workspace, HOME_ID, desk.confinement()) == janitor.TidyReport(True)
    assert branch_tip(desk.hub.path, desk.branch) is None


def test_a_clean_up_can_be_killed_at_any_point(desk: Desk) -> None:
    killed_amid(desk, clearing)


@pytest.mark.parametrize("story", [stays_clean, killed_amid])
def test_mutant_a_clean_up_that_notes_nothing_is_caught(
    desk: Desk, story: Callable[[Desk, ModuleType], None]
) -> None:
    """The fault as it was found."""
    right, wrong = (f"(one.branch.tip for one in going{cut})" for cut in ("", "[:0]"))
    with mutant(clearing, right, wrong) as bad, pytest.raises(AssertionError):
        story(desk, bad)


def test_a_note_that_cannot_be_written_keeps_the_branches(desk: Desk) -> None:
    tip = landed(desk)
    os.mkdir(os.path.join(desk.hub.path, ENDED))
    (problem,) = clean(desk)
    assert problem.startswith(f"branch {desk.branch} stays: ")
    assert branch_tip(desk.hub.path, desk.branch) == tip
    assert janitor.tidy(desk.workspace, HOME_ID, desk.confinement()).removed, "nobody asks for it"


def test_half_a_line_of_one_that_was_killed_spoils_no_other(desk: Desk) -> None:
    assert ended_commits(desk.hub.path) == []
    first, second = "1" * 40, "2" * 40
    note_ended(desk.hub.path, [first])
    file = Path(desk.hub.path, ENDED)
    file.write_bytes(file.read_bytes() + b"\xff" + first[:20].encode())
    note_ended(desk.hub.path, [second, first])
    assert ended_commits(desk.hub.path) == [first, second]
    assert never_home(desk.hub.path, [first, desk.hub.tip]) == [first], "it is not there"

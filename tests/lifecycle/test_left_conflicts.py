"""Sessions that say they are done and leave a conflict: back again, counted, never merged."""

from __future__ import annotations

from pathlib import Path

from swarm_support import Swarm, kill
from tests_support import eventually

from swarm.core.model import Outcome, RemarkKind, TaskResult, TaskState
from swarm.ledger import Task, open_ledger
from swarm.ledger.records import Remark

MINE = "once write README.md ours\nonce commit mine\n"
COUNT = "again run echo x >> $AGENTCTL_OUT/tries\n"


def only(attempt: int, command: str) -> str:
    """A directive for one of the later attempts."""
    return f"again run [ $(wc -l < $AGENTCTL_OUT/tries) -ne {attempt - 1} ] || {{ {command}; }}\n"


def in_state(swarm: Swarm, task: str, state: TaskState) -> Task:
    """Wait until a task is in this state."""
    return eventually(
        lambda: found if (found := swarm.task(task)).state is state else None,
        30,
        lambda: f"{task} is {swarm.task(task).state}, not {state}\n{swarm.log_tail()}",
    )


def remarks(swarm: Swarm, task: str) -> list[Remark]:
    with open_ledger(swarm.places.ledger) as ledger:
        return ledger.remarks(task)


def reviewed(swarm: Swarm, prompt: str, rounds: int) -> tuple[str, Task]:
    """A task whose first commit is rejected after the source has changed the same line."""
    swarm.configure(
        repo={"merge": "merge", "review": "human", "max_revisions": rounds},
        agents=[{"role": "builder", "count": 1}],
    )
    swarm.up()
    task = swarm.add(MINE + prompt)
    first = in_state(swarm, task, TaskState.REVIEW)
    Path(swarm.repository, "README.md").write_text("theirs\n")
    swarm.git("commit", "-q", "-am", "upstream")
    swarm.must("task", "reject", task, "name both")
    return task, first


def test_a_conflict_left_twice_goes_back_twice_and_resolved_it_lands(swarm: Swarm) -> None:
    prompt = (
        COUNT
        + only(2, "echo half > half.txt")
        + only(3, "git commit -qam resolved-I-swear")
        + only(4, "echo both > README.md; git commit -qam resolved")
    )
    task, first = reviewed(swarm, prompt, rounds=3)
    done = in_state(swarm, task, TaskState.REVIEW)
    outcomes = [one.outcome for one in swarm.attempts(task)]
    assert outcomes == [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.FAILED, Outcome.SUCCEEDED]
    assert done.revisions == 3
    hub = swarm.hub()
    for number, file in ((2, "half.txt"), (3, "README.md")):
        attempt = swarm.attempts(task)[number - 1]
        assert attempt.reason.startswith("conflicts are left in README.md; saved as ")
        assert (attempt.base, attempt.tip) == (first.tip, first.tip), "the branch stays good"
        saved = attempt.reason.rpartition(" ")[2]
        assert "<<<<<<<" in swarm.git("show", f"{saved}:README.md", cwd=hub)
        told = swarm.places.session_prompt(task, number + 1).read_text()
        assert "were left in README.md" in told
        assert "name both" in told, "what the person said is not forgotten"
        aside = swarm.git("rev-parse", saved, cwd=hub)
        assert f"git show {aside}:FILE" in told
        assert swarm.git("show", f"{aside}:{file}", cwd=swarm.clone({"name": done.agent}))
    kinds = [one.kind for one in remarks(swarm, task)]
    assert kinds == [RemarkKind.REJECTION, RemarkKind.CONFLICT, RemarkKind.CONFLICT]
    assert "revised   3 times" in swarm.must("task", "show", task)
    swarm.must("task", "approve", task)
    landed = in_state(swarm, task, TaskState.DONE)
    assert landed.result is TaskResult.MERGED
    assert swarm.git("show", f"{landed.landed}:README.md", cwd=hub) == "both"
    for commit in swarm.git("rev-list", str(landed.landed), cwd=hub).split():
        assert "<<<<<<<" not in swarm.git("show", f"{commit}:README.md", cwd=hub)


def test_a_conflict_left_once_too_often_is_a_persons_and_never_merged(swarm: Swarm) -> None:
    task, first = reviewed(swarm, "again commit resolved, I swear", rounds=2)
    asked = in_state(swarm, task, TaskState.NEEDS_HUMAN)
    assert len(swarm.attempts(task)) == 3, "a first one, and two revisions"
    assert asked.reason.startswith("sent back 2 times, and still not landed")
    assert "name both" in asked.reason
    assert asked.reason.count("were left in README.md") == 2
    assert asked.tip == first.tip
    hub = swarm.hub()
    heads = swarm.git("for-each-ref", "--format=%(refname)", "refs/heads", cwd=hub).split()
    for head in heads:
        assert "<<<<<<<" not in swarm.git("show", f"{head}:README.md", cwd=hub)
    saved = swarm.git("for-each-ref", "--format=%(refname)", "refs/agentctl/salvage", cwd=hub)
    assert len(saved.split()) == 2
    assert "were left in README.md" in swarm.must("swarm", "status")


def test_markers_that_a_killed_daemon_left_committed_are_nobodys_good_work(swarm: Swarm) -> None:
    prompt = (
        COUNT
        + only(2, "git commit -qam resolved-I-swear; echo > $AGENTCTL_OUT/committed; sleep 600")
        + only(3, "grep -c '<<<<<<<' README.md; echo both > README.md; git commit -qam resolved")
    )
    task, first = reviewed(swarm, prompt, rounds=2)
    (agent,) = swarm.active(1)
    out = swarm.root / "agents" / str(agent["name"]) / "out" / task
    eventually(lambda: (out / "committed").exists(), 20)
    kill(int(agent["pid"]))
    done = in_state(swarm, task, TaskState.REVIEW)
    outcomes = [one.outcome for one in swarm.attempts(task)]
    assert outcomes == [Outcome.SUCCEEDED, Outcome.LOST, Outcome.SUCCEEDED]
    assert swarm.attempts(task)[-1].base == first.tip
    hub = swarm.hub()
    assert swarm.git("show", f"{done.tip}:README.md", cwd=hub) == "both"
    saved = swarm.git("for-each-ref", "--format=%(refname)", "refs/agentctl/salvage", cwd=hub)
    assert "<<<<<<<" in swarm.git("show", f"{saved}:README.md", cwd=hub)

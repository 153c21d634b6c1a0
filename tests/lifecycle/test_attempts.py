"""Attempts after the first: what they begin with, when they come by themselves, what is kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

from swarm_support import Swarm, kill
from tests_support import eventually

from swarm.core.model import Outcome, TaskState
from swarm.ledger import Task, open_ledger

REVIEWED = {"merge": "squash", "review": "human"}


def in_state(swarm: Swarm, task: str, state: TaskState) -> Task:
    """Wait until a task is in this state."""
    return eventually(
        lambda: found if (found := swarm.task(task)).state is state else None,
        30,
        lambda: f"{task} is {swarm.task(task).state}, not {state}\n{swarm.log_tail()}",
    )


def told(swarm: Swarm, task: str, attempt: int) -> str:
    """What an attempt's session was told."""
    return swarm.places.session_prompt(task, attempt).read_text()


def upstream(swarm: Swarm, name: str, text: str) -> str:
    """Somebody commits to the source; the commit."""
    (swarm.repository / name).write_text(text)
    swarm.git("add", "-A")
    swarm.git("commit", "-q", "-m", f"upstream writes {name}")
    return swarm.git("rev-parse", "HEAD")


def test_what_is_sent_back_begins_with_the_new_base_the_conflict_and_the_feedback(
    swarm: Swarm,
) -> None:
    swarm.configure(repo=REVIEWED, agents=[{"role": "builder", "count": 1}])
    swarm.up()
    task = swarm.add(
        "once write README.md ours\nonce commit mine\n"
        "again run grep -c '<<<<<<<' README.md\nagain run cat other.txt\n"
        "again write README.md both\nagain commit merged"
    )
    first = in_state(swarm, task, TaskState.REVIEW)
    upstream(swarm, "other.txt", "from elsewhere\n")
    base = upstream(swarm, "README.md", "theirs\n")
    swarm.must("task", "reject", task, "name", "both")
    second = eventually(
        lambda: found if (found := swarm.attempts(task))[1:] and found[1].ended_at else None, 30
    )
    done = in_state(swarm, task, TaskState.REVIEW)
    assert done.tip != first.tip
    prompt = told(swarm, task, 2)
    assert "name both" in prompt
    assert "\n- README.md\n" in prompt
    assert second[1].base == first.tip, "a conflict moves nothing"
    log = swarm.places.session_log(task, 2).read_text()
    assert "from elsewhere" in log
    assert "1\\n" in log or "1 (exit 0)" in log
    hub = swarm.hub()
    parents = swarm.git("log", "-1", "--format=%P", str(done.tip), cwd=hub).split()
    assert parents == [first.tip, base]
    swarm.must("task", "approve", task)
    landed = in_state(swarm, task, TaskState.DONE)
    assert swarm.git("show", f"{landed.landed}:README.md", cwd=hub) == "both"


def test_a_role_has_failures_tried_again_and_the_next_is_told_what_was_done(swarm: Swarm) -> None:
    swarm.places.roles.joinpath("builder.yaml").write_text(
        "runtime: scripted\nretries: 1\nretry_seconds: 1\n"
    )
    swarm.up()
    task = swarm.add("once write a.txt a\nonce commit the first half\nonce fail no luck\nanswer ok")
    waits = eventually(
        lambda: said if "tried again in" in (said := reason(swarm, task)) else None, 30
    )
    assert "(1 of 1): no luck" in waits
    (done,) = swarm.ended([task])
    assert (done.state, done.retries) == (TaskState.DONE, 1)
    outcomes = [one.outcome for one in swarm.attempts(task)]
    assert outcomes == [Outcome.FAILED, Outcome.SUCCEEDED]
    prompt = told(swarm, task, 2)
    assert "failed: no luck" in prompt
    assert "attempt 1 committed, newest first: the first half" in prompt


def reason(swarm: Swarm, task: str) -> str:
    with open_ledger(swarm.places.ledger) as ledger:
        return ledger.reason(task) or ""


def test_a_lost_attempts_work_has_the_configured_author_and_the_next_waits_a_moment(
    swarm: Swarm,
) -> None:
    swarm.configure(agents=[{"role": "builder", "count": 1}])
    swarm.up()
    task = swarm.add("once write half.txt half\nonce hang\nagain run cat half.txt\nanswer ok")
    (agent,) = swarm.active(1)
    eventually(lambda: (swarm.clone(agent) / "half.txt").exists(), 15)
    kill(int(agent["pid"]))
    (done,) = swarm.ended([task])
    assert done.state is TaskState.DONE
    first, second = swarm.attempts(task)
    assert (first.outcome, second.outcome) == (Outcome.LOST, Outcome.SUCCEEDED)
    assert first.ended_at is not None
    assert second.started_at is not None
    assert second.started_at - first.ended_at >= 1.0, "a promise, not a measurement"
    hub = swarm.hub()
    who = swarm.git("log", "-1", "--format=%an <%ae> %cn", f"{done.branch}", cwd=hub)
    assert who == f"Test <test@example.org> {agent['name']}"


def test_a_killed_swarms_uncommitted_work_has_the_configured_author(swarm: Swarm) -> None:
    swarm.configure(agents=[{"role": "builder", "count": 1}])
    pid = swarm.up()
    task = swarm.add("once write half.txt half\nonce hang\nanswer ok")
    (agent,) = swarm.active(1)
    eventually(lambda: (swarm.clone(agent) / "half.txt").exists(), 15)
    kill(pid)
    swarm.gone(within=5)
    swarm.up()
    (done,) = swarm.ended([task])
    assert done.state is TaskState.DONE
    hub = swarm.hub()
    found = swarm.git(
        "log", "--all", "--format=%an <%ae> %cn", "--diff-filter=A", "--", "half.txt", cwd=hub
    )
    assert found == f"Test <test@example.org> {agent['name']}"


def test_a_fresh_retry_a_word_to_it_and_the_story_of_it_all(swarm: Swarm, tmp_path: Path) -> None:
    swarm.up()
    task = swarm.add("write a.txt a\ncommit mine\nout report.md made\nonce fail no luck\nanswer ok")
    (failed,) = swarm.ended([task])
    assert failed.state is TaskState.FAILED
    said = swarm.must("task", "retry", "--fresh", task, "mind the gap")
    assert f"the old one is kept as {failed.branch}" in said
    (done,) = swarm.ended([task])
    assert (done.state, len(done.commits or ())) == (TaskState.DONE, 1)
    assert done.branch not in (None, failed.branch)
    hub = swarm.hub()
    kept = swarm.git("rev-parse", str(failed.branch), cwd=hub)
    assert kept == swarm.attempts(task)[0].tip
    first, second = swarm.attempts(task)
    assert first.base == second.base == swarm.git("rev-parse", "main")
    assert "mind the gap" in told(swarm, task, 2)
    place = tmp_path / "story"
    swarm.must("task", "export", task, str(place))
    story = json.loads((place / "task.json").read_text())
    assert [one["outcome"] for one in story["attempts"]] == ["failed", "succeeded"]
    assert (place / "attempts/2/prompt.md").read_text() == told(swarm, task, 2)
    assert "mind the gap" in (place / "remarks.md").read_text()
    assert os.path.getsize(place / "work.bundle") > 0
    swarm.git("fetch", "-q", str(place / "work.bundle"), str(done.branch))
    assert swarm.git("rev-parse", "FETCH_HEAD") == done.tip

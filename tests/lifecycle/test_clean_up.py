"""Clean-ups of a swarm that runs: by a person, and by itself when the disk runs low."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from swarm_support import Swarm, git
from tests_support import eventually

from swarm.core.model import TaskResult, TaskState

PLENTY = 1 << 40
"""MB that no disk has free: with such a limit the disk is low, whatever is on it."""


def aged(top: Path, days: float) -> None:
    """As if nobody had touched it for so long."""
    then = time.time() - days * 86400
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            os.utime(Path(folder, name), (then, then), follow_symlinks=False)
    os.utime(top, (then, then))


def cleaned(swarm: Swarm, *options: str) -> dict[str, Any]:
    return dict(json.loads(swarm.must("clean", "--json", *options)))


def test_workspaces_of_agents_that_were_scaled_away_go_and_their_work_stays(swarm: Swarm) -> None:
    swarm.configure(persist=True)
    swarm.up()
    task = swarm.add("write kept.txt kept\nfail no")  # uncommitted, and never landed
    swarm.ended([task])
    loose = swarm.root / "agents" / "swarm-builder-003"
    swarm.must("swarm", "scale", "1")
    eventually(lambda: len(swarm.agents()) == 1)
    names = {path.name for path in (swarm.root / "agents").iterdir()}
    assert len(names) == 3
    (stays,) = [agent["name"] for agent in swarm.agents()]
    said = cleaned(swarm)
    assert said["workspaces"]["goes"] == [], "they are too young"
    aged(loose, 8)
    said = cleaned(swarm, "--dry-run", "--older-than", "0")
    assert {one["agent"] for one in said["workspaces"]["goes"]} == names - {stays}
    assert loose.exists()
    said = cleaned(swarm, "--older-than", "0")
    assert {path.name for path in (swarm.root / "agents").iterdir()} == {stays}
    assert said["workspaces"]["stays"][0]["reason"] == "its agent is in the fleet"
    refs = git(swarm.hub(), "for-each-ref", "--format=%(refname)").split()
    saved = [ref for ref in refs if ref.startswith("refs/agentctl/salvage/")]
    assert any("kept.txt" in git(swarm.hub(), "ls-tree", "--name-only", ref) for ref in saved)
    (done,) = swarm.ended([swarm.add("write a.txt a\ncommit a")])
    assert done.state is TaskState.DONE, "whoever is left works on"
    swarm.must("task", "diff", task)
    assert "refs/agentctl/salvage/" in swarm.must("task", "show", task)


def test_what_was_cleaned_up_does_not_come_back_at_the_stop(swarm: Swarm) -> None:
    """Clones go from task to task, and still know the branches that the hub no longer has."""
    agents = [{"role": "builder", "count": 1}, {"role": "auditor", "count": 1}]
    swarm.configure(agents=agents, repo={"merge": "squash", "review": "agent"})
    swarm.up()
    work = [f"write a{n}.txt {n}\ncommit {n}\nreview accept" for n in range(2)]
    done = swarm.ended([swarm.add(prompt) for prompt in work])
    assert [one.result for one in done] == [TaskResult.MERGED] * 2
    said = cleaned(swarm, "--older-than", "0")
    assert {one["branch"] for one in said["branches"]["goes"]} >= {one.branch for one in done}
    before = git(swarm.hub(), "for-each-ref")
    assert "refs/heads/swarm/builder" not in before
    last = swarm.agentctl("swarm", "stop")
    assert last.returncode == 0, last.stderr
    assert "unsaved work" not in last.stdout + last.stderr
    assert git(swarm.hub(), "for-each-ref") == before
    assert not list((swarm.root / "agents").iterdir())


def test_a_low_disk_closes_the_gate_and_makes_room_by_itself(swarm: Swarm) -> None:
    """Nothing starts, what is past its time goes, what runs stays, people read why."""
    told = swarm.root / "told"
    notify = [{"on": ["disk"], "command": ["sh", "-c", f"cat >> {told}"]}]
    swarm.configure(persist=True, notify=notify)
    swarm.up()
    over, running = swarm.add("write a.txt a\ncommit a"), swarm.add("hang")
    swarm.ended([over])
    swarm.active(1)
    logs = swarm.places.logs / "sessions"
    aged(logs, 40)
    left = swarm.root / "agents" / "swarm-builder-003"
    swarm.must("swarm", "scale", "2")
    eventually(lambda: len(swarm.agents()) == 2)
    assert left.exists() or len(list((swarm.root / "agents").iterdir())) == 3
    (gone,) = {path.name for path in (swarm.root / "agents").iterdir()} - {
        agent["name"] for agent in swarm.agents()
    }
    aged(swarm.root / "agents" / gone, 40)
    limits = {"min_free_disk_mb": PLENTY, "min_free_memory_mb": 0, "stagger_seconds": 0}
    two = [{"role": "builder", "count": 2}]
    swarm.configure(persist=True, limits=limits, agents=two, notify=notify)
    swarm.must("swarm", "reload")
    waiting = swarm.add("answer yes")
    eventually(lambda: "removed" in log(swarm), 30, lambda: log(swarm))
    assert not (swarm.root / "agents" / gone).exists()
    assert not list(logs.glob(f"{over}.*"))
    assert list(logs.glob(f"{running}.*")), "a running task's log stays, however old"
    facts = swarm.status()["swarm"]
    assert facts["gate"]["open"] is False
    assert f"limits.min_free_disk_mb is {PLENTY}" in facts["gate"]["reason"]
    assert facts["disk"]["min_free_mb"] == PLENTY
    page = swarm.must("swarm", "status")
    assert "MB of disk are free" in page
    shown = json.loads(swarm.must("task", "show", waiting, "--json"))
    assert shown["attempts"] == []
    assert "limits.min_free_disk_mb" in shown["reason"]
    assert "the disk runs low" in swarm.must("swarm", "story", swarm.agents()[0]["name"])
    eventually(lambda: told.exists() and "MB of disk are free" in told.read_text(), 10)
    swarm.configure(persist=True, agents=two, notify=notify)
    swarm.must("swarm", "reload")
    (done,) = swarm.ended([waiting])
    assert done.state is TaskState.DONE
    assert swarm.agents("active"), "what ran goes on"


def log(swarm: Swarm) -> str:
    """What the cleaner did, as the supervisor wrote it down."""
    lines = swarm.places.service_log("supervisor").read_text().splitlines()
    return "\n".join(line for line in lines if '"cleaner"' in line)

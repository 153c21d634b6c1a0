"""Fleet lifecycle on real processes, as its user would drive it."""

from __future__ import annotations

import json
import os
import signal
import threading

from swarm_support import Swarm, kill
from tests_support import HELD, eventually

from swarm.core.model import Outcome, TaskResult, TaskState

SETSID_AND_THINK = (
    "once setsid 60\nonce daemonize 60\nwrite begun.txt yes\nonce think 60\n"
    "write done.txt yes\ncommit done"
)


def test_three_tasks_end_as_branches_in_the_hub(swarm: Swarm) -> None:
    swarm.up()
    before = swarm.git("status", "--porcelain", "--branch"), swarm.git("for-each-ref")
    tasks = [swarm.add(f"write f{n}.txt {n}\ncommit add f{n}\nusage 100 20 0.01") for n in range(3)]
    assert swarm.agentctl("task", "wait", *tasks).returncode == 0
    for n, task in enumerate(tasks):
        shown = json.loads(swarm.must("task", "show", task, "--json"))
        assert (shown["state"], shown["result"]) == ("done", "branch")
        assert len(shown["commits"]) == 1
        (attempt,) = shown["attempts"]
        assert attempt["outcome"] == "succeeded"
        assert attempt["usage"]["input_tokens"] == 100
        assert attempt["cost_usd"] == 0.01
        assert attempt["session_id"]
        assert swarm.git("show", f"{shown['branch']}:f{n}.txt", cwd=swarm.hub()) == str(n)
        assert f"f{n}.txt" in swarm.must("task", "diff", task)
    assert (swarm.git("status", "--porcelain", "--branch"), swarm.git("for-each-ref")) == before
    swarm.must("swarm", "stop")
    swarm.gone()
    assert not list((swarm.root / "agents").iterdir())


def test_a_second_up_exits_5_and_the_first_is_untouched(swarm: Swarm) -> None:
    swarm.up()
    before = swarm.status()
    second = swarm.agentctl("swarm", "up", "--detach")
    assert second.returncode == 5
    assert second.stderr.count("\n") == 1
    third = swarm.agentctl("swarm", "up")
    assert third.returncode == 5
    after = swarm.status()
    assert [a["pid"] for a in after["agents"]] == [a["pid"] for a in before["agents"]]
    assert after["swarm"]["pid"] == before["swarm"]["pid"]


def test_a_killed_supervisor_leaves_nothing_and_the_next_up_finishes_the_work(swarm: Swarm) -> None:
    supervisor = swarm.up()
    tasks = [swarm.add(SETSID_AND_THINK) for _ in range(3)]
    for agent in swarm.active(3):
        eventually((swarm.clone(agent) / "begun.txt").exists)
    assert len(swarm.processes()) > 10
    kill(supervisor)
    swarm.gone(within=2.0)
    swarm.up()
    ended = swarm.ended(tasks)
    assert [task.state for task in ended] == [TaskState.DONE] * 3
    for task in tasks:
        outcomes = [attempt.outcome for attempt in swarm.attempts(task)]
        assert outcomes.count(Outcome.SUCCEEDED) == 1
        assert outcomes == [Outcome.LOST, Outcome.SUCCEEDED]


def test_a_killed_daemon_is_back_and_its_task_is_finished_by_somebody(swarm: Swarm) -> None:
    swarm.up()
    task = swarm.add(SETSID_AND_THINK)
    (agent,) = swarm.active(1)
    session = agent["task"]["session_pid"]
    eventually((swarm.clone(agent) / "begun.txt").exists)
    kill(agent["pid"])
    eventually(lambda: not os.path.exists(f"/proc/{session}"), 2.0, promised=True)
    (ended,) = swarm.ended([task])
    assert ended.state is TaskState.DONE
    assert [a.outcome for a in swarm.attempts(task)] == [Outcome.LOST, Outcome.SUCCEEDED]
    back = eventually(
        lambda: next(
            (a for a in swarm.agents("idle") if a["name"] == agent["name"] and a["restarts"]), None
        )
    )
    assert back is not None
    assert back["agent_id"] == agent["agent_id"]
    assert "signal 9" in swarm.must("swarm", "story", agent["name"])


def test_scale_up_and_down_never_stops_active_work(swarm: Swarm) -> None:
    swarm.up()
    tasks = [swarm.add(f"{HELD}\nwrite a.txt a\ncommit a") for _ in range(2)]
    active = swarm.active(2)
    busy = {agent["name"] for agent in active}
    swarm.must("swarm", "scale", "10")
    eventually(lambda: len(swarm.agents("idle")) == 8, 20)
    assert "1 busy preserved" in swarm.must("swarm", "scale", "1")
    eventually(lambda: len(swarm.agents()) <= 2, 10)
    assert {agent["name"] for agent in swarm.agents()} == busy
    for agent in active:
        (swarm.clone(agent) / "go").touch()
    assert [task.state for task in swarm.ended(tasks)] == [TaskState.DONE] * 2
    assert all([a.outcome for a in swarm.attempts(t)] == [Outcome.SUCCEEDED] for t in tasks)
    eventually(lambda: len(swarm.agents()) == 1, 10)


def test_sighup_applies_a_good_file_and_refuses_a_broken_one(swarm: Swarm) -> None:
    supervisor = swarm.up()
    swarm.configure(limits={"min_free_memory_mb": 0, "max_active": 9})
    os.kill(supervisor, signal.SIGHUP)
    eventually(lambda: swarm.status()["limits"]["max_active"] == 9)
    swarm.places.config.write_text("version: 1\nlimits: {max_activ: 3}\n  bad: [\n")
    os.kill(supervisor, signal.SIGHUP)
    config = eventually(lambda: c if not (c := swarm.status()["swarm"]["config"])["ok"] else None)
    assert config is not None
    assert config["problems"]
    assert swarm.status()["limits"]["max_active"] == 9
    assert len(swarm.agents("idle")) == 3
    refused = swarm.agentctl("swarm", "reload")
    assert refused.returncode == 2
    assert "swarm.yaml:" in refused.stderr
    swarm.must("swarm", "stop")  # works with any file
    swarm.gone()


def test_reload_says_old_and_new_per_key(swarm: Swarm) -> None:
    swarm.up()
    swarm.configure(limits={"max_active": 2}, agents=[{"role": "builder", "count": 4}])
    dry = swarm.must("swarm", "reload", "--dry-run")
    assert "limits.max_active 5 → 2" in dry
    assert swarm.status()["limits"]["max_active"] == 5
    assert "limits.max_active 5 → 2" in swarm.must("swarm", "reload")
    assert swarm.status()["limits"]["max_active"] == 2
    eventually(lambda: len(swarm.agents("idle")) == 4, 10)


def test_stop_ends_a_session_that_ignores_term_and_its_task_waits(swarm: Swarm) -> None:
    swarm.up()
    task = swarm.add("ignore-term\nsetsid 60\nwrite half.txt half\nhang")
    (agent,) = swarm.active(1)
    eventually((swarm.clone(agent) / "half.txt").exists)
    swarm.must("swarm", "stop")
    swarm.gone()
    found = swarm.task(task)
    assert found.state is TaskState.QUEUED
    assert found.lost == 0
    assert [a.outcome for a in swarm.attempts(task)] == [Outcome.LOST]
    assert swarm.git("show", f"{found.branch}:half.txt", cwd=swarm.hub()) == "half"


def test_drain_lets_active_sessions_finish(swarm: Swarm) -> None:
    swarm.up()
    task = swarm.add(f"{HELD}\nwrite a.txt a\ncommit a")
    (agent,) = swarm.active(1)
    waiting = [swarm.add("write b.txt b\ncommit b", "qa")]
    draining = threading.Thread(target=swarm.must, args=("swarm", "stop", "--drain"))
    draining.start()
    eventually(lambda: swarm.status()["swarm"]["stopping"])
    (swarm.clone(agent) / "go").touch()
    draining.join()
    swarm.gone()
    assert swarm.task(task).state is TaskState.DONE
    assert swarm.task(waiting[0]).state is TaskState.QUEUED


def test_ctrl_c_in_the_foreground_stops_the_swarm(swarm: Swarm) -> None:
    import subprocess
    import sys

    with subprocess.Popen(
        [sys.executable, "-P", "-m", "swarm.cli", "swarm", "up"],
        env=swarm.environ,
        cwd=swarm.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ready"):
                break
        task = swarm.add("hang")
        swarm.active(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130)
    swarm.gone()
    assert swarm.task(task).state is TaskState.QUEUED


def test_pause_holds_promotions_and_resume_lets_them_go(swarm: Swarm) -> None:
    swarm.up()
    swarm.must("swarm", "pause", "--reason", "lunch")
    task = swarm.add("answer yes")
    assert swarm.status()["swarm"]["paused"]["reason"] == "lunch"
    assert swarm.agentctl("task", "wait", task, "--timeout", "1").returncode == 124
    assert swarm.attempts(task) == []
    swarm.must("swarm", "resume")
    (ended,) = swarm.ended([task])
    assert (ended.state, ended.result) == (TaskState.DONE, TaskResult.ANSWER)


def test_a_cancelled_running_task_ends_its_session(swarm: Swarm) -> None:
    swarm.up()
    task = swarm.add("ignore-term\nsetsid 60\nwrite half.txt half\nhang")
    (agent,) = swarm.active(1)
    eventually((swarm.clone(agent) / "half.txt").exists)
    swarm.must("task", "cancel", task)
    eventually(lambda: len(swarm.agents("idle")) == 3, 10)
    assert not os.path.exists(f"/proc/{agent['task']['session_pid']}")
    assert swarm.task(task).state is TaskState.CANCELLED
    eventually(lambda: [a.outcome for a in swarm.attempts(task)] == [Outcome.CANCELLED])


def test_failures_are_told_apart(swarm: Swarm) -> None:
    """A failed, a crashing, a blocked and a silent session each end as what they are."""
    swarm.up()
    failed = swarm.add("write a.txt a\ncommit a\nfail no luck")
    crashed = swarm.add("crash")
    asked = swarm.add("ask which colour?")
    nothing = swarm.add("think 0")
    swarm.ended([failed, crashed, asked, nothing])
    assert swarm.task(failed).state is TaskState.FAILED
    assert "no luck" in swarm.task(failed).reason
    assert swarm.task(crashed).state is TaskState.FAILED
    assert swarm.task(asked).state is TaskState.NEEDS_HUMAN
    assert "which colour?" in swarm.task(asked).reason
    assert swarm.task(nothing).state is TaskState.DONE
    assert swarm.agentctl("task", "wait", asked).returncode == 3


def test_a_task_added_with_no_swarm_waits_for_one(swarm: Swarm) -> None:
    task = swarm.add("answer hello")
    assert swarm.task(task).state is TaskState.QUEUED
    swarm.up()
    assert swarm.ended([task])[0].answer == "hello"


def test_a_missing_agent_cli_is_a_failed_attempt_that_names_it(swarm: Swarm) -> None:
    swarm.configure(runtimes={"ghost": {"adapter": "command", "command": ["no-such-agent"]}})
    (swarm.places.roles / "builder.yaml").write_text("runtime: ghost\n")
    swarm.up()
    task = swarm.add("anything")
    (ended,) = swarm.ended([task])
    assert ended.state is TaskState.FAILED
    assert "no-such-agent" in ended.reason


def test_the_prompt_never_travels_over_the_channel(swarm: Swarm) -> None:
    swarm.up()
    task = swarm.add("answer ok\n# the secret plan", "builder", "--title", "harmless")
    swarm.ended([task])
    heard = swarm.must("chat", "tail", "-n", "200", "--json")
    assert task in heard
    assert "secret plan" not in heard


def test_services_killed_come_back_and_work_goes_on(swarm: Swarm) -> None:
    swarm.up()
    running = swarm.add(f"{HELD}\nwrite a.txt a\ncommit a")
    (agent,) = swarm.active(1)
    for service in swarm.status()["services"]:
        kill(service["pid"])
    (swarm.clone(agent) / "go").touch()
    later = swarm.add("write b.txt b\ncommit b")
    states = [task.state for task in swarm.ended([running, later], within=60)]
    assert states == [TaskState.DONE] * 2
    assert [a.outcome for a in swarm.attempts(running)] == [Outcome.SUCCEEDED]
    assert all(service["restarts"] for service in swarm.status()["services"])


def test_agents_that_never_worked_leave_nothing_in_the_hub(swarm: Swarm) -> None:
    """A prepared clone, whole or half checked out, is nobody's unsaved work."""
    for n in range(300):
        (swarm.repository / f"f{n}.txt").write_text(str(n))
    swarm.git("add", "-A")
    swarm.git("commit", "-q", "-m", "many files")
    swarm.up()
    eventually(lambda: list((swarm.root / "agents").glob("*/repo/.git")), 10)
    said = swarm.must("swarm", "stop")
    assert "salvage" not in said
    refs = swarm.git("for-each-ref", "--format=%(refname)", cwd=swarm.hub()).split()
    assert not [ref for ref in refs if "agentctl" in ref or "swarm" in ref]
    assert not list((swarm.root / "agents").iterdir())


def test_a_daemon_killed_amid_a_checkout_deletes_nothing(swarm: Swarm) -> None:
    """The next attempt starts from a whole tree, not from the part that had been written."""
    for n in range(3000):
        (swarm.repository / f"d{n % 50}").mkdir(exist_ok=True)
        (swarm.repository / f"d{n % 50}" / f"f{n}.txt").write_text(str(n))
    swarm.git("add", "-A")
    swarm.git("commit", "-q", "-m", "many files")
    swarm.configure(agents=[{"role": "builder", "count": 1}])
    swarm.up()
    repo = swarm.root / "agents" / "swarm-builder-001" / "repo"
    task = swarm.add("write mine.txt x\ncommit mine")
    eventually(lambda: (repo / "d1").exists() or (repo / "d49").exists(), 20)
    kill(swarm.agents()[0]["pid"])
    (ended,) = swarm.ended([task], within=60)
    assert ended.state is TaskState.DONE
    changed = swarm.git(
        "diff", "--name-status", f"refs/source/heads/main...{ended.branch}", cwd=swarm.hub()
    )
    assert changed == "A\tmine.txt"


def test_sigterm_stops_the_swarm_like_stop(swarm: Swarm) -> None:
    supervisor = swarm.up()
    task = swarm.add("think 60")
    swarm.active(1)
    os.kill(supervisor, signal.SIGTERM)
    swarm.gone(within=15)
    assert swarm.task(task).state is TaskState.QUEUED
    assert not list((swarm.root / "agents").iterdir())


def test_a_runtime_whose_program_is_missing_is_told_at_up(swarm: Swarm) -> None:
    swarm.configure(runtimes={"ghost": {"adapter": "command", "command": ["no-such-agent"]}})
    (swarm.places.roles / "builder.yaml").write_text("runtime: ghost\n")
    assert "no-such-agent" in swarm.must("swarm", "up", "--detach")


def test_an_interrupted_session_is_resumed_by_the_agent_that_had_it(swarm: Swarm) -> None:
    """Its daemon dies, its identity and workspace stay: the CLI goes on with its own session."""
    swarm.configure(agents=[{"role": "builder", "count": 1}])
    swarm.up()
    task = swarm.add("usage 1 1\nonce think 60\nanswer done")
    (agent,) = swarm.active(1)
    eventually(lambda: any(one.session_id for one in swarm.attempts(task)), 10)
    kill(agent["pid"])
    (ended,) = swarm.ended([task])
    first, second = swarm.attempts(task)
    assert ended.state is TaskState.DONE
    assert (first.outcome, second.outcome) == (Outcome.LOST, Outcome.SUCCEEDED)
    assert second.session_id == first.session_id

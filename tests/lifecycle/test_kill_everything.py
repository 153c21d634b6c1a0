"""Ten running sessions, each with children that will not go, while whoever holds them is killed.

What is left is looked for in three ways at once: by what belongs to the swarm (its home in the
environment or the working directory), by descent as it was before the kill, and by a word in the
command line of each session's children, which survives ``setsid``, a double fork, an emptied
environment and a change of directory.
"""

from __future__ import annotations

import os
import signal
import time
import uuid

import pytest
from swarm_support import Swarm, kill, open_bytes
from tests_support import eventually

from swarm.cli.control import ask
from swarm.core.model import Outcome, TaskState
from swarm.ledger import NewTask, open_ledger
from swarm.sandbox.trees import alive, descendants, start_time
from swarm.wire import control

SESSIONS = 10
CLEAN_SECONDS = 2.0
"""Longest from the kill to nothing left (product, "Killed")."""

# Three children a session: one in a session of its own with an emptied environment, orphaned and
# elsewhere; one that ignores every polite signal; one that is stopped.  ``{word}`` is the task's.
RESTLESS = (
    "ignore-term\n"
    "once run (cd / && env -i setsid tail -f /dev/null {word} >/dev/null 2>&1 &)\n"
    "once run (trap '' TERM HUP INT; exec tail -f /dev/null {word} >/dev/null 2>&1) &\n"
    "once run (setsid sh -c 'kill -STOP $$; exec tail -f /dev/null {word}' {word} "
    ">/dev/null 2>&1 &)\n"
    "write begun.txt yes\n"
    "once run until test -e go; do sleep 0.05; done\n"
    "write done.txt yes\ncommit done"
)
CHILDREN = 3


class Sessions:
    """Ten sessions of one swarm, and the words their children carry."""

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        self.words: dict[str, str] = {}
        with open_ledger(swarm.places.ledger) as ledger:
            for _ in range(SESSIONS):
                word = f"word-{uuid.uuid4().hex}"
                new = NewTask(prompt=RESTLESS.format(word=word), role="builder")
                self.words[ledger.submit(new)] = word
        ask(swarm.places, control.PokeLedger())
        self.agents = {a["task"]["id"]: a for a in swarm.active(SESSIONS, within=60)}
        for task, agent in self.agents.items():
            eventually((swarm.clone(agent) / "begun.txt").exists, 20)
            eventually(lambda task=task: len(carrying(self.words[task])) >= CHILDREN, 20)

    @property
    def tasks(self) -> list[str]:
        return list(self.words)

    def left(self) -> list[int]:
        """Children of any session that live."""
        return carrying(*self.words.values())

    def gone(self, task: str) -> bool:
        """Whether nothing of one session lives."""
        session = self.agents[task]["task"]["session_pid"]
        return not carrying(self.words[task]) and not _is_running(session)

    def let_go(self) -> None:
        """Let every session that still waits come to its end."""
        for agent in self.agents.values():
            (self.swarm.clone(agent) / "go").touch()


def carrying(*words: str) -> list[int]:
    """Pids of living processes with one of these words in their command line."""
    marks = [word.encode() for word in words]
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = open_bytes(f"/proc/{entry}/cmdline")
        except OSError:
            continue
        # The agent's own command line holds the whole prompt; its children, just the word.
        if len(line) < 200 and any(mark in line for mark in marks) and _is_running(int(entry)):
            found.append(int(entry))
    return found


def _is_running(pid: int) -> bool:
    start = start_time(pid)
    return start is not None and alive(pid, start)


def below(pid: int) -> list[tuple[int, int]]:
    """Everything under a process, by pid and start time."""
    found = [(each, start_time(each)) for each in descendants([pid])]
    return [(each, start) for each, start in found if start is not None]


def nothing_left(sessions: Sessions, family: list[tuple[int, int]]) -> None:
    """By the home, by descent and by word: all of it is dead within the limit."""

    def left() -> list[int]:
        return [
            *sessions.swarm.processes(),
            *(pid for pid, start in family if alive(pid, start)),
            *sessions.left(),
        ]

    began = time.monotonic()
    eventually(lambda: not left(), CLEAN_SECONDS, lambda: f"left: {left()}", promised=True)
    print(f"clean after {time.monotonic() - began:.2f} s")


@pytest.fixture
def ten(swarm: Swarm) -> Swarm:
    """A swarm that runs ten sessions at once."""
    swarm.configure(
        agents=[{"role": "builder", "count": SESSIONS}],
        limits={"max_active": SESSIONS},
        health={"heartbeat_seconds": 1, "sample_seconds": 1},
        restart={"base_seconds": 0.05, "cap_seconds": 0.5, "max_restarts": 0},
    )
    return swarm


def finished(swarm: Swarm, tasks: list[str]) -> None:
    """Each task is done, by exactly one attempt that reported; the others were lost."""
    for task in swarm.ended(tasks, within=90):
        outcomes = [attempt.outcome for attempt in swarm.attempts(task.id)]
        assert task.state is TaskState.DONE, (task, outcomes)
        assert outcomes[-1] is Outcome.SUCCEEDED
        assert set(outcomes[:-1]) <= {Outcome.LOST}


@pytest.mark.slow
def test_a_killed_supervisor_takes_ten_restless_sessions_along(ten: Swarm) -> None:
    """First alone, then with every daemon, service and the zygote killed in the same moment."""
    supervisor = ten.up()
    sessions = Sessions(ten)
    family = below(supervisor)
    assert len(family) > 5 * SESSIONS
    kill(supervisor)
    nothing_left(sessions, family)
    supervisor = ten.up()
    finished(ten, sessions.tasks)

    sessions = Sessions(ten)
    family = below(supervisor)
    own = [pid for pid, _ in family if _parent(pid) == supervisor]
    assert len(own) >= SESSIONS + 3, "ten daemons, two services and the zygote"
    for pid in (*own, supervisor):
        os.kill(pid, signal.SIGSTOP)  # nobody gets to clean up after another
    for pid in (*own, supervisor):
        kill(pid)
    nothing_left(sessions, family)
    ten.up()
    finished(ten, sessions.tasks)


@pytest.mark.slow
def test_killed_daemons_take_their_sessions_and_no_other(ten: Swarm) -> None:
    """One at a time, then all that are left at once; every task is finished by somebody."""
    ten.up()
    sessions = Sessions(ten)
    victims = list(sessions.agents)
    for task in victims[:3]:
        others = [one for one in sessions.agents if one != task and not sessions.gone(one)]
        kill(sessions.agents[task]["pid"])
        eventually(lambda task=task: sessions.gone(task), CLEAN_SECONDS, "left", promised=True)
        assert not any(sessions.gone(one) for one in others)
    for task in victims[3:]:
        kill(sessions.agents[task]["pid"])
    eventually(lambda: not sessions.left(), CLEAN_SECONDS, "sessions are left", promised=True)
    finished(ten, sessions.tasks)
    for task in sessions.tasks:
        assert [a.outcome for a in ten.attempts(task)] == [Outcome.LOST, Outcome.SUCCEEDED]


@pytest.mark.slow
def test_killed_services_touch_no_session(ten: Swarm) -> None:
    """The chat server, the coordinator, both, the zygote: each session runs on and is reported."""
    supervisor = ten.up()
    sessions = Sessions(ten)
    running = {agent["task"]["session_pid"] for agent in sessions.agents.values()}
    for names in (["chat"], ["coordinator"], ["chat", "coordinator"]):
        before = {s["name"]: s for s in ten.status()["services"]}
        for name in names:
            kill(before[name]["pid"])

        def back(names: list[str] = names, before: dict = before) -> bool:
            now = {s["name"]: s for s in ten.status()["services"]}
            fresh = (now[n]["pid"] not in (None, before[n]["pid"]) for n in names)
            return all(fresh) and all(now[n]["state"] == "running" for n in names)

        eventually(back, 20, f"{names} are back")
    status = ten.status()
    known = {child["pid"] for child in (*status["agents"], *status["services"])}
    (zygote,) = [p for p, _ in below(supervisor) if _parent(p) == supervisor and p not in known]
    kill(zygote)
    assert {a["task"]["session_pid"] for a in ten.agents("active")} == running
    sessions.let_go()
    finished(ten, sessions.tasks)
    for task in sessions.tasks:
        assert [a.outcome for a in ten.attempts(task)] == [Outcome.SUCCEEDED]


def _parent(pid: int) -> int:
    try:
        return int(open_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
    except OSError:
        return 0

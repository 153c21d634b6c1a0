"""``agentctl swarm upgrade`` on real processes: the program changes, the swarm does not notice."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from supervisor_world import World, children, family, gone, kill, world
from swarm_support import Swarm
from tests_support import HELD, eventually

import swarm as program
from swarm.cli.control import ask
from swarm.core.model import Outcome, TaskState
from swarm.errors import SwarmError
from swarm.ledger import NewTask, open_ledger
from swarm.supervisor import handover, upgrade
from swarm.wire import control, lifeline


def sessions(status: dict[str, Any]) -> dict[str, int]:
    """The session's process of each task that runs."""
    tasks = [agent["task"] for agent in status["agents"] if agent["task"]]
    return {task["id"]: task["session_pid"] for task in tasks}


def zombies(pid: int) -> list[int]:
    """Children that have ended and were not reaped."""
    return [child for child in children(pid) if gone(child)]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_upgrades_under_load_are_not_noticed(swarm: Swarm) -> None:
    swarm.configure(agents=[{"role": "builder", "count": 6}], limits={"max_active": 5})
    supervisor = swarm.up()
    held = [
        swarm.add(f"once daemonize 60\n{HELD}\nwrite h{n}.txt {n}\ncommit h{n}") for n in (1, 2)
    ]
    holders = swarm.active(2)
    with open_ledger(swarm.places.ledger) as ledger:
        quick = [
            ledger.submit(
                NewTask(prompt=f"write q{n}.txt {n}\nthink 0.1\ncommit q{n}", role="builder")
            )
            for n in range(12)
        ]
    quick.append(swarm.add("answer start"))  # its poke makes the coordinator look
    before = swarm.status()
    for generation in range(2, 11):
        done = ask(swarm.places, control.Upgrade(), patience=60)
        assert done.data["generation"] == generation
    said = swarm.must("swarm", "upgrade")
    version = re.escape(program.__version__)
    told = rf"upgraded {version} → {version}: 6 agents and [2-5] sessions went on, pid {supervisor}"
    assert re.search(told, said), said
    after = swarm.status()
    assert (after["swarm"]["pid"], after["swarm"]["generation"]) == (supervisor, 11)
    assert after["swarm"]["started_at"] == before["swarm"]["started_at"]
    for was, now in zip(before["agents"], after["agents"], strict=True):
        assert (now["name"], now["pid"], now["restarts"]) == (was["name"], was["pid"], 0)
    assert [s["pid"] for s in after["services"]] == [s["pid"] for s in before["services"]]
    assert (
        sessions(after).items()
        >= {a["task"]["id"]: a["task"]["session_pid"] for a in holders}.items()
    )
    beats = {a["name"]: a["last_heartbeat"] for a in after["agents"]}
    eventually(lambda: all(a["last_heartbeat"] > beats[a["name"]] for a in swarm.agents()))
    for holder in holders:
        (swarm.clone(holder) / "go").touch()
    for task in swarm.ended(held + quick, within=60):
        (attempt,) = swarm.attempts(task.id)
        assert (task.state, attempt.outcome) == (TaskState.DONE, Outcome.SUCCEEDED)
    _still_a_supervisor(swarm, supervisor)
    swarm.add(f"once setsid 60\n{HELD}")
    swarm.active(1)
    kill(supervisor)
    swarm.gone(within=2.0)


def _still_a_supervisor(swarm: Swarm, supervisor: int) -> None:
    """It forks by a zygote of its own, restarts what dies, and reaps what is orphaned."""
    swarm.must("swarm", "scale", "7")
    eventually(lambda: len(swarm.agents("idle")) == 7, 20)
    task = swarm.add(f"once daemonize 60\n{HELD}")
    (agent,) = swarm.active(1)
    kill(agent["pid"])
    eventually(lambda: [a["restarts"] for a in swarm.agents() if a["name"] == agent["name"]] == [1])
    (again,) = swarm.active(1)
    (swarm.clone(again) / "go").touch()
    (ended,) = swarm.ended([task])
    assert [a.outcome for a in swarm.attempts(ended.id)] == [Outcome.LOST, Outcome.SUCCEEDED]
    eventually(lambda: not zombies(supervisor))


# -- another program ------------------------------------------------------------------------------


class Installation:
    """A copy of the program, found before the real one by whoever starts from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def broken(self) -> None:
        """It cannot even be imported."""
        self._path.mkdir()
        (self._path / "swarm").mkdir()
        (self._path / "swarm" / "__init__.py").write_text("raise ImportError('half installed')\n")

    def whole(self, file: str, old: str, new: str) -> None:
        """The program as it is but for one place."""
        shutil.rmtree(self._path, ignore_errors=True)
        source = Path(program.__file__).parent
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, self._path / "swarm", ignore=ignored)
        self.change(file, old, new)

    def change(self, file: str, old: str, new: str) -> None:
        """One more place."""
        path = self._path / "swarm" / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))


@pytest.fixture
def made(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[World, Installation]]:
    """A swarm that would start another program, if there were one."""
    monkeypatch.setenv("PYTHONPATH", str(home / "installed"))
    with world(home) as swarm:
        yield swarm, Installation(home / "installed")


@pytest.fixture
def manager(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What a service manager hears of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(home / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(home / "notify"))
        yield listening


def heard(manager: socket.socket) -> bytes:
    """All it has been told since it was last asked."""
    told = b""
    with suppress(BlockingIOError):
        while True:
            told += manager.recv(4096) + b"\n"
    return told


@pytest.mark.slow
def test_an_installation_that_cannot_take_over_is_refused_and_another_is_not(
    made: tuple[World, Installation], manager: socket.socket
) -> None:
    swarm, installed = made
    swarm.up()
    swarm.ask(control.Scale(roles={"builder": 3}))
    task = swarm.add(f"{HELD}\ncommit one")
    (agent,) = eventually(swarm.active, 10.0)
    swarm.ask(control.Pause(reason="lunch"))
    installed.broken()
    with pytest.raises(SwarmError, match=r"does not start.*half installed"):
        swarm.ask(control.Upgrade())
    installed.whole("wire/lifeline.py", f"VERSION = {lifeline.VERSION}\n", "VERSION = 77\n")
    with pytest.raises(SwarmError, match=r"lifeline.* 77.*stop --drain"):
        swarm.ask(control.Upgrade())
    installed.whole("__init__.py", program.__version__, "9.9.9")
    good = (swarm.home / "swarm.yaml").read_text()
    (swarm.home / "swarm.yaml").write_text(good + "nonsense: 1\n")
    with pytest.raises(SwarmError, match="nonsense"):
        swarm.ask(control.Upgrade())
    assert swarm.status()["swarm"]["generation"] == 1
    assert len(swarm.journal("upgrade_refused")) == 3
    assert b"READY=1" in heard(manager)
    # The first start of the new program fails, as if it was being installed just then.
    (swarm.home / "swarm.yaml").write_text(good)
    flag = swarm.home / "flag"
    flag.touch()
    trap = f"import os, sys\nif '--resume-fd' in sys.argv and os.path.exists({str(flag)!r}):\n"
    trap += f"    os.unlink({str(flag)!r})\n    raise ImportError('not yet')\n"
    first = "from __future__ import annotations\n"
    installed.change("supervisor/resume.py", first, first + trap)
    with _clients_of_the_old_one(swarm):
        assert swarm.ask(control.Upgrade()).data["after"] == "9.9.9"
    assert not flag.exists()
    assert b"READY=1" in heard(manager)
    facts = swarm.status()["swarm"]
    assert (facts["pid"], facts["version"], facts["generation"]) == (swarm.pid, "9.9.9", 2)
    assert facts["paused"]["reason"] == "lunch"
    assert facts["wanted"] == {"builder": 3}
    assert swarm.active() == [agent | {k: swarm.active()[0][k] for k in _GAUGES}]
    swarm.configure(count=4)
    assert "4" in str(swarm.ask(control.Reload()).lines)
    swarm.ask(control.Resume())
    swarm.let_go(agent)
    assert swarm.done(task).state is TaskState.DONE
    _told_to_stop_while_it_upgrades(swarm)


@contextmanager
def _clients_of_the_old_one(swarm: World) -> Iterator[None]:
    """Who waits for an answer, and who has said half of a request, is served by the new one."""
    answers: list[control.Done] = []
    idle = next(agent for agent in swarm.agents().values() if agent["state"] == "idle")
    os.kill(idle["pid"], signal.SIGSTOP)  # its successor is ready after some missed beats

    eventually(lambda: swarm.agents()[idle["name"]]["state"] != "idle", 20.0)
    waiting = threading.Thread(target=lambda: answers.append(swarm.ask(control.WaitReady())))
    waiting.start()
    token = swarm.places.control_token.read_text().strip()
    request = control.encode(control.Request(token=token, do=control.Status()))
    with socket.socket(socket.AF_UNIX) as slow:
        slow.settimeout(20)
        slow.connect(str(swarm.places.control_socket))
        slow.sendall(request[:20])
        yield
        slow.sendall(request[20:])
        with slow.makefile("rb") as lines:
            answer = control.read_answer(lines.readline())
    assert isinstance(answer, control.Done)
    assert answer.data["swarm"]["generation"] == 2
    waiting.join(30)
    assert answers
    assert swarm.agents()[idle["name"]]["restarts"] == 1


_GAUGES = ("last_heartbeat", "memory_mb", "cpu_percent")


def _told_to_stop_while_it_upgrades(swarm: World) -> None:
    """TERM is neither lost nor fatal, whichever program it reaches."""
    below = family(swarm.pid)
    asking = threading.Thread(target=_upgrade_until_it_ends, args=(swarm,))
    asking.start()
    eventually(lambda: swarm.journal("upgraded")[1:], 20.0)
    os.kill(swarm.pid, signal.SIGTERM)
    assert swarm.wait() == 0
    asking.join()
    assert len(swarm.journal("swarm_stopped")) == 1
    assert os.listdir(swarm.base) == []
    assert all(gone(pid) for pid in below)


def _upgrade_until_it_ends(swarm: World) -> None:
    with suppress(SwarmError):
        while True:
            swarm.ask(control.Upgrade())


def test_a_program_that_never_starts_says_so_at_the_end(tmp_path: Path) -> None:
    """The last resort, by itself: nothing of the package can be had."""
    (tmp_path / "swarm.py").write_text("raise ImportError('gone')\n")
    memory = handover.memory_file(b"{}")
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-c", upgrade._BOOT, str(memory), "1"],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            pass_fds=[memory],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(memory)
    assert ended.returncode == 70
    assert ended.stderr.count("not taken over yet") == 1
    assert ended.stderr.count("Traceback") == 1
    assert "'agentctl swarm up' goes on" in ended.stderr

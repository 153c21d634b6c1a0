"""Stopping: asked politely, and by signals when nobody answers."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_fake import FakeSupervisor, Ran
from tests_support import eventually

from swarm.cli import stop
from swarm.cli.lock import is_locked
from swarm.config.places import Places
from swarm.wire import control

Cli = Callable[..., Ran]

HANGING = """
import fcntl, os, signal, socket, sys, time
from pathlib import Path
home = Path(sys.argv[1])
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = open(home / "swarm.pid", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(f"{os.getpid()}\\n")
lock.flush()
(home / "control.token").write_text("t")
server = socket.socket(socket.AF_UNIX)
if "no-socket" not in sys.argv:
    server.bind(str(home / "control.sock"))
    server.listen(8)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "SILENCE", 0.1)
    monkeypatch.setattr(stop, "LEAVING", 0.5)
    monkeypatch.setattr("swarm.desk.control._STARTING", 0.1)


@pytest.fixture
def hanging(home: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock and answers nobody."""
    how = getattr(request, "param", ())
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", HANGING, str(home), *how], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], control.Stop()),
        (["--now"], control.Stop(now=True)),
        (["--drain"], control.Stop(drain=0)),
        (["--drain", "600"], control.Stop(drain=600)),
    ],
)
def test_the_request_and_what_is_said(
    arguments: list[str], command: control.Stop, supervisor: FakeSupervisor, cli: Cli
) -> None:
    supervisor.replies[control.Stop] = [
        control.Progress("2 sessions were told to end"),
        control.Done(lines=("stopped; 2 tasks are queued again",)),
    ]
    supervisor.on[control.Stop] = supervisor.unlock
    ran = cli("swarm", "stop", *arguments)
    assert ran.code == 0
    assert ran.out == "2 sessions were told to end\nstopped; 2 tasks are queued again\n"
    assert supervisor.heard == [command]


def test_scale_0_is_stop(supervisor: FakeSupervisor, cli: Cli) -> None:
    supervisor.on[control.Stop] = supervisor.unlock
    assert cli("swarm", "scale", "0").code == 0
    assert supervisor.heard == [control.Stop()]


def test_it_returns_when_the_lock_is_free_not_when_it_is_answered(
    supervisor: FakeSupervisor, cli: Cli
) -> None:
    asked = threading.Event()
    supervisor.on[control.Status] = asked.set

    def end() -> None:
        asked.wait(10)  # stop is seen to look whether the supervisor still lives
        supervisor.unlock()

    ending = threading.Thread(target=end)
    ending.start()
    assert cli("swarm", "stop").code == 0
    ending.join()
    assert supervisor.heard[0] == control.Stop()
    assert control.Status() in supervisor.heard


def test_a_hang_up_on_the_way_out_is_fine(supervisor: FakeSupervisor, cli: Cli) -> None:
    supervisor.replies[control.Stop] = []
    supervisor.on[control.Stop] = supervisor.unlock
    ran = cli("swarm", "stop")
    assert (ran.code, ran.out, ran.err) == (0, "stopped\n", "")


@pytest.mark.parametrize("hanging", [(), ("no-socket",)], indirect=True)
def test_a_hung_supervisor_gets_term(
    hanging: subprocess.Popen[bytes], cli: Cli, places: Places
) -> None:
    ran = cli("swarm", "stop")
    assert ran.code == 0
    assert f"sent SIGTERM to the supervisor (pid {hanging.pid})" in ran.out
    assert hanging.wait(30) == -signal.SIGTERM
    assert not is_locked(places)


@pytest.mark.parametrize("hanging", [("deaf",)], indirect=True)
def test_one_that_ignores_term_is_killed(
    hanging: subprocess.Popen[bytes], cli: Cli, places: Places
) -> None:
    ran = cli("swarm", "stop", "--now")
    assert ran.code == 0
    assert "SIGTERM" in ran.out
    assert "SIGKILL" in ran.out
    assert hanging.wait(30) == -signal.SIGKILL
    assert not is_locked(places)


def test_a_stopped_one_is_killed_at_once(hanging: subprocess.Popen[bytes], cli: Cli) -> None:
    hanging.send_signal(signal.SIGSTOP)
    eventually(lambda: Path(f"/proc/{hanging.pid}/stat").read_text().split(") ")[1][0] == "T")
    ran = cli("swarm", "stop")
    assert ran.code == 0
    assert "is stopped by a signal" in ran.out
    assert "SIGTERM" not in ran.out
    assert hanging.wait(30) == -signal.SIGKILL


def test_a_refusal_by_the_supervisor_leads_to_signals_not_to_a_dead_end(
    hanging: subprocess.Popen[bytes], cli: Cli, places: Places
) -> None:
    """Without its token it would refuse everybody."""
    places.control_token.unlink()
    ran = cli("swarm", "stop")
    assert ran.code == 0
    assert "control.token is missing" in ran.out
    assert hanging.wait(30) == -signal.SIGTERM

"""The service manager: a real datagram socket, a real supervisor, and what it is told when."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from supervisor_world import World, family, world
from tests_support import HELD, eventually, eventually_async, remains_false

from swarm.core import journal
from swarm.core.fleet import Fleet
from swarm.core.fleet_settings import FleetSettings
from swarm.core.gate import Pause
from swarm.supervisor.notify import Notifier, describe
from swarm.wire import control


class Manager:
    """What systemd is to a service: the socket its notifications go to."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.heard: list[dict[str, str]] = []

    def hear(self) -> list[dict[str, str]]:
        """Every message so far."""
        while True:
            try:
                text = self.socket.recv(65536).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in text.split("\n")))

    def said(self, key: str) -> list[str]:
        """Every value of one key."""
        return [message[key] for message in self.hear() if key in message]

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with closing(Manager(str(tmp_path / "notify"))) as made:
        yield made


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(
        FleetSettings(), services=("chat",), wanted={"builder": 1}, coordinator_id="0" * 16
    )


# -- the messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_both_kinds_of_socket_hear_of_ready_and_stop(kind: str, tmp_path: Path) -> None:
    address = str(tmp_path / "n") if kind == "path" else f"@agentctl-test-{os.getpid()}"
    with closing(Manager(address)) as manager:
        environ = {"NOTIFY_SOCKET": address, "HOME": "/root"}
        notifier = Notifier.take(environ)
        notifier.ready()
        notifier.entry(journal.StopAsked())
        ready, stopping = manager.hear()
    assert environ == {"HOME": "/root"}, "no child inherits the socket"
    assert notifier.variables == {"NOTIFY_SOCKET": address}
    assert (ready["READY"], ready["MAINPID"]) == ("1", str(os.getpid()))
    assert stopping["STOPPING"] == "1"
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 0


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "@"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": "relative"},
        {"WATCHDOG_USEC": "1000"},
    ],
)
def test_without_a_manager_nothing_is_said(environ: dict[str, str]) -> None:
    notifier = Notifier.take(environ)
    assert environ == {}
    assert not notifier.listening
    notifier.ready()
    with notifier.reloading():
        notifier.entry(journal.StopAsked())


def test_a_manager_that_is_gone_or_deaf_changes_nothing_and_hears_it_later(
    tmp_path: Path,
) -> None:
    address = str(tmp_path / "n")
    notifier = Notifier(address)
    notifier.ready()  # nobody there
    with closing(Manager("@" + "x" * 20 + str(os.getpid()))) as other:
        Notifier("/" + "x" * 300).ready()  # no socket can have that path
        assert other.hear() == []
    with closing(Manager(address)) as manager:
        for _ in range(2000):  # its queue is full long before; none of it blocks
            notifier.ready()
        assert 1 <= len(manager.hear()) < 2000
        notifier.ready()
        assert manager.hear()[-1]["READY"] == "1"


def test_reload_is_told_around_what_it_does_and_only_of_a_ready_fleet(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    with notifier.reloading():
        assert manager.hear() == [], "READY=1 would follow, and be a lie"
    notifier.ready()
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with pytest.raises(ZeroDivisionError), notifier.reloading():
        raise ZeroDivisionError
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    _, reloading, ready = manager.hear()
    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) <= after
    assert ready["READY"] == "1"


# -- the watchdog ---------------------------------------------------------------------------------


async def test_the_loop_beats_and_a_wedged_one_does_not(manager: Manager, fleet: Fleet) -> None:
    environ = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "40000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    notifier = Notifier.take(environ)
    assert environ == {}
    notifier.attach(asyncio.get_running_loop(), fleet)
    await eventually_async(lambda: len(manager.said("WATCHDOG")) >= 3)
    before = len(manager.said("WATCHDOG"))
    end = time.monotonic() + 0.2
    while time.monotonic() < end:  # the loop is wedged
        pass
    assert len(manager.said("WATCHDOG")) == before
    await eventually_async(lambda: len(manager.said("WATCHDOG")) > before)
    assert manager.said("EXTEND_TIMEOUT_USEC"), "a start that lives is waited for"
    notifier.ready()
    await eventually_async(lambda: "EXTEND_TIMEOUT_USEC" not in manager.hear()[-1])
    notifier.close()
    assert len(set(manager.said("STATUS"))) == len(manager.said("STATUS")), "only what is new"


@pytest.mark.parametrize("usec", ["", "0", "-5", "x", "9" * 30, "٣"])
async def test_no_sensible_watchdog_is_none(usec: str, manager: Manager, fleet: Fleet) -> None:
    notifier = Notifier.take({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": usec})
    notifier.attach(asyncio.get_running_loop(), fleet)
    notifier.close()
    assert manager.said("WATCHDOG") == []


async def test_another_process_s_watchdog_is_not_ours(manager: Manager, fleet: Fleet) -> None:
    notifier = Notifier.take(
        {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "40000", "WATCHDOG_PID": "1"}
    )
    notifier.attach(asyncio.get_running_loop(), fleet)
    notifier.close()
    assert manager.said("WATCHDOG") == []


def test_the_fleet_in_one_line(fleet: Fleet) -> None:
    fleet.starting = True
    assert describe(fleet) == "starting, 0 agents, 0 active"
    fleet.starting = False
    fleet.paused = Pause("lunch\nREADY=1 " + "x" * 500)
    assert describe(fleet).startswith("0 agents, 0 active, paused: lunch READY=1 xxx")
    assert len(describe(fleet)) == 200


# -- a real supervisor ----------------------------------------------------------------------------


@pytest.fixture
def w(home: Path, monkeypatch: pytest.MonkeyPatch, manager: Manager) -> Iterator[World]:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")  # nobody reads while the test waits for it
    with world(home) as made:
        yield made


def test_a_supervisor_tells_its_manager_the_whole_story(w: World, manager: Manager) -> None:
    w.up()
    eventually(lambda: manager.said("READY"))
    (ready,) = [m for m in manager.hear() if "READY" in m]
    assert ready["MAINPID"] == str(w.pid)
    assert manager.said("STATUS")[-1] == "2 agents, 0 active"
    w.add(HELD)
    w.wrote(eventually(w.active, 20)[0], ".git/HEAD")
    eventually(lambda: untold(w.pid, 6), say="zygote, services, daemons, a session")
    os.kill(w.pid, signal.SIGHUP)
    eventually(lambda: manager.said("RELOADING"))
    eventually(lambda: len(manager.said("READY")) == 2)
    assert manager.said("STATUS")[-1] == "2 agents, 1 active"
    (w.home / "swarm.yaml").write_text("nonsense: 1\n")
    os.kill(w.pid, signal.SIGHUP)
    eventually(lambda: len(manager.said("READY")) == 3, say="a bad file is over, too")
    assert manager.said("STOPPING") == []
    assert w.stop(now=True) == 0
    assert manager.said("STOPPING") == ["1"]
    assert manager.said("STATUS")[-1].startswith("stopping")


def test_an_upgraded_supervisor_goes_on_telling_its_manager(w: World, manager: Manager) -> None:
    w.configure(count=1)
    w.up()
    eventually(lambda: manager.said("READY"))
    before = manager.said("READY")
    assert w.ask(control.Upgrade()).data["pid"] == w.pid
    eventually(lambda: manager.said("READY") == [*before, "1"], say="the same process, ready still")
    assert manager.said("STOPPING") == []
    eventually(lambda: manager.said("STATUS")[-1] == "1 agent, 0 active")
    eventually(lambda: untold(w.pid, 1), say="the new zygote knows no manager")
    assert w.stop(now=True) == 0


def untold(pid: int, least: int) -> bool:
    """At least so many live below ``pid``, and none was told of the manager.

    To be waited for: between fork and exec a child shows what its parent was started with.
    """
    below = [environ for one in family(pid) if (environ := environ_of(one))]
    told = [one for one in below if b"NOTIFY_SOCKET" in one or b"WATCHDOG_" in one]
    return len(below) >= least and not told


def environ_of(pid: int) -> bytes:
    """What it was started with; nothing when it has just ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_a_stopped_supervisor_beats_no_more(
    w: World, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    w.configure(count=1)
    w.up()
    eventually(lambda: len(manager.said("WATCHDOG")) > 2)
    os.kill(w.pid, signal.SIGSTOP)
    eventually(lambda: "T" in Path(f"/proc/{w.pid}/stat").read_text().rpartition(")")[2][:3])
    manager.hear()
    heard = len(manager.heard)
    remains_false(lambda: len(manager.hear()) > heard, 0.6)  # three beats long, nothing comes
    os.kill(w.pid, signal.SIGCONT)
    eventually(lambda: len(manager.hear()) > heard)
    w.ask(control.Stop(now=True))
    assert w.wait() == 0


def test_a_start_that_fails_is_never_ready(w: World, manager: Manager) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = (w.home / "swarm.yaml").read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}")
        (w.home / "swarm.yaml").write_text(text)
        assert "error" in w.start()
        assert w.wait() == 1
    assert manager.said("READY") == []

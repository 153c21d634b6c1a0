"""What a storm does to processes: to the right ones only, and never for longer than it meant."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests_support import eventually

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm.fleet import Fleet, Said
from swarm.cli.storm.grip import Grip
from swarm.cli.storm.hands import DISK_LEFT, Held, Scene, Victim, choose, cut, harm_of, perform
from swarm.cli.storm.plan import ACTIONS, Action, Disturbance, Kind, Target, Way
from swarm.cli.storm.processes import Process, descendants, find, fleet, is_same, send
from swarm.core.model import Outcome

NOTHING = Scene({"agents": [], "services": [], "swarm": {"pid": 0, "chat_url": None}}, {})


@pytest.fixture
def started(tmp_path: Path) -> Iterator[ExitStack]:
    """Processes of a test; each is ended with it."""
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, *argv: str, **options: object) -> Process:
    process = subprocess.Popen(argv, **options)  # type: ignore[call-overload]
    stack.enter_context(process)
    stack.callback(process.kill)
    found = find(process.pid)
    assert found is not None
    stack.callback(end_those_below, found)
    return found


def end_those_below(process: Process) -> None:
    """While their parent still lives: nobody finds them when it has ended."""
    for child in descendants(process):
        send(child, signal.SIGKILL)


def disturbance(
    kind: Kind, target: Target, way: Way = Way.PLAIN, seconds: float = 60
) -> Disturbance:
    return Disturbance(0.0, Action(kind, target, way), seconds, 0.5)


def state_of(process: Process) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_only_the_same_process_is_signalled(started: ExitStack) -> None:
    process = start(started, "sleep", "60")
    other = replace(process, start=process.start + 1)
    assert not is_same(other)
    assert not send(other, signal.SIGKILL)
    assert is_same(process)
    assert send(process, signal.SIGKILL)
    eventually(lambda: not is_same(process))


def test_who_belongs_to_a_fleet(started: ExitStack, tmp_path: Path) -> None:
    """By marker, by environment, by place, by parent; a stranger never."""
    plain = {"PATH": os.environ["PATH"]}
    root = tmp_path / "fleet"
    root.mkdir()
    marked = start(started, "sleep", "60", env={**plain, "AGENTCTL_TREE": "0f0f:t-1:1"})
    told = start(started, "sleep", "60", env={**plain, "AGENTCTL_HOME": f"{root}/home"})
    there = start(started, "sleep", "60", env=plain, cwd=root)
    parent = start(started, "sh", "-c", "(cd /; exec env -i sleep 60); true", env=plain, cwd=root)
    stranger = start(started, "sleep", "60", env={**plain, "AGENTCTL_TREE": "0f0e:t-1:1"})
    child = eventually(lambda: descendants(parent))[0]
    found = fleet(str(root), "0f0f", but=[there.pid])
    assert {marked.pid, told.pid, parent.pid, child.pid} == found.keys()
    assert found[marked.pid].tree == "0f0f:t-1:1"
    assert found[marked.pid].key == marked.key
    assert stranger.pid not in found


def test_what_is_held_is_let_go_of_in_time(started: ExitStack) -> None:
    process = start(started, "sleep", "60")
    grip = Grip()
    with closing(grip):
        held = perform(
            disturbance(Kind.STOP, Target.DAEMON, seconds=0.1), Victim(process, "x"), NOTHING
        )
        assert held is not None
        grip.take(held)
        assert grip.holds(process) or grip.over()
        eventually(lambda: state_of(process) == "S")
        eventually(lambda: not grip.now())
        grip.take(replace_until(held))
        send(process, signal.SIGSTOP)
        eventually(lambda: state_of(process) == "T")
    assert eventually(lambda: state_of(process) == "S"), "whatever happens, it goes on at the end"


def replace_until(held: Held) -> Held:
    """The same for ever."""
    return Held(held.disturbance, held.victim, float("inf"), held.release)


def test_a_slowed_process_sleeps_and_works_in_turn(started: ExitStack) -> None:
    process = start(started, "sleep", "60")
    held = perform(disturbance(Kind.SLOW, Target.DAEMON), Victim(process, "x"), NOTHING)
    assert held is not None
    assert held.turn is not None
    for now, state in ((1.0, "T"), (1.01, "T"), (1.2, "S"), (1.4, "T")):
        held.turn(now)
        eventually(lambda wanted=state: state_of(process) == wanted)  # type: ignore[misc]
    held.release()
    eventually(lambda: state_of(process) == "S")


@pytest.mark.parametrize("way", [Way.DISK, Way.FILES])
def test_a_full_process_is_given_room_again_and_so_is_what_it_started(
    started: ExitStack, way: Way
) -> None:
    kind = resource.RLIMIT_FSIZE if way is Way.DISK else resource.RLIMIT_NOFILE
    parent = start(started, "sh", "-c", "kill -STOP $$; sleep 60; true")
    eventually(lambda: state_of(parent) == "T")
    before = resource.prlimit(parent.pid, kind)
    held = perform(disturbance(Kind.FILL, Target.DAEMON, way), Victim(parent, "x"), NOTHING)
    assert held is not None
    soft, hard = resource.prlimit(parent.pid, kind)
    assert soft == DISK_LEFT if way is Way.DISK else soft < 20
    assert hard == before[1], "the hard limit could not be raised again"
    send(parent, signal.SIGCONT)
    child = eventually(lambda: descendants(parent))[0]
    assert resource.prlimit(child.pid, kind)[0] == soft, "born with it"
    held.release()
    assert resource.prlimit(parent.pid, kind) == before
    assert resource.prlimit(child.pid, kind) == before


CLIENT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(b"here")
    raise SystemExit(0 if connection.recv(10) == b"" else 1)
"""


def test_a_connection_is_cut_under_its_owner(started: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = start(started, sys.executable, "-S", "-c", CLIENT, str(port))
        connection, _ = server.accept()
        with connection:
            assert connection.recv(10) == b"here"
            assert not cut(client, "ws://127.0.0.1:1"), "not that one"
            try:
                assert cut(client, f"ws://127.0.0.1:{port}")
            except PermissionError:
                pytest.skip("this user may not take descriptors of other processes")
            eventually(lambda: not is_same(client))
            assert connection.recv(10) == b""


def test_a_command_that_prints_much_is_heard_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe holds 64 KiB, and nobody reads before the end."""
    much = ("-c", "print('x' * 200_000)")
    monkeypatch.setattr("swarm.cli.storm.fleet.agentctl", lambda *words: [sys.executable, *words])
    said = Fleet(Stage(tmp_path)).finish(*much, limit=30)
    assert (said.exit_code, len(said.text)) == (0, 200_001)


def scene() -> Scene:
    def process(pid: int, parent: int = 1, name: str = "agentctl-zygote") -> Process:
        return Process(pid, 100 + pid, parent, name)

    agents = [
        {"name": "a", "pid": 11, "state": "active", "task": {"id": "t-1", "session_pid": 21}},
        {"name": "b", "pid": 12, "state": "idle", "task": None},
        {"name": "c", "pid": None, "state": "backoff", "task": None},
    ]
    services = [{"name": "chat", "pid": 2}, {"name": "coordinator", "pid": 3}]
    services += [{"name": "api", "pid": 4}]
    every = [process(1, 0, "python"), *(process(p, parent=1) for p in (2, 3, 4, 9, 10, 11, 12))]
    every += [process(20, 11, "agentctl-keeper"), process(21, 20, "python")]
    every += [process(30, 12, "git"), process(31, 30, "git-fetch"), process(32, 1, "janitor")]
    every += [replace(process(33, 3, "python"), command="python -I -S guard_program.py 3 2.0 sh")]
    return Scene(
        {"agents": agents, "services": services, "swarm": {"pid": 1, "chat_url": None}},
        {p.pid: p for p in every},
    )


@pytest.mark.parametrize(
    ("target", "pids"),
    [
        (Target.DAEMON, {11, 12}),
        (Target.SESSION, {21}),
        (Target.KEEPER, {20}),
        (Target.CHAT, {2}),
        (Target.COORDINATOR, {3}),
        (Target.API, {4}),
        (Target.HOOK, {33}),
        (Target.ZYGOTE, {9}),
        (Target.HELPER, {30, 31, 33}),
        (Target.SUPERVISOR, {1}),
        (Target.FLEET, {1}),
    ],
)
def test_victims_are_what_the_status_and_proc_say(target: Target, pids: set[int]) -> None:
    found = set()
    for step in range(100):
        victim = choose(Disturbance(0, Action(Kind.KILL, target), 0, step / 100), scene())
        if victim is not None:
            found.add(victim.process.pid)
    assert found == pids


@pytest.mark.parametrize(
    ("target", "pids", "later"),
    [
        (Target.LANDER, {40}, {40}),
        (Target.CHECK, set(), {41, 42}),
        (Target.PUSH, set(), {43}),
        (Target.LANDING, set(), {3}),
    ],
)
def test_a_landing_has_victims_of_its_own(target: Target, pids: set[int], later: set[int]) -> None:
    idle = scene()
    idle.processes[40] = Process(40, 140, 3, "agentctl-lander")
    working = replace(idle, processes=dict(idle.processes))
    for pid, parent, tree, command in (
        (41, 40, "0f0f:landing-t-1:1", "agentctl-init"),
        (42, 41, "0f0f:landing-t-1:1", "sh check.sh"),
        (43, 40, "", "git receive-pack /project"),
    ):
        working.processes[pid] = Process(pid, 100 + pid, parent, "x", tree, command)
    for one, expected in ((idle, pids), (working, later)):
        picked = (Disturbance(0, Action(Kind.KILL, target), 0, step / 10) for step in range(10))
        victims = [choose(disturbance, one) for disturbance in picked]
        assert {victim.process.pid for victim in victims if victim is not None} == expected


def test_harms_are_as_narrow_as_what_was_done() -> None:
    """Killing a service harms no attempt: that is the very thing to be shown."""
    victim = Victim(Process(1, 1, 1, ""), "swarm-builder-001", "t-1")
    harms = {}
    for action in ACTIONS:
        held = Held(Disturbance(0, action, 2.0, 0), victim, 0.0, lambda: None)
        harms[action.kind, action.target] = harm_of(held, 100.0)
    for target in (Target.CHAT, Target.COORDINATOR, Target.ZYGOTE, Target.LANDER, Target.CHECK,
                   Target.PUSH, Target.LANDING, Target.API, Target.HOOK):  # fmt: skip
        assert harms[Kind.KILL, target] is None
    assert harms[Kind.STOP, Target.SUPERVISOR] is None
    assert harms[Kind.DISCONNECT, Target.DAEMON] is None
    killed = harms[Kind.KILL, Target.DAEMON]
    assert killed is not None
    assert (killed.agent, killed.outcomes) == ("swarm-builder-001", {Outcome.LOST})
    assert (killed.since, killed.until) == (100.0, 102.5)
    everybody = harms[Kind.KILL, Target.SUPERVISOR]
    assert everybody is not None
    assert everybody.agent == ""


@pytest.mark.parametrize(
    ("code", "text", "bad"),
    [
        (0, "done", ""),
        (1, "no swarm is running", ""),
        (None, "", "did not end"),
        (1, "agentctl: a defect in agentctl: KeyError", "shows a defect"),
        (-11, "", "died of signal 11"),
    ],
)
def test_what_no_command_may_do(code: int | None, text: str, bad: str) -> None:
    problem = Said(("swarm", "up"), code, text, 3.0).problem
    assert bad in problem
    assert bool(problem) is bool(bad)

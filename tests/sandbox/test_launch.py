"""A tree runs its steps in order, tells exactly how it ended, and leaves nothing behind."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests_support import eventually

from swarm.core.model import Containment
from swarm.errors import SessionError
from swarm.sandbox import keeper
from swarm.sandbox.launch import (
    Command,
    Confinement,
    Status,
    Tree,
    kill,
    launch,
    read_status,
    reap,
    terminate,
)
from swarm.sandbox.run import run

# The test runner has threads of its own; the program that forks here in earnest has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def read_all(fd: int) -> bytes:
    data = b""
    while True:
        try:
            chunk = os.read(fd, 65536)
        except BlockingIOError:
            return data
        if not chunk:
            return data
        data += chunk


def statuses(tree: Tree) -> list[Status]:
    return [read_status(line) for line in read_all(tree.status).splitlines()]


def wait_started(tree: Tree) -> int:
    seen: list[Status] = []

    def started() -> int | None:
        seen.extend(statuses(tree))
        return next((s.started for s in seen if s.started is not None), None)

    return eventually(started, say="the program starts") or 0


def wait_over(tree: Tree) -> None:
    assert select.select([tree.pidfd], [], [], 10.0)[0], "the tree did not end"


def shell(script: str, env: dict[str, str], *words: str) -> Command:
    return Command(("sh", "-c", script, "sh", *words), "/", env)


def test_exit_status_output_and_order(rung: Confinement, env: dict[str, str]) -> None:
    """Prelude first, its output on stderr; the program's exit is told exactly."""
    steps = [shell("echo first", env), shell("echo second >&2", env)]
    done = run(shell("echo out; echo err >&2; exit 7", env), rung, prelude=steps)
    assert (done.exit, done.out) == (7, b"out\n")
    assert done.error.split() == ["first", "second", "err"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_signal_is_negative(
    rung: Confinement, env: dict[str, str], number: signal.Signals
) -> None:
    done = run(shell(f"kill -{int(number)} $$", env), rung)
    assert done.exit == -number


def test_the_program_is_seen_by_its_real_pid(
    rung: Confinement, env: dict[str, str], token: str, carrying: Callable[[], list[int]]
) -> None:
    tree = launch(shell("exec sleep 60 # $1", env, token), [], rung)
    try:
        pid = wait_started(tree)
        assert Path(f"/proc/{pid}/comm").read_text().strip() in ("sleep", "sh")
        assert tree.tree_start > 0
        assert tree.containment is rung.containment
    finally:
        kill(tree)
        wait_over(tree)
        reap(tree)
    assert not carrying()


@pytest.mark.parametrize(
    ("argv", "cwd", "says"),
    [
        (("no-such-agent", "-p"), "/", "cannot start no-such-agent: no such program on PATH"),
        (("/nowhere/agent",), "/", "cannot start /nowhere/agent: there is no such file"),
        (("true",), "/nowhere", "cannot start true: its directory /nowhere"),
        (("/etc/passwd",), "/", "cannot start /etc/passwd: Permission denied"),
    ],
)
def test_what_cannot_be_started_is_named(
    rung: Confinement, env: dict[str, str], argv: tuple[str, ...], cwd: str, says: str
) -> None:
    done = run(Command(argv, cwd, env), rung)
    assert done.exit is None
    assert done.error.startswith(says)


def test_a_missing_interpreter_is_told(rung: Confinement, env: dict[str, str], home: Path) -> None:
    script = home / "agent"
    script.write_text("#!/nowhere/node\n")
    script.chmod(0o755)
    done = run(Command((str(script),), "/", env), rung)
    assert "the interpreter it names is not there" in done.error


def test_a_failed_prelude_step_is_the_last(
    rung: Confinement, env: dict[str, str], home: Path
) -> None:
    mark = home / "ran"
    steps = [shell("true", env), shell("echo why >&2; exit 9", env), shell(f"touch {mark}", env)]
    done = run(shell(f"touch {mark}", env), rung, prelude=steps)
    assert (done.prelude_failed, done.exit, done.error) == (1, 9, "why\n")
    assert not mark.exists()


def test_what_the_program_leaves_behind_ends_with_it(
    rung: Confinement, env: dict[str, str], token: str, carrying: Callable[[], list[int]]
) -> None:
    """A double-forked, setsid'ed descendant with an empty environment is killed at the end."""
    away = "(env -i setsid sh -c 'sleep 60 # $0' $1 >/dev/null 2>&1 &) ; exit 0"
    assert run(shell(away, env, token), rung).exit == 0
    assert not carrying()


def test_term_reaches_the_whole_tree(
    rung: Confinement, env: dict[str, str], token: str, carrying: Callable[[], list[int]]
) -> None:
    tree = launch(shell("sleep 60 & setsid sleep 60 & wait # $1", env, token), [], rung)
    wait_started(tree)
    terminate(tree)
    wait_over(tree)
    assert statuses(tree)[-1].exit == -signal.SIGTERM
    reap(tree)
    assert not carrying()


def test_a_program_that_ignores_term_dies_by_kill(
    rung: Confinement, env: dict[str, str], token: str, carrying: Callable[[], list[int]]
) -> None:
    script = "trap '' TERM; echo deaf; while :; do sleep 60; done # $1"
    tree = launch(shell(script, env, token), [], rung)
    heard = bytearray()

    def deaf() -> bool:
        heard.extend(read_all(tree.stdout))
        return b"deaf" in heard

    eventually(deaf)
    terminate(tree)
    eventually(carrying)
    assert not select.select([tree.pidfd], [], [], 0.1)[0]
    kill(tree)
    wait_over(tree)
    reap(tree)
    assert not carrying()


def test_an_order_to_end_during_the_prelude_starts_nothing(
    rung: Confinement, env: dict[str, str], home: Path, token: str
) -> None:
    mark, ready = home / "ran", home / "ready"
    slow = shell(f"touch {ready}; exec sleep 60 # $1", env, token)
    tree = launch(shell(f"touch {mark}", env), [slow], rung)
    eventually(ready.exists)
    terminate(tree)
    wait_over(tree)
    told = statuses(tree)
    assert [s.prelude_failed for s in told if s.prelude_failed is not None] == [0]
    reap(tree)
    assert not mark.exists()


def test_an_order_that_comes_at_once_is_not_lost(rung: Confinement, env: dict[str, str]) -> None:
    """TERM right after launch returns, wherever the tree is by then."""
    for _ in range(10):
        tree = launch(shell("exec sleep 60", env), [], rung)
        terminate(tree)
        wait_over(tree)
        assert all(s.exit in (None, -signal.SIGTERM) for s in statuses(tree))
        reap(tree)


def test_the_program_starts_clean(rung: Confinement, env: dict[str, str]) -> None:
    """No descriptor, signal setting, file mask or privilege of the starter reaches it."""
    script = """
import os, signal, sys
print(sorted(int(f) for f in os.listdir('/proc/self/fd') if int(f) > 3))
print([s.name for s in signal.Signals if s not in (signal.SIGKILL, signal.SIGSTOP)
       and signal.getsignal(s) not in (signal.SIG_DFL, signal.default_int_handler)
       and s not in (signal.SIGPIPE, signal.SIGXFSZ)])
print(oct(os.umask(0)), os.getsid(0) == os.getpid(), sys.stdin.read() == '')
status = open('/proc/self/status').read()
print(status.split('NoNewPrivs:')[1].split()[0], int(status.split('SigBlk:')[1].split()[0], 16))
print(status.split('SigIgn:')[1].split()[0])
"""
    leak = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leak, True)
    old = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        done = run(Command((sys.executable, "-c", script), "/", env), rung)
    finally:
        signal.signal(signal.SIGUSR2, old)
        os.close(leak)
    lines = done.out.decode().splitlines()
    assert lines[:4] == ["[]", "[]", "0o77 True True", "1 0"], done.error
    python_ignores = (1 << signal.SIGPIPE - 1) | (1 << signal.SIGXFSZ - 1)
    # glibc's posix_spawn ignores glibc's own two signals in its child and has no call to undo it.
    of_the_c_library = (1 << 32 - 1) | (1 << 33 - 1)
    assert int(lines[4], 16) & ~of_the_c_library == python_ignores


def test_marker_and_private_directory_are_in_every_step(
    rung: Confinement, env: dict[str, str], home: Path
) -> None:
    here = replace(rung, marker="home:t-1:3", tmp=str(home))
    show = shell('echo "$AGENTCTL_TREE $TMPDIR"', env)
    done = run(show, here, prelude=[show])
    assert done.out.decode() == done.error == f"home:t-1:3 {home}\n"


def test_a_namespace_has_its_own_processes_and_shared_memory(
    rung: Confinement, env: dict[str, str]
) -> None:
    if rung.containment is not Containment.PID_NAMESPACE:
        pytest.skip("only a namespace hides the machine's processes")
    done = run(shell("ls /proc | grep -c '^[0-9]'; ls -A /dev/shm | wc -l", env), rung)
    processes, shared = done.out.split()
    assert int(processes) <= 8
    assert shared == b"0"


def test_a_namespace_sees_its_private_directory_as_tmp(env: dict[str, str]) -> None:
    """Programs that insist on /tmp get the private one, where nothing granted lies in /tmp."""
    from swarm.sandbox.grants import git_rules
    from swarm.sandbox.landlock import LandlockRules

    base = Path("/var/tmp") / f"ac-{os.getpid()}-{os.urandom(4).hex()}"
    base.mkdir()
    try:
        rules = git_rules(read=["/etc"], write=[str(base)])
        plain = LandlockRules(
            tuple(p for p in rules.read if not os.path.realpath(p).startswith("/tmp/")),
            rules.write,
            rules.devices,
        )
        confinement = Confinement(landlock=plain, tmp=str(base))
        done = run(shell("echo mine > /tmp/file; exit $?", {"PATH": "/usr/bin:/bin"}), confinement)
        assert done.exit == 0, done.error
        assert (base / "file").read_text() == "mine\n"
    finally:
        for path in base.iterdir():
            path.unlink()
        base.rmdir()


def test_containment_that_cannot_be_had_is_an_error(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(flags: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(keeper.kernel, "unshare", refuse)
    with pytest.raises(SessionError, match="Operation not permitted"):
        launch(shell("true", env), [], Confinement(Containment.PID_NAMESPACE))
    done = run(shell("echo fell back", env), Confinement())
    assert done.out == b"fell back\n"


def test_a_tree_that_takes_too_long_is_killed(
    rung: Confinement, env: dict[str, str], token: str, carrying: Callable[[], list[int]]
) -> None:
    with pytest.raises(SessionError, match="longer than"):
        run(shell("sleep 60 # $1", env, token), rung, timeout=0.05)
    assert not carrying()


def test_mutant_a_keeper_that_does_not_wait_for_the_tree_is_caught(
    env: dict[str, str], token: str, carrying: Callable[[], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Planted bug: without namespaces the keeper leaves as soon as the program has ended."""

    def keep_descent(plan: keeper.Plan) -> None:
        keeper.kernel.prctl(keeper.kernel.PR_SET_CHILD_SUBREAPER, 1)
        answer = keeper.Answer(os.getpid(), 1, Containment.DESCENT.value)
        keeper._tell(plan.ends, answer)
        orders = keeper.Orders(lambda number: None)
        keeper.run_steps(keeper.Steps(plan.steps, plan.ends, os.getpid(), None, None, orders))

    monkeypatch.setattr(keeper, "_keep_descent", keep_descent)
    away = "(env -i setsid sh -c 'sleep 60 # $0' $1 >/dev/null 2>&1 &) ; exit 0"
    run(shell(away, env, token), Confinement(Containment.DESCENT))
    assert carrying(), "the property would not notice a keeper that leaves early"

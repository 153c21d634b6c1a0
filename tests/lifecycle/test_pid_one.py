"""The supervisor as pid 1 of a container: it reaps what it inherits, and it can be stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from supervisor_world import children
from swarm_support import Swarm
from tests_support import HELD, eventually

from swarm.cli.lock import is_locked

STRANGER = 54321
"""A uid that nobody has named: no passwd entry, no home, and none of root's rights."""
NOBODY = ["--user", f"--map-user={STRANGER}", f"--map-group={STRANGER}"]
NEW = ["unshare", "--pid", "--fork", "--mount-proc"]
UP = [sys.executable, "-P", "-m", "swarm.cli", "swarm", "up"]


def _why_not() -> str:
    for program in ("unshare", "nsenter", "mount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    tried = subprocess.run([*NEW, "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"no PID namespaces: {tried.stderr.decode().strip()}"


WHY_NOT = _why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it can be tested")


class Container:
    """A PID namespace whose first process is what a test says; ended with the test."""

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        self.output = swarm.root / "container.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def run(
        self,
        argv: Sequence[str],
        around: Sequence[str] = (),
        also: Sequence[str] = (),
        **environ: str | None,
    ) -> None:
        """Start it, unshared ``also`` otherwise; a variable that is ``None`` is not set there."""
        wanted = {**self.swarm.environ, **environ}
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*around, *NEW, *also, "--kill-child", *argv],
                env={name: value for name, value in wanted.items() if value is not None},
                cwd=self.swarm.root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    @property
    def init(self) -> int:
        """Its pid 1, as we see it."""
        assert self.process is not None
        outer = self.process.pid
        (pid,) = eventually(lambda: children(outer))
        return pid

    def ready(self) -> int:
        """Wait until the fleet is; the pid of its pid 1 outside."""
        eventually(lambda: "ready:" in self.said or self.ended, 30)
        assert not self.ended, self.said
        status = self.swarm.status()["swarm"]
        assert status["pid"] == 1
        return self.init

    def inside(self, script: str) -> None:
        """Run a shell in there that is no child of its pid 1."""
        subprocess.run(
            ["nsenter", "--target", str(self.init), "--pid", "--mount", "sh", "-c", script],
            check=True,
            timeout=30,
        )

    def exit(self, within: float = 20) -> int:
        """Its exit status."""
        assert self.process is not None
        return self.process.wait(within)

    def close(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait(10)


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    made = Swarm()
    made.configure(agents=[{"role": "builder", "count": 2}])
    yield made
    made.close()


@pytest.fixture
def container(swarm: Swarm) -> Iterator[Container]:
    made = Container(swarm)
    yield made
    made.close()


def zombies(init: int) -> list[int]:
    """Children of ``init`` that have ended and are not reaped."""
    return [pid for pid in children(init) if _state(pid) == "Z"]


def _state(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.rpartition(")")[2].split()[0]


def test_it_reaps_what_it_inherits_does_its_tasks_and_ends_in_order(
    swarm: Swarm, container: Container
) -> None:
    # Left by an entry point before the exec: one has ended, one ends later.
    before = "sh -c 'exit 3' & sleep 1 & "
    container.run(["sh", "-c", before + 'exec "$0" "$@"', *UP])
    init = container.ready()
    # Orphans of the namespace that never were below us.
    container.inside("for i in 1 2 3; do (sleep 0.2 & sleep 0.1 &) ; done; exit 0")
    (task,) = swarm.ended([swarm.add("shell setsid sleep 0.2 >/dev/null 2>&1 &\nanswer done")])
    assert task.state == "done", task
    eventually(
        lambda: not zombies(init) and not _commands(init, "sleep"), say="all are reaped and gone"
    )
    held = swarm.add(HELD)
    swarm.active(1)
    os.kill(init, signal.SIGTERM)
    assert container.exit() == 0
    assert "stopped" in container.said
    assert not is_locked(swarm.places)
    assert swarm.task(held).state == "queued", "interrupted, not failed"
    swarm.gone()


def _commands(init: int, name: str) -> list[int]:
    """Direct children of ``init`` of that name."""
    found = []
    for pid in children(init):
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.append(pid)
    return found


def test_without_home_name_terminal_or_writable_cgroups(swarm: Swarm, container: Container) -> None:
    tried = subprocess.run([*NEW, *NOBODY, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no user namespaces: {tried.stderr.strip()}")
    read_only = (
        "mount --bind /sys/fs/cgroup /sys/fs/cgroup"
        ' && mount -o remount,ro,bind /sys/fs/cgroup && exec "$@" <&-'
    )
    container.run(
        UP,
        around=["unshare", "--mount", "sh", "-c", read_only, "sh"],
        also=NOBODY,
        **dict.fromkeys(["HOME", "USER", "LOGNAME", "TERM", "SHELL"]),
    )
    init = container.ready()
    (task,) = swarm.ended([swarm.add("write a.txt x\ncommit Add a\nanswer done")])
    assert (task.state, task.result) == ("done", "branch"), swarm.attempts(task.id)
    os.kill(init, signal.SIGINT)
    assert container.exit() == 0
    assert not container.said.count("Traceback")
    swarm.gone()


def test_a_bad_configuration_is_exit_2_and_kill_takes_everything(
    swarm: Swarm, container: Container
) -> None:
    good = swarm.places.config.read_text()
    swarm.places.config.write_text("nonsense: 1\n")
    container.run(UP)
    assert container.exit() == 2
    assert "nonsense" in container.said
    swarm.places.config.write_text(good)
    container.run(UP)
    init = container.ready()
    swarm.add(HELD)
    swarm.active(1)
    os.kill(init, signal.SIGKILL)
    container.exit()
    swarm.gone()
    swarm.up()  # outside of any container: it goes on where the other was killed
    assert swarm.must("swarm", "stop", "--now")


def test_term_while_it_starts_is_not_lost(swarm: Swarm, container: Container) -> None:
    container.run(UP)
    init = container.init
    # The command line has become the supervisor, which has a handler or holds signals back.
    eventually(lambda: b"swarm.supervisor" in Path(f"/proc/{init}/cmdline").read_bytes(), 20)
    os.kill(init, signal.SIGTERM)
    assert container.exit() in (0, 130)
    swarm.gone()


def test_without_a_home_the_command_line_says_what_to_set(swarm: Swarm) -> None:
    environ = {k: v for k, v in swarm.environ.items() if k not in ("HOME", "AGENTCTL_HOME")}
    ran = subprocess.run(
        ["unshare", *NOBODY, *UP, "--detach"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "set AGENTCTL_HOME to an absolute path" in ran.stderr

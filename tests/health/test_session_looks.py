"""Looks at the trees of sessions: whoever forked, whatever it does silently."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import pytest
from tests_support import eventually

from swarm.core.limits import progress
from swarm.health import processes
from swarm.health.processes import Process, Table, process, tree_of
from swarm.health.sessions import Root, SessionSampler, in_cgroup

THREADED = """
import os, subprocess, sys, threading
def work():
    child = subprocess.Popen([sys.executable, '-S', '-c',
        "import os; os.setsid(); print(1, flush=True); input()"], stdin=subprocess.PIPE)
    child.wait()
threading.Thread(target=work).start()
"""
"""A child that another thread than the main one forked, as node, bun and go do."""

GRANDCHILD = """
import os, sys
if os.fork() == 0:
    os.setsid()
    print(1, flush=True)
    {does}
else:
    os.wait()
"""


@contextmanager
def running(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs ``code`` until it is ended, with all it forked."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as made:
        assert made.stdout is not None
        made.stdout.readline()
        try:
            yield made
        finally:
            for one in reversed(Table.now().tree(made.pid)):
                os.kill(one.pid, 9)


def root(made: subprocess.Popen[bytes], **limits: int) -> Root:
    found = process(made.pid)
    assert found is not None
    return Root(made.pid, found.start, "", **limits)


def test_what_another_thread_forked_is_in_the_tree() -> None:
    with running(THREADED) as made:
        start = root(made).start
        assert len(Table.now().tree(made.pid, start)) == 2
        assert len(tree_of(made.pid, start, 100)) == 2


def test_a_pid_that_was_given_away_is_no_tree() -> None:
    me = process(os.getpid())
    assert me is not None
    assert Table.now().tree(me.pid, me.start)
    assert not Table.now().tree(me.pid, me.start + 1)
    assert not tree_of(me.pid, me.start + 1, 10)
    assert SessionSampler().light(Root(me.pid, me.start + 1)) is None
    assert SessionSampler().full({"a": Root(me.pid, me.start + 1)}, Table.now()) == {}


@pytest.mark.parametrize("listed", [True, False])
def test_a_tree_that_is_too_large_is_not_walked_to_its_end(
    listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_LISTED", listed)
    forks = (
        "import os, time\nfor _ in range(9):\n  os.fork() or time.sleep(60)\nprint(1, flush=True)"
    )
    with running(f"{forks}\ninput()") as made:
        eventually(lambda: len(Table.now().tree(made.pid)) == 10)
        use = SessionSampler().light(root(made, max_processes=4))
        assert use is not None
        assert use.processes is not None
        assert 4 < use.processes < 9 + 1
        whole = SessionSampler().light(root(made))
        assert whole is not None
        assert whole.processes == 9


@contextmanager
def looking(does: str) -> Iterator[Callable[[], bool]]:
    """Whether a silent grandchild has been seen to do something since the first look."""
    with running(GRANDCHILD.replace("{does}", does)) as made:
        where, sampler = {"s": root(made)}, SessionSampler()
        sampler.full(where, Table.now())
        yield lambda: progress(deepcopy(sampler).full(where, Table.now())["s"])


COPY = "f = open(os.memfd_create('x'), 'wb')\n    while True: f.write(b'x' * 65536); f.seek(0)"


@pytest.mark.parametrize(
    "does", ["while True: pass", COPY, "while True: os.waitpid(os.fork() or os._exit(0), 0)"]
)
def test_a_silent_grandchild_that_works_is_progress(does: str) -> None:
    with looking(does) as does_something:
        eventually(does_something)


def test_one_that_only_waits_is_none() -> None:
    with looking("import time; time.sleep(60)") as does_something:
        assert not any(does_something() for _ in range(20))


def test_memory_that_is_shared_is_not_counted_twice_when_it_matters() -> None:
    """Ten forks of a process with 30 MB hold 30 MB, not 300; only the exact look sees that."""
    code = (
        "import os, time\nx = bytearray(b'x') * (30 << 20)\n"
        "for _ in range(10):\n  os.fork() or time.sleep(60)\nprint(1, flush=True)\ninput()"
    )
    with running(f"import os\nif os.fork() == 0:\n  exec({code!r})\nelse:\n  os.wait()") as made:
        eventually(lambda: len(Table.now().tree(made.pid)) == 12)
        rough = SessionSampler().light(root(made))
        exact = SessionSampler().light(root(made, memory_mb=100))
        assert rough is not None
        assert exact is not None
        assert rough.memory_mb is not None
        assert exact.memory_mb is not None
        assert rough.memory_mb > 250
        assert 30 < exact.memory_mb < 100


def cgroup_2(folder: Path) -> Path:
    (folder / "memory.current").write_text("104857600\n")
    (folder / "pids.current").write_text("7\n")
    (folder / "memory.stat").write_text("anon 1\ninactive_file 20971520\nactive_file 10485760\n")
    return folder


def cgroup_1(folder: Path) -> Path:
    memory, pids = folder / "memory" / "s", folder / "pids" / "s"
    memory.mkdir(parents=True)
    pids.mkdir(parents=True)
    (memory / "memory.usage_in_bytes").write_text("104857600\n")
    (memory / "memory.stat").write_text(
        "inactive_file 1\nactive_file 1\ntotal_inactive_file 20971520\ntotal_active_file 10485760\n"
    )
    (pids / "pids.current").write_text("7\n")
    return memory


@pytest.mark.parametrize("make", [cgroup_1, cgroup_2])
def test_a_cgroup_says_it_at_once_and_page_cache_is_no_use(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    where = str(make(tmp_path))
    assert in_cgroup(where) == (70.0, 7)
    me = process(os.getpid())
    assert me is not None
    use = SessionSampler().light(Root(me.pid, me.start, where, max_processes=7))
    assert use is not None
    assert (use.memory_mb, use.processes) == (70.0, None)
    # More tasks than processes are allowed: threads are tasks, so the processes are counted.
    use = SessionSampler().light(Root(me.pid, me.start, where, max_processes=6))
    assert use is not None
    assert (use.memory_mb, use.processes) == (70.0, 0)


def test_a_cgroup_that_is_gone_leaves_the_tree(tmp_path: Path) -> None:
    assert in_cgroup(str(tmp_path)) is None
    me = process(os.getpid())
    assert me is not None
    use = SessionSampler().light(Root(me.pid, me.start, str(tmp_path)))
    assert use is not None
    assert use.processes == 0


def test_a_table_of_nobody_has_no_trees() -> None:
    assert Table({}).tree(1) == []
    ended = Process(5, 1, 9, True, 0, 0, 1, 0.0)
    assert Table({5: ended}).tree(5) == []

"""Twenty tasks on overlapping files over five agents: all land, and nothing else is touched."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from swarm_support import Swarm, git

from swarm.core.model import RemarkKind, TaskResult, TaskState
from swarm.ledger import open_ledger

TASKS, AGENTS, FILES = 20, 5, 4
SUITE = "python3 -m unittest -q"
TEST = (
    "import unittest\\n"
    "from lib import shared_{file}\\n"
    "class T(unittest.TestCase):\\n"
    "    def test_it(self):\\n"
    "        self.assertEqual(shared_{file}.f{n}(), {n})"
)
WORDS = (
    "once append lib/shared_{file}.py def f{n}():\\n    return {n}\n"
    "once write tests/test_f{n}.py " + TEST + "\n"
    "again run sed -i '/^<<<<<<< /d;/^=======$/d;/^>>>>>>> /d' lib/shared_{file}.py\n"
    "commit add f{n}"
)


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    made = Swarm()
    try:
        make_suite(made.repository)
        yield made
    finally:
        made.close()


def make_suite(where: Path) -> None:
    """A library of a few files, each with a test; and a person in the middle of something."""
    for folder in ("lib", "tests"):
        (where / folder).mkdir()
        (where / folder / "__init__.py").write_text("")
    for file in range(FILES):
        (where / f"lib/shared_{file}.py").write_text(f"NAME = {file}\n")
    (where / "tests/test_names.py").write_text(
        "import unittest\nfrom lib import shared_0\n"
        "class T(unittest.TestCase):\n"
        "    def test_name(self):\n        self.assertEqual(shared_0.NAME, 0)\n"
    )
    (where / ".gitignore").write_text("*.tmp\n__pycache__/\n")
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "suite")
    (where / "README.md").write_text("# put aside\n")
    git(where, "stash", "-q")
    (where / "README.md").write_text("# in the middle of something\n")
    (where / "lib/shared_0.py").write_text("NAME = 0\n# staged\n")
    git(where, "add", "lib/shared_0.py")
    (where / "untracked.txt").write_text("mine\n")
    (where / "ignored.tmp").write_text("mine too\n")


def owned(where: Path) -> dict[str, str]:
    """What is the person's in a repository: every file, the index, HEAD, branches, the stash."""
    kept = {}
    for path in sorted(where.rglob("*")):
        inside = path.relative_to(where).parts
        theirs = inside[0] != ".git" or inside[1:2] in (("index",), ("HEAD",), ("config",))
        if path.is_file() and theirs:
            kept["/".join(inside)] = hashlib.sha256(path.read_bytes()).hexdigest()
    heads = git(where, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    refs = [line for line in heads if not line.startswith("refs/heads/swarm/")]
    return {**kept, "refs": "\n".join(refs), "stash": git(where, "stash", "list")}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_twenty_tasks_on_overlapping_files_all_land(swarm: Swarm) -> None:
    swarm.configure(
        agents=[{"role": "builder", "count": AGENTS}],
        limits={"max_active": AGENTS, "min_free_memory_mb": 0, "min_free_disk_mb": 0},
        repo={"merge": "squash", "checks": [SUITE], "max_revisions": TASKS},
    )
    before = owned(swarm.repository)
    tasks = [swarm.add(WORDS.format(n=n, file=n % FILES)) for n in range(TASKS)]
    swarm.up()
    done = swarm.ended(tasks, within=180)
    assert {(task.state, task.result) for task in done} == {(TaskState.DONE, TaskResult.MERGED)}

    hub = swarm.hub()
    log = git(hub, "log", "--reverse", "--format=%H %P", "main").splitlines()
    assert len(log) == 2 + TASKS, "one commit a task"
    for line, parent in zip(log[1:], log, strict=False):
        assert line.split()[1:] == [parent.split()[0]], "the history is linear"
    assert git(hub, "rev-parse", "main") == swarm.git("rev-parse", "swarm/main")
    for line in log[1:]:
        green(swarm, line.split()[0])

    with open_ledger(swarm.places.ledger) as ledger:
        kinds = [one.kind for task in tasks for one in ledger.remarks(task)]
    assert RemarkKind.CONFLICT in kinds, "they did overlap"
    assert len({task.agent for task in done}) == AGENTS
    assert owned(swarm.repository) == before


def green(swarm: Swarm, commit: str) -> None:
    """The whole suite passes at this commit of the target."""
    where = swarm.root / "trees" / commit
    where.mkdir(parents=True)
    archive = subprocess.run(
        ["git", f"--git-dir={swarm.hub()}", "archive", commit], capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(where)], input=archive.stdout, check=True)
    ran = subprocess.run(
        [sys.executable, "-B", "-m", "unittest", "-q"],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{commit}: {ran.stderr}"

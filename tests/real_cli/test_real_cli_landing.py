"""From a goal to the source's branch with real CLIs: planned, built, reviewed, revised, landed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources

import pytest
from real_cli_world import real_clis, role_of
from source_watch import changes, fingerprint, make_lived_in
from standin_provider import INPUT_TOKENS, OUTPUT_TOKENS
from standin_script import Asked, Move, Shell
from swarm_support import Swarm, git

from swarm.core.model import RemarkKind, TaskKind, TaskResult, TaskState
from swarm.ledger import Task, open_ledger

pytestmark = [pytest.mark.real_cli, pytest.mark.slow, pytest.mark.timeout(400)]

BUILDERS = {"builder": "claude", "builder-codex": "codex", "builder-opencode": "opencode"}
GOAL = "A module that greets the world, each part with its test, built by one builder of each kind"
MODULES = {
    "greeting": 'def greeting():\n    return "Hello"\n',
    "name": 'def name():\n    return "world"\n',
    "hello": (
        "from greeting import greeting\nfrom name import name\n\n\n"
        'def hello():\n    return f"{greeting()}, {name()}!"\n'
    ),
}
RETURNS = {"greeting": "Hello", "name": "world", "hello": "Hello, world!"}
PLAN = {
    "title": "Greet the world",
    "tasks": [
        {"key": key, "role": role, "text": f"Write the module {key}.", "files": [f"{key}.py"]}
        | ({"after": ["greeting", "name"]} if key == "hello" else {})
        for key, role in zip(MODULES, BUILDERS, strict=True)
    ],
}
AUDIT = """
for file in *.py; do
  case $file in test_*) continue;; esac
  test -f "test_$file" || untested=$file
done
if test -n "$untested"; then
  printf '{"verdict": "needs-revision", "counts": {"blocking": 1}, "comments":'
  printf ' [{"file": "%s", "line": 1, "text": "has no test"}]}' "$untested"
else
  echo '{"verdict": "accept"}'
fi
"""


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    made = Swarm(source=False)
    made.source = True  # its own, as one that a person is in the middle of work in
    make_lived_in(made.repository)
    prompt = resources.files("swarm").joinpath("roles/builder.md").read_text()
    (made.places.roles / "builds.md").write_text(prompt)
    for role, cli in BUILDERS.items():
        (made.places.roles / f"{role}.yaml").write_text(
            f"{role_of(cli)}prompt_file: builds.md\nbypass_permissions: true\n"
        )
    for role in ("planner", "auditor"):
        (made.places.roles / f"{role}.yaml").write_text("runtime: claude\n")
    yield made
    made.close()


def model(asked: Asked) -> Move:
    """What each of them does, told apart by the role it is given and the task it gets."""
    who = re.search(r"<role>\s+You are an? (\w+):", asked.prompt)
    match who[1] if who else "":
        case "planner":
            return plans(asked)
        case "auditor":
            return audits(asked)
        case "builder":
            return builds(asked)
        case _:
            return "Nobody asked me for anything."


def plans(asked: Asked) -> Move:
    where = re.search(r"Write the plan to (\S+),", asked.prompt)
    if where is None or GOAL not in asked.prompt:
        return "I was told neither the goal nor where a plan is wanted."
    text = shlex.quote(json.dumps(PLAN, indent=1))
    if not asked.outputs:
        return Shell(f"printf '%s\\n' {text} > {where[1]}")
    return "The plan has three tasks; the third comes after the others."


def audits(asked: Asked) -> Move:
    """Judges what is checked out: no module without its test."""
    where = re.search(r"Write your verdict to (\S+),", asked.prompt)
    if where is None:
        return "I was not told where a verdict is wanted."
    if not asked.outputs:
        return Shell(f"({AUDIT}) > {where[1]}")
    return "I looked at every module and at its test."


def builds(asked: Asked) -> Move:
    """Writes a module and its test; the test of ``hello`` only when somebody has asked for it."""
    wanted = re.search(r"<task [^>]*>\s+Write the module (\w+)\.", asked.prompt)
    if wanted is None:
        return "There is no such module."
    key = wanted[1]
    if asked.outputs:
        return f"Wrote {key}.py, and ran the tests."
    test = (
        f"import unittest\nfrom {key} import {key}\n\n\nclass Test(unittest.TestCase):\n"
        f"    def test_it(self):\n        self.assertEqual({key}(), {RETURNS[key]!r})\n"
    )
    files = {f"{key}.py": MODULES[key], f"test_{key}.py": test}
    if key == "hello":
        told = "hello.py:1: has no test" in asked.prompt
        files = {"test_hello.py": test} if told else {"hello.py": MODULES["hello"]}
    written = [f"printf %s {shlex.quote(text)} > {name}" for name, text in files.items()]
    return Shell(
        "\n".join([
            "set -e",
            *written,
            f"git add {' '.join(files)}",
            "python3 -B -m unittest -q",
            f"git commit -qm 'Add {' and '.join(files)}'",
        ])
    )  # fmt: skip


def test_a_goal_is_planned_built_reviewed_revised_and_landed_by_real_clis(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = ("planner", *BUILDERS, "auditor")
    swarm.configure(
        agents=[{"role": role, "count": 1} for role in roles],
        repo={"merge": "squash", "review": "agent", "checks": ["python3 -m unittest -q"]},
    )
    before = fingerprint(swarm.repository)
    with real_clis(swarm, monkeypatch, ("claude", "codex", "opencode"), model) as provider:
        swarm.up()
        made = swarm.must("plan", "make", GOAL, "--apply", "--yes", within=200)
        plan = made.split()[-1]
        ended = swarm.agentctl("plan", "wait", plan, within=300)
        assert ended.returncode == 0, f"{ended.stderr}{swarm.log_tail()}"
        conversations = provider.conversations()
        swarm.must("swarm", "stop")
        swarm.gone()

    with open_ledger(swarm.places.ledger) as ledger:
        tasks = {task.plan_key: task for task in ledger.plan_tasks(plan)}
        verdicts = {
            key: [one.verdict for one in ledger.remarks(task.id) if one.kind is RemarkKind.REVIEW]
            for key, task in tasks.items()
        }
        everything = ledger.tasks()
    assert {(task.state, task.result) for task in tasks.values()} == {
        (TaskState.DONE, TaskResult.MERGED)
    }
    assert verdicts == {
        "greeting": ["accept"],
        "name": ["accept"],
        "hello": ["needs-revision", "accept"],
    }
    kinds = [task.kind for task in everything if task.state is TaskState.DONE]
    assert sorted(kinds) == sorted([TaskKind.PLAN, *[TaskKind.WORK] * 3, *[TaskKind.REVIEW] * 4])
    landed_in_line(swarm, tasks)
    revised_in_its_own_session(swarm, tasks["hello"], conversations)
    for task in everything:
        costs(swarm, task)
    assert changes(before, swarm.repository) == []


def landed_in_line(swarm: Swarm, tasks: dict[str, Task]) -> None:
    """One commit a task, each green, the child's last; published as they are."""
    hub = swarm.hub()
    log = git(hub, "log", "--reverse", "--format=%H %P", "main").splitlines()
    assert [line.split()[1:] for line in log[1:]] == [[line.split()[0]] for line in log[:-1]]
    landed = [line.split()[0] for line in log[-3:]]
    assert log[-4].split()[0] == swarm.git("rev-parse", "main")
    assert landed[-1] == tasks["hello"].landed == swarm.git("rev-parse", "swarm/main")
    assert set(landed) == {task.landed for task in tasks.values()}
    assert all(task.approved == task.tip for task in tasks.values())
    for commit in landed:
        where = swarm.root / "trees" / commit
        where.mkdir(parents=True)
        tree = subprocess.run(["git", f"--git-dir={hub}", "archive", commit], capture_output=True)
        subprocess.run(["tar", "-x", "-C", str(where)], input=tree.stdout, check=True)
        suite = [sys.executable, "-B", "-m", "unittest", "-q"]
        ran = subprocess.run(suite, cwd=where, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr


def revised_in_its_own_session(swarm: Swarm, task: Task, heard: list[Asked]) -> None:
    """The reviewer's comment reached the conversation in which the commit was made."""
    first, second = swarm.attempts(task.id)
    assert first.session_id == second.session_id
    assert (task.revisions, second.base) == (1, first.tip)
    whole = [one for one in heard if one.tools and len(one.prompts) > 1]
    assert len(whole) == 2  # the command, and the words
    for one in whole:
        was_told, is_told = one.prompts
        assert "Write the module hello." in was_told
        assert "<feedback>" not in was_told
        assert "hello.py:1: has no test" in is_told


def costs(swarm: Swarm, task: Task) -> None:
    """Each attempt's own tokens are known, and its cost where the CLI can tell."""
    for attempt in swarm.attempts(task.id):
        used = (attempt.usage.input_tokens, attempt.usage.output_tokens)
        assert used == (2 * INPUT_TOKENS, 2 * OUTPUT_TOKENS), (task.title, attempt.n)
        priced = BUILDERS.get(task.role, "claude") == "claude"
        assert bool(attempt.cost_usd) is priced

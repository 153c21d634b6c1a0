"""Real CLIs and those they work for: a session asks a person, and an agent hands work in."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from real_cli_world import real_clis, role_of
from standin_script import Asked, Call, Move, Shell
from swarm_support import Swarm

from swarm.core.model import TaskResult, TaskState
from swarm.ledger import open_ledger

pytestmark = [pytest.mark.real_cli, pytest.mark.slow, pytest.mark.timeout(300)]

QUESTION = "Which colour: red or blue?"
ANSWER = "Blue, as on the start page"
CLAUDE_WAITS = "WaitForMcpServers"
"""Offered where an MCP server was not there when the session began."""


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    made = Swarm()
    yield made
    made.close()


def asks(asked: Asked) -> Move:
    """Asks which colour, and writes down the one it is told."""
    where = re.search(r"Write the question to (\S+); stop", asked.prompt)
    if where is None:
        return "Nobody says where to put a question."
    answered = QUESTION in asked.prompt and ANSWER in asked.prompt
    if asked.outputs:
        return "Blue it is." if answered else "I cannot go on without a decision."
    if not answered:
        return Shell(f"echo '{QUESTION}' > {where[1]}")
    return Shell(
        f"test ! -e {where[1]} && echo blue > colour.txt"
        " && git add colour.txt && git commit -qm 'Choose blue'"
    )


@pytest.mark.parametrize("cli", ["claude", "codex"])
def test_a_question_is_answered_in_the_session_that_asked_it(
    cli: str, swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm.configure(repo={"merge": "squash"})
    (swarm.places.roles / "builder.yaml").write_text(role_of(cli))
    with real_clis(swarm, monkeypatch, [cli], asks) as provider:
        swarm.up("-n", "2")  # the answer finds its way to the one that asked
        task = swarm.add("paint it")
        assert swarm.agentctl("task", "wait", task, within=200).returncode == 3
        asked = swarm.task(task)
        assert (asked.state, asked.reason) == (TaskState.NEEDS_HUMAN, QUESTION)
        swarm.must("task", "answer", task, ANSWER)
        swarm.must("task", "wait", task, within=200)
        conversations = [one for one in provider.conversations() if one.tools]
    done = swarm.task(task)
    assert (done.state, done.result) == (TaskState.DONE, TaskResult.MERGED)
    assert swarm.git("show", "swarm/main:colour.txt") == "blue"
    first, second = swarm.attempts(task)
    assert (first.session_id, first.agent) == (second.session_id, second.agent)
    assert first.usage == second.usage, "each is told its own alone"
    for one in conversations[-2:]:
        was_told, is_told = one.prompts
        assert "paint it" in was_told
        assert QUESTION not in was_told
        assert QUESTION in is_told
        assert ANSWER in is_told


def delegates(asked: Asked) -> Move:
    """Hands a task to the fleet, waits for it, takes one of those meant for outsiders, answers."""
    if "You are a builder" in asked.prompt:
        return "It is seven."
    if CLAUDE_WAITS in asked.tools and not asked.outputs:
        return Call(CLAUDE_WAITS, {})  # what a model does that was told that a server still starts
    told = [json.loads(text[text.index("{") :]) for text in asked.outputs if '"version"' in text]
    answers = [one["task"]["answer"] for one in told if one.get("ended")]
    if not told:
        return desk("submit_task", prompt="how many days has a week?", title="days")
    if not answers:
        return desk("wait_task", id=told[0]["id"], seconds=60)
    if "ended" in told[-1]:
        return desk("claim_task", lane="outside")
    if lease := told[-1].get("lease"):
        return desk("respond_task", id=lease["id"], fence=lease["fence"], text=answers[0])
    return f"The fleet said: {answers[0]}"


def desk(tool: str, **arguments: object) -> Call:
    return Call(f"mcp__agentctl__{tool}", arguments)


def person(cli: str, swarm: Swarm) -> list[str]:
    """Have the desk among the CLI's MCP servers, as our help says; how the CLI is then run."""
    program = shutil.which(cli)
    assert program is not None
    served = ["--", sys.executable, "-P", "-m", "swarm.cli", "mcp", "--as", "ada"]
    home = f"AGENTCTL_HOME={swarm.places.home}"
    if cli == "claude":
        add = [program, "mcp", "add", "agentctl", "-e", home, *served]
        run = [program, "-p", "--allowedTools", "mcp__agentctl", "--"]
    else:
        add = [program, "mcp", "add", "agentctl", "--env", home, *served]
        # Else it begins without what is not there within a second.
        must = "mcp_servers.agentctl.required=true"
        run = [program, "exec", "-c", must, "--skip-git-repo-check", "--"]
    subprocess.run(add, cwd=swarm.root, capture_output=True, check=True, timeout=60)
    return run


@pytest.mark.parametrize("cli", ["claude", "codex"])
def test_an_agent_outside_the_fleet_hands_it_work_and_takes_some(
    cli: str, swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (swarm.places.roles / "builder.yaml").write_text(role_of(cli))
    with real_clis(swarm, monkeypatch, [cli], delegates):
        swarm.up("-n", "1")
        outside = swarm.add("how long is a week?", "builder", "--lane", "outside")
        ran = subprocess.run(
            [*person(cli, swarm), "Let the fleet find out how many days a week has."],
            cwd=swarm.root,
            env=swarm.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert (ran.returncode, ran.stdout.strip()) == (0, "The fleet said: It is seven."), ran.stderr
    answered = swarm.task(outside)
    with open_ledger(swarm.places.ledger) as ledger:
        (inside,) = [task for task in ledger.tasks() if task.id != outside]
    assert (inside.title, inside.agent) == ("days", "swarm-builder-001")
    assert answered.agent == "@ada"
    for task in (inside, answered):
        assert (task.state, task.answer) == (TaskState.DONE, "It is seven.")

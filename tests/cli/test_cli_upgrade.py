"""``agentctl swarm upgrade`` against a stand-in: what it says, and when it believes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cli_fake import STATUS, FakeSupervisor, Ran

from swarm.cli import upgrade
from swarm.wire import control

Cli = Callable[..., Ran]
DONE = control.Done(data={"generation": 4, "agents": 20, "sessions": 1, "after": "0.2.0"})


def shows(supervisor: FakeSupervisor, generation: int, version: str) -> Callable[[], None]:
    """From when it is called, the status is that of this program."""
    facts = {"pid": 4242, "generation": generation, "version": version}

    def show() -> None:
        supervisor.replies[control.Status] = [control.Done(data={**STATUS, "swarm": facts})]

    return show


@pytest.fixture
def running(supervisor: FakeSupervisor) -> FakeSupervisor:
    shows(supervisor, 3, "0.1.0")()
    supervisor.replies[control.Upgrade] = [control.Progress("trying the installed program"), DONE]
    supervisor.on[control.Upgrade] = shows(supervisor, 4, "0.2.0")
    return supervisor


def test_it_says_what_went_on(running: FakeSupervisor, cli: Cli) -> None:
    ran = cli("swarm", "upgrade")
    told = "upgraded 0.1.0 → 0.2.0: 20 agents and 1 session went on, pid 4242\n"
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "trying the installed program\n" + told
    assert control.Upgrade() in running.heard


def test_a_lost_answer_is_no_lost_upgrade(running: FakeSupervisor, cli: Cli) -> None:
    running.replies[control.Upgrade] = []
    ran = cli("swarm", "upgrade")
    assert (ran.code, ran.out) == (0, "upgraded 0.1.0 → 0.2.0, pid 4242\n")


def test_a_refusal_is_told(running: FakeSupervisor, cli: Cli) -> None:
    running.replies[control.Upgrade] = [control.Refused("it does not start", "mend it")]
    ran = cli("swarm", "upgrade")
    assert (ran.code, ran.err) == (1, "agentctl: it does not start; mend it\n")


def test_a_program_that_never_shows_is_a_failure(
    running: FakeSupervisor, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "ARRIVAL", 0.2)
    running.on[control.Upgrade] = lambda: None
    ran = cli("swarm", "upgrade")
    assert ran.code == 1
    assert "has not answered within 0.2 s" in ran.err


def test_a_swarm_that_ends_of_it_is_a_failure(running: FakeSupervisor, cli: Cli) -> None:
    running.replies[control.Upgrade] = []
    running.on[control.Upgrade] = running.unlock
    ran = cli("swarm", "upgrade")
    assert ran.code == 1
    assert "the swarm ended while it was upgraded" in ran.err
    assert "agentctl swarm up" in ran.err

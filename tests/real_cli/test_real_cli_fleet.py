"""A whole fleet of real agent CLIs against the stand-in provider: no model, no cost."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from real_cli_world import real_clis, role_of
from swarm_support import Swarm

CLIS = ("claude", "codex", "opencode")


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    made = Swarm()
    yield made
    made.close()


@pytest.mark.real_cli
@pytest.mark.timeout(400)
@pytest.mark.parametrize("cli", CLIS)
def test_three_tasks_run_by_a_real_cli_end_as_commits(
    cli: str, swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with real_clis(swarm, monkeypatch, [cli]):
        (swarm.places.roles / "builder.yaml").write_text(role_of(cli))
        swarm.up("-n", "3")
        tasks = [swarm.add(f"make the file, number {n}") for n in range(3)]
        waited = swarm.agentctl("task", "wait", *tasks, within=300)
        shown = [json.loads(swarm.must("task", "show", task, "--json")) for task in tasks]
        assert waited.returncode == 0, f"{waited.stdout}{waited.stderr}{shown}"
        for one in shown:
            assert one["state"] == "done"
            assert len(one["commits"]) >= 1
            (attempt,) = one["attempts"]
            assert attempt["usage"]["input_tokens"] > 0
            assert attempt["usage"]["output_tokens"] > 0
            assert attempt["session_id"]
            if cli == "claude":
                assert attempt["cost_usd"] > 0
            assert "made by the session" in swarm.git(
                "show", f"{one['branch']}:made.txt", cwd=swarm.hub()
            )
        swarm.must("swarm", "stop")
        swarm.gone()

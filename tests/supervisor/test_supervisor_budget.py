"""Budgets from the files to the fleet and the coordinator, and from the ledger to the fleet."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from swarm.config.places import Places
from swarm.core import fleet_events as e
from swarm.core.budget import Amount, RoleBudget, Tally
from swarm.core.model import Usage
from swarm.core.plan import Applies, applies_to
from swarm.errors import ConfigError
from swarm.ledger import NewTask, open_ledger
from swarm.supervisor import handover
from swarm.supervisor.books import Books
from swarm.supervisor.configuration import Configuration, Overrides
from swarm.supervisor.lines import event_of
from swarm.supervisor.specs import Specs
from swarm.supervisor.spending import read_spending
from swarm.wire.lifeline import RoleRules, Spent

CONFIG = """\
agents: [{role: builder, count: 1}, {role: qa, count: 1}]
limits: {token_budget: 1000, usd_budget: 9.5, budget_window: day, warn_at: 0.5, task_usd_budget: 2}
"""
BUILDER = """\
runtime: scripted
limits: {token_budget: 300, task_token_budget: 70, task_usd_budget: 1.5}
estimate: {tokens: 40, usd: 0.25}
"""


@pytest.fixture
def places(home: Path) -> Places:
    made = Places(home)
    made.roles.mkdir()
    made.config.write_text(CONFIG)
    (made.roles / "builder.yaml").write_text(BUILDER)
    (made.roles / "qa.yaml").write_text("runtime: scripted\n")
    return made


def configuration(places: Places) -> Configuration:
    return Configuration.read(places, None, Overrides())


def test_the_fleet_gets_the_swarms_budget_and_each_roles(places: Places) -> None:
    fleet = configuration(places).fleet()
    assert (fleet.budget, fleet.budget_daily, fleet.warn_at) == (Amount(1000, 9.5), True, 0.5)
    assert fleet.budgets == {
        "builder": RoleBudget(Amount(300), Amount(40, 0.25)),
        "qa": RoleBudget(),
    }


def test_the_coordinator_gets_what_a_task_may_spend_and_what_a_session_is_taken_for(
    places: Places,
) -> None:
    specs = Specs(places, "h" * 16, configuration(places), {}, "c" * 16, "d" * 16)
    ours = {"labels": {"runtime": ("scripted",)}, "max_processes": 2000}
    assert specs.rules().roles == {
        "": RoleRules(task_usd_budget=2.0, max_processes=2000),
        "builder": RoleRules(70, 1.5, 40, 0.25, **ours),
        "qa": RoleRules(task_usd_budget=2.0, **ours),
    }


def test_the_coordinator_gets_what_a_check_may_use_as_a_session_may(places: Places) -> None:
    (places.roles / "builder.yaml").write_text(
        "runtime: scripted\nlimits: {memory_mb: 64, max_processes: 20, cpu_percent: 50}\n"
    )
    specs = Specs(places, "h" * 16, configuration(places), {}, "c" * 16, "d" * 16)
    specs.cgroups = {"memory": "/sys/fs/cgroup/x"}
    rules = specs.rules()
    its = rules.roles["builder"]
    assert (its.memory_mb, its.max_processes, its.cpu_percent) == (64, 20, 50)
    assert rules.landing.cgroups == specs.cgroups


def test_budgets_and_estimates_count_at_once_on_reload(places: Places) -> None:
    before = configuration(places)
    (places.roles / "builder.yaml").write_text(BUILDER.replace("tokens: 40", "tokens: 50"))
    places.config.write_text(CONFIG.replace("9.5", "20"))
    new, plan = before.reread()
    assert [(one.path, one.applies) for one in plan.changes] == [
        ("limits.usd_budget", Applies.LIVE),
        ("roles.builder.estimate.tokens", Applies.LIVE),
    ]
    assert new.fleet().budgets["builder"].estimate == Amount(50, 0.25)
    assert applies_to("roles.builder.limits.token_budget") is Applies.LIVE


@pytest.mark.parametrize(
    "limits",
    [
        *("{token_budget: -1}", "{token_budget: 1.5}", "{usd_budget: .nan}", "{usd_budget: .inf}"),
        *("{usd_budget: -0.5}", "{task_token_budget: lots}", "{task_usd_budget: 1.0e99}"),
        *("{warn_at: 1.5}", "{budget_window: week}"),
    ],
)
def test_what_cannot_be_a_budget_is_a_problem_with_its_line(places: Places, limits: str) -> None:
    places.config.write_text(f"version: 1\nlimits: {limits}\n")
    with pytest.raises(ConfigError) as caught:
        configuration(places)
    (problem,) = caught.value.problems
    assert ":2: limits." in problem


def test_what_cannot_be_an_estimate_is_a_problem_of_its_role(places: Places) -> None:
    (places.roles / "builder.yaml").write_text("runtime: scripted\nestimate: {tokens: -4}\n")
    with pytest.raises(ConfigError, match=r"estimate\.tokens"):
        configuration(places)


# -- what is heard and read


def test_a_daemons_word_is_heard_as_an_amount() -> None:
    line = Spent(task="t-1", fence=2, usage=Usage(10, 5, 900, 9), cost_usd=0.5)
    event = event_of("swarm-builder-001", line, daemon=True)
    assert isinstance(event, e.SessionSpent)
    assert event.amount == Amount(15, 0.5), "what a cache gave is not counted"
    silent = event_of("swarm-builder-001", Spent(task="t-1", fence=2, usage=Usage()), daemon=True)
    assert isinstance(silent, e.SessionSpent)
    assert silent.amount == Amount()


def shell_of(places: Places, posted: list[Any], logged: list[str]) -> Any:
    tally = Tally().heard(("t-x", 1), "swarm-builder-001", Amount(5))
    return SimpleNamespace(
        specs=SimpleNamespace(configuration=configuration(places)),
        books=Books(places),
        fleet=SimpleNamespace(tally=tally),
        log=SimpleNamespace(write=lambda kind, error: logged.append(error)),
        post=posted.append,
    )


def test_the_ledgers_totals_are_read_for_the_configured_window(places: Places) -> None:
    with open_ledger(places.ledger) as ledger:
        task = ledger.submit(NewTask("x"))
        claimed = ledger.claim(task, "swarm-builder-001", "a" * 16, 90.0)
        assert claimed is not None
        ledger.begin(task, claimed.fence, "swarm-builder-001", 1.0, Amount(40, 0.25))
    posted: list[Any] = []
    read_spending(shell_of(places, posted, []))
    (event,) = posted
    assert event.reading.agents == {"swarm-builder-001": Amount(40, 0.25)}
    assert event.reading.day > 19_000
    assert 0 < event.reading.resets_in <= 86_400
    assert event.reading.sessions == {}


def test_a_ledger_that_cannot_be_read_is_told_and_changes_nothing(places: Places) -> None:
    places.ledger.write_text("this is no database at all, it is a note\n" * 50)
    posted: list[Any] = []
    logged: list[str] = []
    read_spending(shell_of(places, posted, logged))
    assert posted == []
    assert "is not a ledger" in logged[0]


def test_a_tally_is_handed_over_as_it_is() -> None:
    tally = Tally().opened(("t-1", 1), "swarm-builder-001", Amount(4, 0.5), Amount(9))
    tally = tally.heard(("t-1", 1), "swarm-builder-001", Amount(3)).ended(
        ("t-2", 1), "swarm-builder-002", Amount(8, 1.0)
    )
    codec = handover._CODEC
    text = msgspec.json.encode(codec.encode(tally))
    assert codec.decode(msgspec.json.decode(text)) == tally

"""Budgets on the command line: what may be given, what is shown, and why a task waits."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import pytest
from cli_fake import STATUS, FakeSupervisor, Ran

from swarm.cli import task_wait
from swarm.cli.agent import describe
from swarm.cli.fleet_view import budget_text, page
from swarm.config.places import Places
from swarm.core.budget import NOTHING, Amount
from swarm.core.model import Outcome, Usage
from swarm.desk.verbs import Desk
from swarm.ledger import Ledger, NewTask, open_ledger
from swarm.wire.lifeline import Finished

Cli = Callable[..., Ran]
AGENT = "swarm-builder-001"


@pytest.fixture
def ledger(places: Places) -> Iterator[Ledger]:
    with open_ledger(places.ledger) as opened:
        yield opened


def attempt(
    ledger: Ledger, task: str, usage: Usage, cost: float | None, estimate: Amount = NOTHING
) -> None:
    claimed = ledger.claim(task, AGENT, "a" * 16, 90.0)
    assert claimed is not None
    ledger.begin(task, claimed.fence, AGENT, 1.0, estimate)
    over = Finished(task, claimed.fence, Outcome.OVER_BUDGET, usage=usage, cost_usd=cost)
    ledger.finish(over, AGENT)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (("--token-budget", "50000"), Amount(50_000)),
        (("--token-budget", "50_000"), Amount(50_000)),
        (("--token-budget", "50k"), Amount(50_000)),
        (("--token-budget", "2M", "--usd-budget", "$1.50"), Amount(2_000_000, 1.5)),
        (("--usd-budget", "0.25"), Amount(None, 0.25)),
        ((), NOTHING),
    ],
)
def test_what_is_given_is_kept(
    cli: Cli, ledger: Ledger, given: tuple[str, ...], kept: Amount
) -> None:
    ran = cli("task", "add", *given, "do it")
    assert ran.code == 0, ran.err
    (task,) = ledger.tasks()
    assert task.budget == kept


@pytest.mark.parametrize(
    "tokens", ["-1", "0", "nan", "1.5", "12x", "k", "", "9" * 30, "٣", "2000000M"]
)
def test_what_is_no_number_of_tokens_is_refused(cli: Cli, ledger: Ledger, tokens: str) -> None:
    ran = cli("task", "add", f"--token-budget={tokens}", "do it")
    assert ran.code == 2
    assert ran.err.startswith("agentctl: ")
    assert ran.err.count("\n") == 1
    assert "token" in ran.err
    assert not ledger.tasks()


@pytest.mark.parametrize("usd", ["-1", "0", "nan", "inf", "-inf", "1e99", "two", "", "$", "1e-9"])
def test_what_is_no_sum_of_dollars_is_refused(cli: Cli, ledger: Ledger, usd: str) -> None:
    ran = cli("task", "add", f"--usd-budget={usd}", "do it")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "dollars" in ran.err
    assert not ledger.tasks()


def test_show_says_what_is_left_and_what_is_only_estimated(cli: Cli, ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x", budget=Amount(500, 2.0)))
    assert "0 of 500 tokens spent, 500 left" in cli("task", "show", task).out
    attempt(ledger, task, Usage(100, 20), None, Amount(80, 0.5))
    out = cli("task", "show", task).out
    assert "120 of 500 tokens spent, 380 left; $0.5000 of $2.00 spent, $1.5000 left" in out
    assert "? (counts as $0.5)" in out
    told = json.loads(cli("task", "show", task, "--json").out)
    assert told["budget"]["tokens"] == {"limit": 500, "spent": 120, "left": 380}
    assert told["attempts"][0]["cost_usd"] is None
    assert told["attempts"][0]["usage_estimated"] is True


def test_show_knows_the_budget_of_the_role(cli: Cli, ledger: Ledger, places: Places) -> None:
    places.config.write_text("limits: {task_token_budget: 900, task_usd_budget: 3}\n")
    places.roles.mkdir()
    (places.roles / "qa.yaml").write_text("limits: {task_token_budget: 700}\n")
    plain, other = ledger.submit(NewTask("x")), ledger.submit(NewTask("x", role="qa"))
    for task, tokens in ((plain, 900), (other, 700)):
        told = json.loads(cli("task", "show", task, "--json").out)["budget"]
        assert (told["tokens"]["limit"], told["usd"]["limit"]) == (tokens, 3.0)
    places.config.write_text("limits: {nonsense: 1}\n")
    assert cli("task", "show", plain).code == 0


def test_a_retry_with_a_new_budget(cli: Cli, ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x", budget=Amount(100)))
    attempt(ledger, task, Usage(120, None), None)
    refused = cli("task", "retry", task)
    assert refused.code == 2
    assert "120 of 100" in refused.err
    assert "--token-budget" in refused.err
    assert cli("task", "retry", task, "--token-budget", "1k").code == 0
    found = ledger.task(task)
    assert found is not None
    assert found.budget == Amount(1000)


# -- why a task waits


def test_every_command_says_that_a_task_waits_for_a_budget(
    cli: Cli, supervisor: FakeSupervisor, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swarm.cli import task_show

    monkeypatch.setattr(task_show, "is_locked", lambda _places: True)
    task = ledger.submit(NewTask("x"))
    said = "the token budget is spent: 120 of 100"
    ledger.note("gate", said)
    assert f"reason    {said}" in cli("task", "show", task).out
    assert json.loads(cli("task", "show", task, "--json").out)["reason"] == said
    assert said in cli("task", "list").out
    assert said in cli("task", "wait", task, "--timeout", "0.05").out


def test_without_a_swarm_a_gate_that_was_left_closed_says_nothing(cli: Cli, ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    ledger.note("gate", "the token budget is spent: 120 of 100")
    assert "no swarm is running" in cli("task", "show", task).out
    assert "no swarm is running" in cli("task", "list").out


def test_wait_tells_a_reason_as_it_comes_and_not_each_of_its_numbers(
    places: Places, ledger: Ledger, supervisor: FakeSupervisor
) -> None:
    task = ledger.submit(NewTask("x"))
    told: list[str] = []
    heard = threading.Semaphore(0)

    def tell(found: task_wait.Seen) -> None:
        told.append(found.task.reason)
        heard.release()

    def change() -> None:
        with open_ledger(places.ledger) as other:
            assert heard.acquire(timeout=10)
            for spent in range(100, 105):
                other.note("gate", f"the token budget is spent: {spent} of 100")
            assert heard.acquire(timeout=10)
            other.note("gate", "")
            other.cancel(task)

    worker = threading.Thread(target=change)
    worker.start()
    task_wait.watch(Desk(places, ledger, lambda: None), [task], 20, False, tell)
    worker.join()
    assert [told[0], told[-1]] == ["", "cancelled"]
    assert len(told) == 3
    assert told[1].startswith("the token budget is spent: ")


# -- the status page


BUDGET = {
    "window": "day",
    "resets_at": "2026-11-21T00:00:00Z",
    "tokens": {"limit": 1000, "spent": 820, "share": 0.82},
    "usd": {"limit": 5.0, "spent": None, "share": None},
    "warning": "82% of the swarm's token budget is spent: 820 of 1,000",
}


def test_the_status_page_shows_the_budget() -> None:
    text = str(page({**STATUS, "budget": BUDGET}, False, terminal=False))
    (line,) = [line for line in text.splitlines() if line.startswith("budget")]
    assert line == (
        "budget  820 tokens of 1,000 tokens (82%), unknown of $5.00 spent today, "
        "anew at 2026-11-21 00:00:00 UTC; 82% of the swarm's token budget is spent: 820 of 1,000"
    )


def test_without_a_limit_there_is_nothing_to_show() -> None:
    none = {"limit": None, "spent": 7, "share": None}
    budget = {"window": "total", "resets_at": None, "tokens": none, "usd": none, "warning": None}
    assert budget_text(budget) == ""
    assert "budget " not in str(page({**STATUS, "budget": budget}, False, terminal=False))
    assert describe({"budget": budget}) == ["budget  none of its own"]
    assert describe({"budget": BUDGET})[0].startswith("budget  820 tokens of 1,000 tokens (82%)")

"""Budgets in the fleet machine: what ends, what waits, what is told, and when it goes on."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from fleet_plays import OUR_COORDINATOR, A, B, C, Play, Report, Work, session
from mutants import mutant

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core import journal
from swarm.core.budget import NOTHING, Amount, Booked, Reading, RoleBudget
from swarm.core.fleet_budget import standing
from swarm.core.model import Outcome, Usage


def spend(play: Play, name: str, task: str, tokens: int | None, usd: float | None = None) -> None:
    """The daemon says what its session used so far."""
    play.do(e.SessionSpent(name, task, 1, object(), Amount(tokens, usd)))


def end(play: Play, name: str, task: str, tokens: int | None = None, **more: Any) -> None:
    """The session ends with its report, and the daemon is idle again."""
    play.do(e.SessionEnded(name, Report(task, 1, usage=Usage(tokens, None), **more)))
    play.do(e.DaemonIdle(name))


def told_slots(play: Play) -> tuple[int, str]:
    last = play.of(fx.TellSlots)[-1]
    return last.free, last.reason


def fact(play: Play, name: str) -> e.Fact:
    """What the coordinator was last told of an agent."""
    told = [one.fact for one in play.of(fx.TellAgent) if one.fact.name == name]
    found: e.Fact = told[-1]
    return found


def reload(play: Play, **changes: Any) -> None:
    play.do(e.Reloaded(1, replace(play.fleet.settings, **changes)))


# -- the swarm's


def test_the_word_that_crosses_the_limit_ends_every_session_and_closes_the_gate() -> None:
    play = Play(token_budget=100).up()
    play.activate(A, "t-1")
    play.activate(B, "t-2")
    spend(play, A, "t-1", 40)
    spend(play, B, "t-2", 59)
    assert not play.of(fx.TellEndSession)
    effects = play.do(e.SessionSpent(B, "t-2", 1, object(), Amount(60)))
    ended = play.of(fx.TellEndSession, effects)
    assert [(one.name, one.outcome) for one in ended] == [
        (A, Outcome.OVER_BUDGET),
        (B, Outcome.OVER_BUDGET),
    ]
    assert ended[0].reason == "the token budget is spent: 100 of 100"
    assert told_slots(play) == (0, "the token budget is spent: 100 of 100")
    spend(play, A, "t-1", 50)
    assert len(play.of(fx.TellEndSession)) == 2, "told once"


def test_what_was_granted_and_has_not_started_ends_too() -> None:
    play = Play(usd_budget=1.0).up()
    play.activate(A, "t-1")
    play.assign(B, "t-2")
    play.ask(B, "t-2")
    spend(play, A, "t-1", None, 1.5)
    assert {one.name for one in play.of(fx.TellEndSession)} == {A, B}


def test_a_report_that_spends_it_closes_the_gate_before_anybody_else_can_start() -> None:
    """Quick tasks say what they used only when they end."""
    play = Play(token_budget=100).up()
    play.activate(A, "t-1")
    end(play, A, "t-1", 100)
    play.assign(A, "t-2")
    play.ask(A, "t-2")
    (denied,) = play.of(fx.Deny)
    assert denied.reason == "the token budget is spent: 100 of 100"
    assert denied.retry_after <= 1, "a raised budget must not wait for this"


def test_a_burst_overspends_by_no_more_than_what_was_running() -> None:
    random_ = random.Random(5)
    for _round in range(20):
        limit, cost, most = 1000, random_.randrange(30, 400), random_.randrange(1, 4)
        play = Play({"builder": 3}, token_budget=limit, max_active=most).up()
        spent, running, task = 0, {}, 0
        for _step in range(200):
            idle = [name for name in (A, B, C) if name not in running]
            if idle and random_.random() < 0.6:
                task += 1
                name, before = idle[0], len(play.of(fx.Grant))
                play.assign(name, f"t-{task}")
                play.ask(name, f"t-{task}")
                if len(play.of(fx.Grant)) > before:
                    play.do(e.SessionStarted(name, f"t-{task}", 1, session()))
                    running[name] = f"t-{task}"
            elif running:
                name = random_.choice(sorted(running))
                spent += cost
                end(play, name, running.pop(name), cost)
        assert limit <= spent < limit + most * cost


def test_a_raised_budget_opens_the_gate_at_once_and_the_next_crossing_counts_again() -> None:
    play = Play(token_budget=100).up()
    play.activate(A, "t-1")
    spend(play, A, "t-1", 100)
    end(play, A, "t-1", 100)
    reload(play, token_budget=200)
    assert told_slots(play) == (5, "")
    play.activate(A, "t-2")
    assert len(play.of(fx.TellEndSession)) == 1
    spend(play, A, "t-2", 100)
    assert len(play.of(fx.TellEndSession)) == 2


def test_a_lowered_budget_ends_what_runs_beyond_it() -> None:
    play = Play().up()
    play.activate(A, "t-1")
    spend(play, A, "t-1", 100)
    reload(play, token_budget=50)
    assert [one.name for one in play.of(fx.TellEndSession)] == [A]


def test_the_ledgers_word_after_a_restart_closes_the_gate_before_the_first_session() -> None:
    play = Play(token_budget=100).up()
    play.do(e.SpendingIs(Reading({"swarm-builder-009": Amount(150)})))
    play.assign(A, "t-1")
    play.ask(A, "t-1")
    assert play.of(fx.Deny)
    assert told_slots(play)[0] == 0


# -- a day


def of_today(tokens: int, resets_in: float, day: int = 100) -> e.SpendingIs:
    return e.SpendingIs(Reading({A: Amount(tokens)}, {}, day, resets_in))


def test_midnight_opens_the_gate_without_any_reading() -> None:
    play = Play(token_budget=100, budget_daily=True).up()
    play.do(of_today(100, 3600.0))
    assert told_slots(play) == (0, "the token budget is spent: 100 of 100")
    deadline = play.fleet.deadline()
    assert deadline is not None
    assert deadline <= play.now + 3600.0
    play.do(e.Tick(), later=3599.0)
    assert told_slots(play)[0] == 0
    play.do(e.Tick(), later=1.5)
    assert told_slots(play) == (5, "")
    assert play.fleet.spending_resets_at is None


def test_a_session_that_runs_over_midnight_pays_from_the_new_day_what_it_uses_then() -> None:
    play = Play(token_budget=100, budget_daily=True).up()
    play.activate(A, "t-1")
    play.do(of_today(10, 60.0))
    spend(play, A, "t-1", 80)
    play.do(e.Tick(), later=61.0)
    spend(play, A, "t-1", 179)
    assert not play.of(fx.TellEndSession)
    spend(play, A, "t-1", 180)
    assert play.of(fx.TellEndSession)


def test_a_reading_of_the_window_before_a_reload_says_nothing() -> None:
    play = Play(token_budget=1000).up()
    play.do(e.SpendingIs(Reading({A: Amount(500)})))
    reload(play, budget_daily=True, token_budget=100)
    assert told_slots(play) == (5, ""), "the 500 are of all time, not of today"
    play.do(e.SpendingIs(Reading({A: Amount(500)})))
    assert told_slots(play) == (5, "")
    play.do(of_today(100, 60.0))
    assert told_slots(play)[0] == 0


# -- an agent's own


OWN = {"builder": RoleBudget(Amount(100))}


def test_an_agents_own_budget_ends_its_session_and_closes_it_only() -> None:
    play = Play(budgets=OWN).up()
    play.activate(A, "t-1")
    play.activate(B, "t-2")
    spend(play, B, "t-2", 99)
    spend(play, A, "t-1", 120)
    (ended,) = play.of(fx.TellEndSession)
    said = f"the token budget of {A} is spent: 120 of 100"
    assert (ended.name, ended.reason, ended.outcome) == (A, said, Outcome.OVER_BUDGET)
    end(play, A, "t-1", 120)
    assert fact(play, A).closed == said
    assert fact(play, B).closed == ""
    assert told_slots(play)[0] > 0
    play.assign(A, "t-3")
    play.ask(A, "t-3")
    assert play.of(fx.Deny)[-1].reason == said
    assert standing(play.fleet, A).warning == said


def test_an_agent_opens_again_with_a_raised_budget_or_a_new_day() -> None:
    for event in ("raise", "midnight"):
        play = Play(budgets=OWN, budget_daily=True).up()
        play.do(of_today(100, 60.0))
        assert fact(play, A).closed
        if event == "raise":
            reload(play, budgets={"builder": RoleBudget(Amount(101))})
        else:
            play.do(e.Tick(), later=61.0)
        assert fact(play, A).closed == "", event


# -- estimates


def test_an_estimate_closes_the_gate_and_ends_nobody() -> None:
    """A runtime that does not say what it uses is taken to use what its role says."""
    estimated = {"builder": RoleBudget(NOTHING, Amount(60))}
    play = Play({"builder": 3}, budgets=estimated, token_budget=100).up()
    play.activate(A, "t-1")
    assert told_slots(play)[0] == 4
    play.activate(B, "t-2")
    assert told_slots(play) == (0, "the token budget is spent: 120 of 100")
    assert not play.of(fx.TellEndSession)
    end(play, A, "t-1")
    assert not play.of(fx.TellEndSession)
    play.do(e.SpendingIs(Reading({A: Amount(60)}, {("t-1", 1): Booked(NOTHING, Amount(60))})))
    assert standing(play.fleet).spent.tokens == 120


def test_a_session_that_never_began_counts_for_nothing() -> None:
    play = Play(budgets={"builder": RoleBudget(NOTHING, Amount(60))}).up()
    play.assign(A, "t-1")
    play.ask(A, "t-1")
    assert play.fleet.spent.tokens == 60
    play.do(e.DaemonIdle(A))
    assert play.fleet.spent.tokens is None
    play.assign(A, "t-2")
    play.ask(A, "t-2")
    end(play, A, "t-2", outcome=Outcome.FAILED)
    assert play.fleet.spent.tokens is None


def test_a_dead_daemons_session_counts() -> None:
    play = Play(token_budget=100, budgets={"builder": RoleBudget(NOTHING, Amount(60))}).up()
    play.activate(A, "t-1")
    play.do(e.Exited(A, -9))
    play.do(e.TreeCleaned(A, "t-1", 1))
    assert play.fleet.tally.certain().tokens == 60
    play.activate(B, "t-2")
    play.do(e.Exited(B, -9))
    play.do(e.TreeCleaned(B, "t-2", 1, Report("t-2", 1, usage=Usage(50, None))))
    assert play.fleet.tally.certain().tokens == 110
    assert told_slots(play)[0] == 0


# -- warnings


def said(play: Play) -> list[tuple[str, str, str]]:
    """The entries about money: kind, child, text."""
    kinds = journal.BudgetNear | journal.BudgetSpent | journal.BudgetOpen
    notes = [one.entry for one in play.of(fx.Note) if isinstance(one.entry, kinds)]
    return [(entry.kind, entry.child, entry.text) for entry in notes]


def test_each_crossing_is_said_once_and_again_after_it_was_raised() -> None:
    play = Play(token_budget=100, warn_at=0.8).up()
    play.activate(A, "t-1")
    for tokens in (79, 80, 85, 99, 100, 110):
        spend(play, A, "t-1", tokens)
    assert said(play) == [
        ("budget_near", "", "80% of the swarm's token budget is spent: 80 of 100"),
        ("budget_spent", "", "100% of the swarm's token budget is spent: 100 of 100"),
    ]
    reload(play, token_budget=1000)
    assert said(play)[2:] == [("budget_open", "", "the swarm's token budget allows more again")]
    spend(play, A, "t-1", 800)
    assert said(play)[3:] == [
        ("budget_near", "", "80% of the swarm's token budget is spent: 800 of 1,000")
    ]


def test_tokens_and_dollars_of_swarm_agent_and_task_warn_each_for_itself() -> None:
    play = Play(usd_budget=10.0, budgets=OWN).up()
    play.do(e.WorkAssigned(A, 1, Work("t-1", token_budget=200)))
    play.ask(A, "t-1")
    play.do(e.SessionStarted(A, "t-1", 1, session()))
    spend(play, A, "t-1", 90, 8.0)
    spend(play, A, "t-1", 95, 8.5)
    assert said(play) == [
        ("budget_near", "", "80% of the swarm's budget is spent: $8.00 of $10.00"),
        ("budget_near", A, "90% of its own token budget is spent: 90 of 100"),
    ]
    reload(play, budgets={})
    assert (A, "tokens") not in play.fleet.warned
    spend(play, A, "t-1", 160, 8.5)
    spend(play, A, "t-1", 170, 8.5)
    assert said(play)[2:] == [
        ("budget_near", A, "80% of the token budget left to t-1 is spent: 160 of 200")
    ]
    end(play, A, "t-1", 170)
    assert len(said(play)) == 3
    assert not [who for who, _part in play.fleet.warned if who == "t-1"]


def test_how_it_stands_says_the_nearest_warning() -> None:
    play = Play(token_budget=100, usd_budget=1.0).up()
    play.do(e.SpendingIs(Reading({A: Amount(85, 0.9)})))
    found = standing(play.fleet)
    assert found.shares == {"tokens": 0.85, "usd": 0.9}
    assert found.warning == "90% of the swarm's budget is spent: $0.90 of $1.00"


def test_nothing_is_looked_at_while_nothing_is_spent() -> None:
    play = Play({"builder": 2}, token_budget=100).up()
    assert play.fleet.spenders == set()
    play.do(e.ChildBeat(A))
    assert play.fleet.spenders == set()


# -- bugs planted on purpose


@pytest.mark.parametrize(
    ("old", "new", "caught_by"),
    [
        (
            "swarms = over(fleet.tally.certain(), fleet.settings.budget)",
            'swarms = ""',
            test_the_word_that_crosses_the_limit_ends_every_session_and_closes_the_gate,
        ),
        (
            "swarms = over(fleet.tally.certain(), fleet.settings.budget)",
            "swarms = over(fleet.spent, fleet.settings.budget)",
            test_an_estimate_closes_the_gate_and_ends_nobody,
        ),
        (
            "or agent.work.ending:",
            "or False:",
            test_the_word_that_crosses_the_limit_ends_every_session_and_closes_the_gate,
        ),
        (
            "fleet.count(fleet.tally.begun_anew(fleet.tally.day + 1))",
            "pass",
            test_midnight_opens_the_gate_without_any_reading,
        ),
        (
            "if (reading.day > 0) != fleet.settings.budget_daily:",
            "if False:",
            test_a_reading_of_the_window_before_a_reload_says_nothing,
        ),
        (
            "            fleet.touched[name] = None\n",
            "            pass\n",
            test_an_agent_opens_again_with_a_raised_budget_or_a_new_day,
        ),
        (
            "elif level == NEAR and before == 0:",
            "elif level == NEAR:",
            test_each_crossing_is_said_once_and_again_after_it_was_raised,
        ),
    ],
)
def test_a_planted_bug_is_caught(
    old: str, new: str, caught_by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swarm.core import fleet, fleet_budget, fleet_orders

    with mutant(fleet_budget, old, new) as broken:
        monkeypatch.setattr(fleet, "budget", broken)
        monkeypatch.setattr(fleet_orders, "fleet_budget", broken)
        with pytest.raises(AssertionError):
            caught_by()


def test_a_foreign_coordinators_task_counts_too() -> None:
    play = Play(token_budget=100).up()
    play.ask(A, "x-1", coordinator="f" * 16)
    play.do(e.SessionStarted(A, "x-1", 1, session()))
    spend(play, A, "x-1", 100)
    assert play.of(fx.TellEndSession)
    assert OUR_COORDINATOR != "f" * 16

"""A quota parks one runtime until it is over, or until a probe says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fleet_plays import A, B, Play, Report

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core import fleet_quota, fleet_state, fleet_work, quota
from swarm.core.fleet import Fleet
from swarm.core.fleet_settings import FleetSettings
from swarm.core.gate import Pause
from swarm.core.model import AgentState, Outcome

RUNTIMES = {"builder": "claude", "qa": "codex"}
QA = "swarm-qa-001"


def fleet(**settings: Any) -> Play:
    """Two builders on one runtime, one qa on another."""
    return Play({"builder": 2, "qa": 1}, runtimes=RUNTIMES, max_active=5, **settings).up()


def hits(play: Play, name: str = A, task: str = "t-1", after: float | None = None) -> None:
    """A session ends for its quota, over ``after`` seconds from now where that is known."""
    play.activate(name, task)
    at = None if after is None else play.fleet.epoch + play.now + after
    play.do(e.SessionEnded(name, Report(task, 1, Outcome.QUOTA, "limit reached", retry_at=at)))
    play.do(e.DaemonIdle(name, warm=True))


def closed(play: Play) -> dict[str, str]:
    """What the coordinator was told last of who is closed."""
    return {name: fact.closed for name, fact in play.fleet.told.items() if fact.closed}


def probes(play: Play) -> list[fx.TellProbe]:
    return play.of(fx.TellProbe)


def answer(play: Play, outcome: Outcome, reason: str = "", after: float | None = None) -> None:
    """The last probe asked for ends so."""
    probe = probes(play)[-1]
    at = None if after is None else play.fleet.epoch + play.now + after
    play.do(e.Probed(probe.name, probe.id, outcome, reason, at))
    play.do(e.DaemonIdle(probe.name))


# -- what is parked ------------------------------------------------------------------------------


def test_only_the_agents_of_the_runtime_are_closed() -> None:
    play = fleet()
    hits(play, after=50)
    assert closed(play) == dict.fromkeys((A, B), "quota: claude is parked: limit reached")
    assert play.of(fx.TellSlots)[-1].free > 0
    play.activate(QA, "t-2")
    assert play.state(QA) == "active"


def test_a_promotion_of_a_closed_agent_is_denied_and_the_task_is_free_for_others() -> None:
    play = fleet()
    hits(play, after=50)
    play.assign(B, "t-2")
    play.ask(B, "t-2")
    assert play.of(fx.Deny), "it was promoted"
    (deny,) = play.of(fx.Deny)
    assert (deny.name, deny.retry_after) == (B, 1.0)
    assert "claude is parked" in deny.reason
    assert play.state(B) == "idle"
    play.ask(B, "x-1", coordinator="f" * 16)
    assert play.of(fx.Deny)[-1].retry_after == 30.0


def test_when_every_role_in_use_is_parked_the_gate_is_closed_too() -> None:
    play = fleet()
    hits(play, after=50)
    assert play.fleet.all_parked() is None
    hits(play, QA, "t-2", after=20)
    pause = play.fleet.all_parked()
    assert pause is not None
    assert pause.until == play.now + 21
    slots = play.of(fx.TellSlots)[-1]
    assert slots.free == 0
    assert "codex is parked" in slots.reason


def test_the_sessions_that_run_go_on() -> None:
    play = fleet()
    play.activate(B, "t-2")
    hits(play, after=50)
    assert not play.of(fx.TellEndSession)
    assert play.state(B) == "active"


def test_an_agent_keeps_the_runtime_its_daemon_was_born_with() -> None:
    play = fleet()
    play.activate(A, "t-1")
    play.do(e.Reloaded(1, FleetSettings(runtimes={"builder": "codex", "qa": "codex"})))
    play.do(e.SessionEnded(A, Report("t-1", 1, Outcome.QUOTA)))
    assert set(play.fleet.quotas) == {"claude"}
    assert QA not in closed(play)


# -- until when ----------------------------------------------------------------------------------


def test_at_the_time_that_the_provider_gave_it_goes_on_with_the_tasks_that_waited() -> None:
    play = fleet()
    hits(play, after=50)
    assert not play.of(fx.EndQuotaWaits, play.do(e.Tick(), later=50.5))
    effects = play.do(e.Tick(), later=0.5)
    assert not closed(play)
    kept = [type(x) for x in effects]
    assert kept.index(fx.DropPause) < kept.index(fx.EndQuotaWaits) < kept.index(fx.TellPoke)
    assert not probes(play)


def test_of_two_ends_the_later_counts_and_an_unknown_one_changes_nothing() -> None:
    play = fleet()
    play.activate(B, "t-2")
    hits(play, after=50)
    at = play.fleet.epoch + play.now + 80
    play.do(e.SessionEnded(B, Report("t-2", 1, Outcome.QUOTA, retry_at=at)))
    until = play.fleet.quotas["claude"].until
    assert until == play.now + 81
    play.activate(QA, "t-3")
    hits(play, QA, "t-4")
    assert play.fleet.quotas["claude"].until == until


def test_a_time_that_did_not_hold_is_followed_by_a_probe() -> None:
    """Nothing got through since it was resumed by the clock, so nobody is let loose again."""
    play = fleet()
    hits(play, after=50)
    play.do(e.Tick(), later=51)
    hits(play, task="t-2", after=50)
    play.do(e.Tick(), later=51)
    assert closed(play), "it was believed twice"
    (probe,) = probes(play)
    assert probe.name in (A, B)
    answer(play, Outcome.SUCCEEDED)
    assert not closed(play)


def test_a_session_that_got_through_restores_the_belief() -> None:
    play = fleet()
    hits(play, after=50)
    play.do(e.Tick(), later=51)
    play.activate(A, "t-2")
    play.finish(A, "t-2")
    hits(play, task="t-3", after=50)
    play.do(e.Tick(), later=51)
    assert not closed(play)
    assert not probes(play)


def test_a_far_end_is_probed_each_hour() -> None:
    """It may have been misread, or made up."""
    play = fleet()
    hits(play, after=1e6)
    play.do(e.Tick(), later=quota.PATIENCE_SECONDS + 1)
    assert len(probes(play)) == 1
    answer(play, Outcome.SUCCEEDED)
    assert not closed(play)


# -- probes --------------------------------------------------------------------------------------


def test_without_a_known_end_it_is_probed_each_interval_until_a_probe_succeeds() -> None:
    play = fleet(quota_probe_seconds=300.0)
    hits(play)
    play.do(e.Tick(), later=299)
    assert not probes(play)
    play.do(e.Tick(), later=2)
    assert len(probes(play)) == 1
    assert probes(play)[0].name in (A, B), "another runtime's agent was asked"
    answer(play, Outcome.QUOTA, "still used up")
    assert play.fleet.quotas["claude"].reason == "still used up"
    play.do(e.Tick(), later=301)
    assert len(probes(play)) == 2
    answer(play, Outcome.QUOTA, after=10)
    assert play.fleet.quotas["claude"].look_at == play.now + 11
    play.do(e.Tick(), later=12)
    assert len(probes(play)) == 3, "a time given to a probe is no reason to let everybody go"
    answer(play, Outcome.SUCCEEDED)
    assert not closed(play)
    assert play.fleet.deadline() is None or play.fleet.deadline() > play.now  # type: ignore[operator]


def test_a_probe_that_fails_otherwise_is_no_quota() -> None:
    play = fleet()
    hits(play)
    play.do(e.Tick(), later=301)
    answer(play, Outcome.FAILED, "no such program")
    assert not closed(play)


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.LOST])
def test_a_probe_that_was_none_is_asked_for_again_soon(outcome: Outcome) -> None:
    play = fleet()
    hits(play)
    play.do(e.Tick(), later=301)
    answer(play, outcome)
    assert closed(play)
    play.do(e.Tick(), later=quota.PROBE_AGAIN_SECONDS + 0.1)
    assert len(probes(play)) == 2


def test_with_nobody_idle_it_waits_until_somebody_is() -> None:
    play = fleet()
    play.activate(B, "t-2")
    play.activate(A, "t-1")
    play.do(e.SessionEnded(A, Report("t-1", 1, Outcome.QUOTA)))
    play.do(e.Tick(), later=301)
    assert not probes(play)
    play.do(e.DaemonIdle(A))
    assert [one.name for one in probes(play)] == [A]


def test_nothing_is_probed_while_a_person_has_paused_it_or_it_stops() -> None:
    play = fleet()
    hits(play)
    play.do(e.PauseAsked(1, "lunch"))
    play.do(e.Tick(), later=301)
    assert not probes(play)
    play.do(e.StopAsked(2))
    play.do(e.Tick(), later=1)
    assert not probes(play)


def test_who_probes_is_closed_even_when_a_person_resumes_meanwhile() -> None:
    play = fleet()
    hits(play)
    play.do(e.Tick(), later=301)
    name = probes(play)[-1].name
    play.do(e.ResumeAsked(1))
    assert set(closed(play)) == {name}
    play.ask(name, "t-9")
    assert play.of(fx.Deny)
    answer(play, Outcome.QUOTA)
    assert not closed(play), "a probe nobody waits for any more parked the runtime again"


def test_a_prober_that_dies_is_cleaned_up_after_and_another_is_asked() -> None:
    play = fleet()
    hits(play)
    play.do(e.Tick(), later=301)
    probe = probes(play)[-1]
    effects = play.do(e.Exited(probe.name, -9))
    (clean,) = play.of(fx.CleanTree, effects)
    assert (clean.task, clean.session) == (f"probe-{probe.id}", None)
    told = len(play.of(fx.TellLost))
    play.do(e.TreeCleaned(probe.name, clean.task, clean.fence))
    assert len(play.of(fx.TellLost)) == told, "the coordinator heard of a task that is none"
    play.do(e.Tick(), later=quota.PROBE_AGAIN_SECONDS + 0.1)
    assert probes(play)[-1].name != probe.name


def test_a_probe_nobody_answers_is_asked_of_another() -> None:
    play = fleet()
    hits(play)
    play.do(e.Tick(), later=301)
    first = probes(play)[-1]
    play.do(e.Tick(), later=quota.PROBE_ANSWER_SECONDS + 1)
    play.do(e.Tick(), later=quota.PROBE_AGAIN_SECONDS + 1)
    assert probes(play)[-1].name != first.name


# -- over a restart ------------------------------------------------------------------------------


def again(pauses: dict[str, Pause], reports: tuple[Any, ...] = ()) -> Play:
    """A supervisor's next run."""
    play = Play({"builder": 2, "qa": 1})
    play.fleet = Fleet(
        FleetSettings(runtimes=RUNTIMES),
        services=("chat", "coordinator"),
        wanted={"builder": 2, "qa": 1},
        coordinator_id="c" * 16,
        epoch=1e9,
        reports=reports,
        pauses=pauses,
    )
    return play.up()


def test_a_park_with_a_known_end_goes_on_after_a_restart() -> None:
    play = fleet()
    hits(play, after=50)
    keep = play.of(fx.KeepPause)[-1]
    assert keep.scope == "quota:claude"
    assert keep.until == play.fleet.epoch + play.now + 51
    later = again({keep.scope: Pause(keep.reason, keep.until - 1e9)})
    assert set(closed(later)) == {A, B}
    assert later.fleet.quotas["claude"].reason == "limit reached"
    later.do(e.Tick(), later=52)
    assert not closed(later)


def test_a_park_without_a_known_end_is_probed_after_a_restart() -> None:
    play = fleet()
    hits(play)
    keep = play.of(fx.KeepPause)[-1]
    assert keep.until is None
    later = again({keep.scope: Pause(keep.reason)})
    assert len(probes(later)) == 1
    answer(later, Outcome.SUCCEEDED)
    assert not closed(later)


def test_the_park_of_an_earlier_version_holds_for_every_runtime() -> None:
    later = again({"quota": Pause("quota: limit reached", 150.0)})
    assert set(closed(later)) == {A, B, QA}
    assert later.of(fx.TellSlots)[-1].free == 0
    later.do(e.Tick(), later=51)
    assert not closed(later)
    assert fx.DropPause("quota") in later.effects


def test_a_report_that_only_an_outbox_held_parks_as_well() -> None:
    report = Report("t-1", 1, Outcome.QUOTA, "limit reached", retry_at=1e9 + 150)
    later = again({}, ((A, report),))
    assert set(closed(later)) == {A, B}
    assert later.of(fx.KeepPause)[-1].scope == "quota:claude"


def test_scopes_are_read_as_they_are_written() -> None:
    assert quota.runtime_of(quota.scope_of("claude")) == "claude"
    assert quota.runtime_of(quota.scope_of("")) == ""
    assert quota.runtime_of("swarm") is None
    assert quota.runtime_of("quota:") is None


# -- revoked before it was asked for -------------------------------------------------------------


def revoked_before_asked() -> None:
    play = fleet()
    play.assign(A, "t-1", 3)
    play.do(e.WorkRevoked(A, "t-1", 3, Outcome.CANCELLED, "cancelled"))
    play.ask(A, "t-1", 3)
    assert play.state(A) == "idle", "it is promoting, with nothing left to run"
    assert play.of(fx.Deny)[-1].reason == "cancelled"
    play.assign(A, "t-1", 4)
    play.ask(A, "t-1", 4)
    assert play.of(fx.Grant)


def test_an_assignment_revoked_before_it_was_asked_for_is_denied_at_once() -> None:
    revoked_before_asked()


# -- planted bugs --------------------------------------------------------------------------------


def forgets_what_was_revoked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet_work, "_remember_revoked", lambda _fleet, _event: None)


def parks_everybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet_state.FleetState, "runtime_of", lambda _self, _name: "claude")


def believes_for_ever(patch: pytest.MonkeyPatch) -> None:
    honest = quota.parked

    def parked(*given: Any, doubted: bool, **more: Any) -> quota.Quota:
        return honest(*given, doubted=doubted and False, **more)

    patch.setattr(quota, "parked", parked)


def promotes_the_parked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet_state.FleetState, "closed", lambda _self, _agent: "")


def probes_while_paused(patch: pytest.MonkeyPatch) -> None:
    honest = fleet_quota._probe

    def probe(state: fleet_state.FleetState, one: quota.Quota) -> None:
        paused, state.paused = state.paused, None
        honest(state, one)
        state.paused = paused

    patch.setattr(fleet_quota, "_probe", probe)


@pytest.mark.parametrize(
    ("plant", "property_"),
    [
        (forgets_what_was_revoked, revoked_before_asked),
        (parks_everybody, test_only_the_agents_of_the_runtime_are_closed),
        (believes_for_ever, test_a_time_that_did_not_hold_is_followed_by_a_probe),
        (promotes_the_parked,
         test_a_promotion_of_a_closed_agent_is_denied_and_the_task_is_free_for_others),
        (probes_while_paused,
         test_nothing_is_probed_while_a_person_has_paused_it_or_it_stops),
    ],
)  # fmt: skip
def test_a_planted_bug_is_caught(
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    property_: Callable[[], None],
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        property_()


def test_idle_is_what_is_shown_of_who_probes() -> None:
    play = fleet()
    hits(play)
    play.do(e.Tick(), later=301)
    assert play.fleet.agents[probes(play)[-1].name].state is AgentState.IDLE

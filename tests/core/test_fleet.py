"""The fleet machine, case by case: plain calls, integers for time."""

from __future__ import annotations

import pytest
from fleet_plays import A, B, C, Play, Report, session

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core import journal, life
from swarm.core.budget import Amount, Reading
from swarm.core.model import AgentState, Outcome

# -- coming up ------------------------------------------------------------------------------------


def test_services_come_first_and_in_order_then_the_daemons_together() -> None:
    play = Play()
    assert play.of(life.Spawn, play.do(e.Up())) == [life.Spawn("chat")]
    play.born("chat")
    assert play.of(life.Spawn)[-1] == life.Spawn("coordinator")
    play.born("coordinator")
    assert play.of(life.Spawn)[-2:] == [life.Spawn(A), life.Spawn(B)]


def test_ready_is_told_once_when_everyone_has_joined_and_beaten() -> None:
    play = Play().up()
    assert play.of(fx.Settled) == [fx.Settled(ok=True)]


def test_a_heartbeat_before_joining_counts() -> None:
    play = Play({"builder": 1})
    play.do(e.Up())
    play.born("chat")
    play.born("coordinator")
    play.do(e.Spawned(A, 5))
    play.do(e.ChildBeat(A))
    assert not play.of(fx.Settled)
    play.do(e.ChildReady(A))
    assert play.of(fx.Settled) == [fx.Settled(ok=True)]


def test_who_does_not_join_is_named_with_the_reason_and_everything_stops() -> None:
    play = Play(up_seconds=20.0)
    play.do(e.Up())
    play.born("chat")
    play.born("coordinator")
    play.born(A)
    play.do(e.Spawned(B, 9))
    play.do(e.ChatIs(B, connected=False, attempts=5, reason="refused"))
    play.do(e.Tick(), later=21.0)
    (settled,) = play.of(fx.Settled)
    assert not settled.ok
    assert settled.problems == (f"{B}: chat lost, 5 failed attempts: refused",)
    assert play.fleet.stop is not None


def test_a_service_that_cannot_start_ends_the_start_with_its_own_words() -> None:
    play = Play()
    play.do(e.Up())
    play.do(e.Spawned("chat", 5))
    play.do(e.ChildFailing("chat", "127.0.0.1:6667 is in use"))
    play.do(e.Exited("chat", 1))
    assert play.of(fx.Settled) == [
        fx.Settled(ok=False, problems=("chat: 127.0.0.1:6667 is in use",))
    ]


def test_a_restored_fleet_takes_the_lowest_free_names() -> None:
    play = Play({"builder": 2})
    play.do(e.Up(taken=frozenset({A})))
    play.born("chat")
    play.born("coordinator")
    assert list(play.fleet.agents) == [B, C]


# -- promotion ------------------------------------------------------------------------------------


def test_a_promotion_with_its_assignment_is_granted_at_once_with_the_work() -> None:
    play = Play().up()
    play.assign(A, "t-1")
    effects = play.do(e.PromotionAsked(A, "t-1", 1, play.fleet.coordinator_id))
    (grant,) = play.of(fx.Grant, effects)
    assert (grant.name, grant.task, grant.fence, grant.work.task) == (A, "t-1", 1, "t-1")
    assert play.state(A) == "promoting"


def test_the_coordinator_hears_of_the_agent_before_the_slots() -> None:
    play = Play(max_active=2).up()
    play.assign(A, "t-1")
    effects = play.do(e.PromotionAsked(A, "t-1", 1, play.fleet.coordinator_id))
    told = [x for x in effects if isinstance(x, fx.TellAgent | fx.TellSlots)]
    assert [type(x) for x in told] == [fx.TellAgent, fx.TellSlots]
    assert told[0].fact.task == "t-1"
    assert told[1].free == 1


def test_a_promotion_waits_for_the_coordinators_word_and_not_for_ever() -> None:
    play = Play().up()
    play.ask(A, "t-1")
    play.ask(B, "t-2")
    assert not play.of(fx.Grant)
    play.assign(A, "t-1")
    assert [g.name for g in play.of(fx.Grant)] == [A]
    play.do(e.Tick(), later=5.0)
    assert [(d.name, d.reason) for d in play.of(fx.Deny)] == [
        (B, "the coordinator does not know it")
    ]
    assert play.state(B) == "idle"


def test_an_assignment_of_another_fence_or_agent_does_not_count() -> None:
    play = Play().up()
    play.assign(B, "t-1", 2)
    play.ask(A, "t-1", 2)
    play.ask(B, "t-1", 1)
    assert not play.of(fx.Grant)


def test_a_foreign_coordinators_task_needs_no_assignment() -> None:
    play = Play().up()
    play.ask(A, "x", 4, coordinator="f" * 16)
    assert play.of(fx.Grant) == [fx.Grant(A, "x", 4, None)]


def test_no_more_sessions_than_max_active() -> None:
    play = Play(max_active=1).up()
    play.activate(A, "t-1")
    play.assign(B, "t-2")
    play.ask(B, "t-2")
    (denied,) = play.of(fx.Deny)
    assert denied.name == B
    assert "1 of 1" in denied.reason
    play.finish(A, "t-1")
    assert play.of(fx.TellSlots)[-1].free == 1


def test_memory_below_the_minimum_closes_the_gate_for_the_asker_and_the_coordinator() -> None:
    play = Play(min_free_memory_mb=1000).up()
    play.assign(A, "t-1")
    play.do(e.PromotionAsked(A, "t-1", 1, play.fleet.coordinator_id, free_memory_mb=500.0))
    assert "500 MB" in play.of(fx.Deny)[0].reason
    assert play.of(fx.TellSlots)[-1].free == 0


def test_pause_denies_and_resume_opens_while_sessions_go_on() -> None:
    play = Play().up()
    play.activate(A, "t-1")
    assert play.of(fx.Reply, play.do(e.PauseAsked(7, "lunch")))[0].reply == 7
    assert play.of(fx.TellSlots)[-1] == fx.TellSlots(0, "paused: lunch")
    play.assign(B, "t-2")
    play.ask(B, "t-2")
    assert play.of(fx.Deny)[0].reason == "paused: lunch"
    assert play.state(A) == "active"
    play.do(e.ResumeAsked(8))
    assert play.of(fx.TellSlots)[-1].free == 4


def test_a_quota_pauses_everyone_until_the_time_the_provider_gave() -> None:
    play = Play().up()
    play.activate(A, "t-1")
    until = play.fleet.epoch + play.now + 50
    report = Report("t-1", 1, Outcome.QUOTA, "limit reached", retry_at=until)
    play.do(e.SessionEnded(A, report))
    assert play.of(fx.TellSlots)[-1].free == 0
    play.do(e.Tick(), later=51.0)
    assert play.of(fx.TellSlots)[-1].free > 0


def test_resumed_the_task_that_waits_for_the_quota_goes_too() -> None:
    play = Play().up()
    play.do(e.PauseAsked(1, "lunch"))
    assert not play.of(fx.EndQuotaWaits, play.do(e.ResumeAsked(2)))
    play.activate(A, "t-1")
    play.do(e.SessionEnded(A, Report("t-1", 1, Outcome.QUOTA, "limit reached")))
    effects = play.do(e.ResumeAsked(3))
    (waits,) = play.of(fx.EndQuotaWaits, effects)
    (poke,) = play.of(fx.TellPoke, effects)
    assert effects.index(waits) < effects.index(poke)


def test_a_revoked_lease_ends_the_session_or_the_question() -> None:
    play = Play().up()
    play.activate(A, "t-1")
    play.do(e.WorkRevoked(A, "t-1", 1, Outcome.CANCELLED, "by a person"))
    (end,) = play.of(fx.TellEndSession)
    assert (end.task, end.fence, end.outcome) == ("t-1", 1, Outcome.CANCELLED)
    play.ask(B, "t-2")
    play.do(e.WorkRevoked(B, "t-2", 1, Outcome.CANCELLED, "by a person"))
    assert play.of(fx.Deny)[0].reason == "by a person"


def test_beats_of_a_holder_renew_its_lease_and_of_an_idle_one_do_not() -> None:
    play = Play().up()
    play.activate(A, "t-1")
    assert play.of(fx.TellRenew, play.do(e.ChildBeat(A, "t-1", 1))) == [fx.TellRenew("t-1", 1)]
    assert not play.of(fx.TellRenew, play.do(e.ChildBeat(A, "t-1", 9)))
    assert not play.of(fx.TellRenew, play.do(e.ChildBeat(B)))


def test_as_many_idle_daemons_as_could_be_active_are_made_warm_and_again_when_busy() -> None:
    play = Play({"builder": 3}, max_active=1).up()
    play.do(e.HubIsReady("/hub", "shared"))
    assert play.of(fx.TellPrepare) == [fx.TellPrepare(A, "/hub", "shared")]
    play.do(e.DaemonIdle(A, warm=True))
    assert len(play.of(fx.TellPrepare)) == 1
    play.activate(A, "t-1")
    assert [p.name for p in play.of(fx.TellPrepare)] == [A, B]


# -- crashes --------------------------------------------------------------------------------------


def test_a_dead_daemons_tree_is_emptied_and_its_task_told_before_it_starts_again() -> None:
    play = Play(policy=life.RestartPolicy(base_seconds=0)).up()
    play.activate(A, "t-1")
    effects = play.do(e.Exited(A, -9))
    assert play.of(fx.CleanTree, effects) == [fx.CleanTree(A, "t-1", 1, session())]
    assert not play.of(life.Spawn, effects)
    assert not play.of(fx.TellGone, effects)
    effects = play.do(e.TreeCleaned(A, "t-1", 1))
    kinds = [type(x) for x in effects if not isinstance(x, fx.Note)]
    assert kinds.index(fx.TellLost) < kinds.index(fx.TellGone)
    assert play.of(fx.TellLost, effects)[0].counts
    assert play.of(life.Spawn, effects) == [life.Spawn(A)]


def test_a_report_found_in_the_outbox_is_handed_over_instead_of_lost() -> None:
    play = Play().up()
    play.activate(A, "t-1")
    play.do(e.Exited(A, -9))
    play.do(e.TreeCleaned(A, "t-1", 1, Report("t-1", 1)))
    assert play.of(fx.TellReported) == [fx.TellReported(A, Report("t-1", 1))]
    assert not play.of(fx.TellLost)
    assert play.state(A) == "backoff"


def test_a_daemon_that_dies_before_its_session_started_loses_no_attempt() -> None:
    play = Play().up()
    play.assign(A, "t-1")
    play.ask(A, "t-1")
    play.do(e.Exited(A, 1))
    assert play.of(fx.CleanTree)[0].session is None
    play.do(e.TreeCleaned(A, "t-1", 1))
    assert not play.of(fx.TellLost)[0].counts


def test_an_assignment_of_a_dead_agent_goes_back() -> None:
    play = Play().up()
    play.assign(A, "t-1")
    play.do(e.Exited(A, -9))
    assert play.of(fx.TellLost) == [
        fx.TellLost(A, "t-1", 1, "its daemon died: signal 9", counts=False)
    ]
    play.assign(A, "t-2")
    assert play.of(fx.TellLost)[-1].task == "t-2"


def test_three_missed_heartbeats_and_never_one() -> None:
    play = Play(heartbeat_seconds=10.0, misses=3).up()
    for _ in range(20):  # B, and the services, go on beating
        for name in ("chat", "coordinator", B):
            play.do(e.ChildBeat(name))
        play.do(e.Tick(), later=2.0)
        if play.now < 100 + 33:
            assert play.state(A) == "idle"
    assert [s.name for s in play.of(life.Signal)] == [A]
    assert play.state(A) == "stopping"
    play.do(e.Exited(A, -15))
    assert play.state(A) == "backoff"


def test_a_child_that_breaks_the_protocol_is_ended_as_a_crash() -> None:
    play = Play().up()
    play.do(e.ChildGarbled(A, "not JSON"))
    assert play.of(life.Signal)[0].signal == "TERM"
    play.do(e.Exited(A, -15))
    assert "broke its protocol: not JSON" in play.fleet.agents[A].reason


def test_a_session_nobody_granted_condemns_its_daemon() -> None:
    play = Play().up()
    play.do(e.SessionStarted(A, "t-9", 1, session()))
    assert [s.name for s in play.of(life.Signal)] == [A]


def test_exit_zero_unasked_is_a_crash_and_degrades_in_the_end() -> None:
    play = Play({"builder": 1}, policy=life.RestartPolicy(max_restarts=2)).up()
    for _ in range(3):
        play.do(e.Exited(A, 0))
        play.do(e.Tick(), later=30.0)
        if play.state(A) == "starting":
            play.born(A)
    assert play.state(A) == "degraded"
    assert play.of(fx.TellGone)[-1].name == A
    play.do(e.AgentRestartAsked(3, A))
    play.born(A)
    assert play.state(A) == "idle"
    assert play.fleet.agents[A].life.restarts == 0


# -- the coordinator ------------------------------------------------------------------------------


def test_a_new_coordinator_gets_everyone_and_the_reports() -> None:
    play = Play().up()
    play.activate(A, "t-1")
    play.do(e.SessionEnded(A, Report("t-1", 1)))
    play.activate(B, "t-2")
    play.do(e.Exited("coordinator", -9))
    play.do(e.Tick(), later=5.0)
    play.effects.clear()
    play.born("coordinator")
    (snapshot,) = play.of(fx.TellSnapshot)
    assert [(f.name, f.state, f.task) for f in snapshot.facts] == [
        (A, AgentState.DEMOTING, "t-1"),
        (B, AgentState.ACTIVE, "t-2"),
    ]
    assert snapshot.reports == (Report("t-1", 1),)
    kinds = [type(x) for x in play.effects]
    assert kinds.index(fx.TellSnapshot) < kinds.index(fx.TellSlots)


def test_nothing_is_told_while_no_coordinator_is_there() -> None:
    play = Play().up()
    play.do(e.Exited("coordinator", -9))
    play.effects.clear()
    play.do(e.DaemonIdle(A, warm=True))
    assert not [x for x in play.effects if type(x).__name__.startswith("Tell")]


def test_what_a_dead_coordinator_leased_but_nobody_started_is_void() -> None:
    """The next one requeues it; granting it after the snapshot would run the task twice."""
    play = Play().up()
    play.assign(A, "t-1")
    play.ask(B, "t-2")
    play.do(e.Exited("coordinator", -9))
    assert [d.name for d in play.of(fx.Deny)] == [B]
    play.ask(A, "t-1")
    play.do(e.Tick(), later=5.0)
    assert not play.of(fx.Grant)


def test_reports_of_an_earlier_run_are_in_the_first_snapshot() -> None:
    play = Play(reports=((A, Report("t-0", 3)),)).up()
    assert play.of(fx.TellSnapshot)[0].reports == (Report("t-0", 3),)


# -- scale ----------------------------------------------------------------------------------------


def test_scale_up_adds_agents_with_new_names() -> None:
    play = Play({"builder": 1}).up()
    (reply,) = play.of(fx.Reply, play.do(e.ScaleAsked(1, total=2, taken=frozenset({B}))))
    assert list(play.fleet.agents) == [A, C]
    assert reply.lines == ("scaled 1 → 2: 1 starting",)


def test_scale_keeps_the_proportions() -> None:
    play = Play({"builder": 4, "qa": 2}).up()
    play.do(e.ScaleAsked(1, total=3))
    assert play.fleet.wanted == {"builder": 2, "qa": 1}


def test_scale_down_takes_the_longest_idle_and_never_a_busy_one() -> None:
    play = Play({"builder": 3}, max_active=5).up()
    play.activate(A, "t-1")
    play.now += 1
    play.do(e.DaemonIdle(B))
    play.activate(C, "t-3")
    play.finish(C, "t-3")  # idle later than B
    (reply,) = play.of(fx.Reply, play.do(e.ScaleAsked(1, roles={"builder": 2})))
    assert [x.name for x in play.of(fx.TellLeave)] == [B]
    assert reply.data["preserved"] == 0
    (reply,) = play.of(fx.Reply, play.do(e.ScaleAsked(2, roles={"builder": 0, "qa": 1})))
    assert [x.name for x in play.of(fx.TellLeave)] == [B, C]
    assert reply.data["preserved"] == 1
    assert "1 busy preserved" in reply.lines[0]
    assert play.state(A) == "active"
    play.finish(A, "t-1")
    assert [x.name for x in play.of(fx.TellLeave)] == [B, C, A]


def test_an_agent_kept_for_its_task_stays_when_the_fleet_grew_again() -> None:
    play = Play().up()
    play.activate(A, "t-1")
    play.activate(B, "t-2")
    play.do(e.ScaleAsked(1, total=1))
    play.do(e.ScaleAsked(2, total=2))
    play.finish(A, "t-1")
    play.finish(B, "t-2")
    assert not play.of(fx.TellLeave)
    assert len(play.fleet.agents) == 2


def test_an_agent_about_to_be_promoted_is_not_stopped() -> None:
    play = Play().up()
    play.assign(A, "t-1")
    play.do(e.ScaleAsked(1, total=1))
    assert [x.name for x in play.of(fx.TellLeave)] == [B]


def test_a_retired_agent_is_tidied_away_and_its_name_not_used_meanwhile() -> None:
    play = Play().up()
    play.do(e.ScaleAsked(1, total=1))
    play.do(e.Exited(A, 0))
    assert A not in play.fleet.agents
    assert play.of(fx.Tidy) == [fx.Tidy((A,))]
    play.do(e.ScaleAsked(2, total=2))
    assert list(play.fleet.agents) == [B, C]
    play.do(e.Tidied((A,)))


def test_with_persist_nothing_is_tidied() -> None:
    play = Play(persist=True).up()
    play.do(e.ScaleAsked(1, total=1))
    play.do(e.Exited(A, 0))
    assert not play.of(fx.Tidy)


# -- orders ---------------------------------------------------------------------------------------


def test_agent_stop_is_answered_when_it_is_gone_and_it_stays_down() -> None:
    play = Play().up()
    play.activate(A, "t-1")
    effects = play.do(e.AgentStopAsked(5, A))
    assert play.of(fx.TellLeave, effects) == [fx.TellLeave(A, 10.0)]
    assert not play.of(fx.Reply, effects)
    play.do(e.SessionEnded(A, Report("t-1", 1, Outcome.LOST)))
    assert play.of(fx.TellReported)[-1].report.outcome is Outcome.LOST
    assert play.of(fx.Reply, play.do(e.Exited(A, 0)))[0].reply == 5
    assert play.state(A) == "stopped"
    assert len(play.fleet.agents) == 2


def test_agent_restart_of_a_running_one_is_no_crash() -> None:
    play = Play().up()
    play.do(e.AgentRestartAsked(5, A))
    assert play.of(fx.TellLeave)[0].name == A
    play.do(e.Exited(A, 0))
    assert play.of(life.Spawn)[-1] == life.Spawn(A)
    assert play.fleet.agents[A].life.restarts == 0


def test_kill_session_cancels_the_attempt_or_says_there_is_none() -> None:
    play = Play().up()
    assert play.of(fx.Refuse, play.do(e.KillSessionAsked(1, A)))
    play.activate(A, "t-1")
    play.do(e.KillSessionAsked(2, A, "wrong task"))
    assert play.of(fx.TellEndSession)[0].outcome is Outcome.CANCELLED


@pytest.mark.parametrize(
    "event",
    [
        e.AgentStopAsked(1, "swarm-x-001"),
        e.AgentRestartAsked(1, "swarm-x-001"),
        e.KillSessionAsked(1, "swarm-x-001"),
    ],
)
def test_an_unknown_agent_is_refused(event: e.Event) -> None:
    play = Play().up()
    (refused,) = play.of(fx.Refuse, play.do(event))
    assert "swarm-x-001" in refused.error


def test_reload_changes_policy_beats_and_counts() -> None:
    play = Play().up()
    new = type(play.fleet.settings)(max_active=9, heartbeat_seconds=1.0)
    (reply,) = play.of(
        fx.Reply, play.do(e.Reloaded(4, new, {"builder": 3}, lines=("limits.max_active 5 → 9",)))
    )
    assert reply.lines == ("limits.max_active 5 → 9", "scaled 2 → 3: 1 starting")
    assert {t.name for t in play.of(fx.Tune)[-4:]} == {"chat", "coordinator", A, B}
    assert play.of(fx.TellSlots)[-1].free == 9
    assert len(play.fleet.agents) == 3


def test_wait_ready_is_answered_when_the_last_one_is() -> None:
    play = Play({"builder": 1}).up()
    assert play.of(fx.Reply, play.do(e.ReadyAsked(1)))
    play.do(e.ScaleAsked(2, total=2))
    assert not play.of(fx.Reply, play.do(e.ReadyAsked(3)))
    play.born(B)
    assert [r.reply for r in play.of(fx.Reply)][-1] == 3


def test_wait_ready_says_who_is_not() -> None:
    play = Play({"builder": 1}, policy=life.RestartPolicy(max_restarts=1, base_seconds=0)).up()
    play.do(e.Exited(A, 3))
    play.do(e.ReadyAsked(1))
    play.do(e.Spawned(A, 50))
    play.do(e.Exited(A, 3))
    (refused,) = play.of(fx.Refuse)
    assert A in refused.error
    assert "exit 3" in refused.error


# -- stop -----------------------------------------------------------------------------------------


def test_stop_goes_daemons_then_coordinator_then_chat_then_janitor() -> None:
    play = Play({"builder": 1}).up()
    play.effects.clear()
    play.do(e.StopAsked(9))
    assert [x.name for x in play.of(fx.TellLeave)] == [A]
    play.do(e.Exited(A, 0))
    assert [x.name for x in play.of(fx.TellLeave)] == [A, "coordinator"]
    play.do(e.Exited("coordinator", 0))
    assert [x.name for x in play.of(fx.TellLeave)] == [A, "coordinator", "chat"]
    assert not play.of(fx.Tidy)
    play.do(e.Exited("chat", 0))
    assert play.of(fx.Tidy) == [fx.Tidy((A,), rest=True)]
    play.do(e.Tidied((A,), ("saved swarm/x",)))
    assert play.of(fx.Reply) == [fx.Reply(9, ("stopped", "saved swarm/x"))]
    assert play.of(fx.End) == [fx.End()]
    assert play.notes(journal.SwarmStopped)


def test_the_coordinator_is_not_told_to_leave_before_the_last_report() -> None:
    play = Play({"builder": 1}).up()
    play.activate(A, "t-1")
    play.do(e.StopAsked())
    play.do(e.Exited(A, -9))
    assert "coordinator" not in [x.name for x in play.of(fx.TellLeave)]
    effects = play.do(e.TreeCleaned(A, "t-1", 1))
    kinds = [type(x) for x in effects]
    assert kinds.index(fx.TellLost) < kinds.index(fx.TellLeave)
    assert not play.of(fx.TellLost, effects)[0].counts


def test_a_session_that_does_not_end_is_killed_after_its_grace() -> None:
    play = Play({"builder": 1}, grace_seconds=10.0).up()
    play.activate(A, "t-1")
    play.do(e.StopAsked())
    assert play.of(fx.TellLeave)[0] == fx.TellLeave(A, 10.0)
    while not play.of(life.Signal):
        play.do(e.Tick(), later=1.0)
        assert play.now < 200
    assert play.of(life.Signal)[0].signal == "KILL"


def test_drain_lets_sessions_finish_and_its_limit_ends_it() -> None:
    play = Play().up()
    play.activate(A, "t-1")
    play.do(e.StopAsked(drain=100.0))
    assert fx.TellLeave(A, 10.0, drain=True) in play.of(fx.TellLeave)
    play.do(e.Exited(B, 0))
    for _ in range(9):
        play.do(e.ChildBeat(A, "t-1", 1))
        play.do(e.ChildBeat("coordinator"))
        play.do(e.ChildBeat("chat"))
        play.do(e.Tick(), later=10.0)
    assert A not in [s.name for s in play.of(life.Signal)]
    play.do(e.Tick(), later=11.0)
    assert play.of(fx.TellLeave)[-1] == fx.TellLeave(A, 10.0)


def test_a_second_stop_can_only_be_harsher() -> None:
    play = Play({"builder": 1}).up()
    play.activate(A, "t-1")
    play.do(e.StopAsked(drain=0.0))
    play.do(e.StopAsked())
    assert play.of(fx.TellLeave)[-1] == fx.TellLeave(A, 10.0)
    play.do(e.StopAsked(drain=0.0))
    assert len(play.of(fx.TellLeave)) == 2
    play.do(e.StopAsked(now=True))
    assert play.of(fx.TellLeave)[-1] == fx.TellLeave(A, 0.0)
    play.do(e.StopAsked(now=True))
    assert [s.signal for s in play.of(life.Signal) if s.name == A] == ["KILL"]


def test_promotions_are_denied_on_the_way_down_and_orders_refused() -> None:
    play = Play().up()
    play.assign(A, "t-1")
    play.do(e.StopAsked(drain=0.0))
    play.ask(A, "t-1")
    assert play.of(fx.Deny)
    assert play.of(fx.Refuse, play.do(e.ScaleAsked(3, total=9)))
    assert play.of(fx.Refuse, play.do(e.AgentRestartAsked(4, A)))


def test_stop_during_the_start_ends_what_is_under_way() -> None:
    play = Play()
    play.do(e.Up())
    play.do(e.StopAsked(1))
    play.do(e.Spawned("chat", 4))
    play.do(e.Exited("chat", -15))
    play.do(e.Tidied(()))
    assert play.fleet.ended
    assert not [s for s in play.of(life.Spawn) if s.name != "chat"]


def test_a_service_that_gave_up_can_be_restarted() -> None:
    play = Play(policy=life.RestartPolicy(max_restarts=1, base_seconds=0)).up()
    play.do(e.Exited("coordinator", 1))
    play.do(e.Spawned("coordinator", 70))
    play.do(e.Exited("coordinator", 1))
    assert play.fleet.services["coordinator"].life.state.value == "degraded"
    play.do(e.AgentRestartAsked(1, "coordinator"))
    play.born("coordinator")
    assert play.of(fx.TellSnapshot)[-1].facts


def test_whoever_asks_after_the_end_is_answered() -> None:
    play = Play({"builder": 0}).up()
    play.do(e.StopAsked())
    play.do(e.Exited("coordinator", 0))
    play.do(e.Exited("chat", 0))
    play.do(e.Tidied(()))
    assert play.fleet.ended
    assert play.of(fx.Reply, play.do(e.StopAsked(5)))
    assert play.of(fx.Refuse, play.do(e.ReadyAsked(6)))


def test_spending_beyond_the_budget_ends_sessions_and_closes_the_gate() -> None:
    play = Play(token_budget=100).up()
    play.activate(A, "t-1")
    play.do(e.SpendingIs(Reading({A: Amount(50)})))
    assert not play.of(fx.TellEndSession)
    play.do(e.SpendingIs(Reading({A: Amount(100, 1.0)})))
    play.do(e.SpendingIs(Reading({A: Amount(101, 1.0)})))
    (end,) = play.of(fx.TellEndSession)
    assert end.outcome is Outcome.OVER_BUDGET
    assert play.of(fx.TellSlots)[-1].free == 0

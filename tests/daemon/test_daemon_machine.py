"""The daemon's machine, by plain calls: from an assignment to a settled report, and the corners."""

from __future__ import annotations

from dataclasses import replace

import pytest
from daemon_values import (
    BEGAN,
    COORDINATOR,
    HUB,
    ME,
    TUNING,
    active_daemon,
    assign,
    finished,
    fresh_daemon,
    grant,
    heard,
    idle_daemon,
    messages,
    of,
    told,
)

from swarm.core.model import Outcome, Usage
from swarm.daemon import attempt, machine, orders
from swarm.daemon.between import LINGER_SECONDS, RESEND_SECONDS
from swarm.daemon.outbox import Reported, Unclaimed
from swarm.daemon.state import (
    Active,
    ChatClosed,
    ChatDown,
    ChatFailing,
    ChatUp,
    CloneFailed,
    CloneMade,
    CloseChat,
    Daemon,
    Effect,
    Ending,
    Event,
    Exit,
    Heard,
    Idle,
    Kill,
    Launch,
    LaunchFailed,
    LifelineLost,
    MakeClone,
    Preparing,
    Promoting,
    Record,
    Recorded,
    RecordFailed,
    Recovered,
    SaveFences,
    Say,
    Secure,
    Secured,
    SessionOver,
    SessionSpent,
    SessionSpoke,
    SessionStuck,
    Settle,
    Starting,
    Terminate,
    Tick,
    Told,
)
from swarm.wire import lifeline, work
from swarm.wire.lifeline import Denied, EndSession, Granted, Leave, Prepare
from swarm.wire.work import Assign, Heartbeat, Settled, TaskRef


def run(daemon: Daemon, *events: Event, now: float = 5.0) -> tuple[Daemon, tuple[Effect, ...]]:
    """Every event in turn at ``now``; the effects of all of them."""
    effects: tuple[Effect, ...] = ()
    for event in events:
        daemon, more = machine.step(daemon, event, now)
        effects += more
    return daemon, effects


# -- start ---------------------------------------------------------------------------------------


def test_it_beats_at_once_and_is_ready_when_it_has_joined() -> None:
    daemon = fresh_daemon()
    assert machine.deadline(daemon) == 0.0
    daemon, effects = run(daemon, Tick(), now=0.0)
    assert [b.seq for b in told(effects, lifeline.Beat)] == [1]
    daemon, effects = run(daemon, ChatUp(), now=0.1)
    assert [r.agent_id for r in told(effects, lifeline.Ready)] == [ME.agent_id]
    assert told(effects, lifeline.Idle) == [lifeline.Idle(warm=True)]
    assert machine.deadline(daemon) == 30.0


def test_what_an_earlier_life_left_is_secured_before_it_is_idle() -> None:
    daemon = fresh_daemon(recovering=True)
    daemon, effects = run(daemon, ChatUp())
    assert told(effects, lifeline.Ready)
    assert not told(effects, lifeline.Idle)
    daemon, effects = run(daemon, Recovered(trouble="no hub"))
    assert told(effects, lifeline.Trouble)
    assert isinstance(daemon.phase, Idle)
    daemon, effects = run(fresh_daemon(recovering=True), Recovered(), ChatUp())
    assert isinstance(daemon.phase, Idle)


def test_ready_is_said_once_and_unsettled_reports_are_said_again_in_order() -> None:
    owed = (Reported(finished("t-1")), Unclaimed("t-2", 3, "busy"))
    daemon, effects = run(fresh_daemon(unsettled=owed), ChatUp())
    said = [e.message for e in effects if hasattr(e, "message")]
    assert [type(m).__name__ for m in said] == ["TaskDone", "Unclaim"]
    daemon, effects = run(daemon, ChatDown("gone"), ChatUp())
    assert not told(effects, lifeline.Ready)
    assert len(messages(effects, work.TaskDone)) == 1


def test_a_late_beat_is_not_made_up_for() -> None:
    daemon, effects = run(idle_daemon(), Tick(), now=500.0)
    assert len(told(effects, lifeline.Beat)) == 1
    assert daemon.beat_at == 530.0
    daemon, _ = run(daemon, Told(replace_tuning(heartbeat_seconds=1.0)), now=501.0)
    assert daemon.beat_at == 502.0


def replace_tuning(**fields: float) -> lifeline.Tuning:
    return lifeline.Tuning(**{"heartbeat_seconds": 30.0, **fields}, coordinators=(COORDINATOR,))  # type: ignore[arg-type]


# -- the whole story -----------------------------------------------------------------------------


def test_from_assignment_to_settled_report() -> None:
    daemon, effects = run(idle_daemon(), assign())
    assert of(effects, SaveFences) == [SaveFences({"t-1": 1})]
    assert told(effects, lifeline.Promote) == [lifeline.Promote("t-1", 1, COORDINATOR)]
    assert effects.index(SaveFences({"t-1": 1})) == 0, "kept before anything is done under it"

    daemon, effects = run(daemon, grant())
    assert len(of(effects, Launch)) == 1

    daemon, effects = run(daemon, BEGAN)
    assert told(effects, lifeline.Started)[0].session_pid == 101
    assert [s.phase for s in messages(effects, work.Status)] == ["started"]
    daemon, effects = run(daemon, Tick(), now=31.0)
    assert told(effects, lifeline.Beat)[0].task == "t-1"

    daemon, effects = run(daemon, SessionOver())
    assert of(effects, Secure)[0].ended_by is None
    daemon, effects = run(daemon, Secured(finished()))
    assert of(effects, Record) == [Record(Reported(finished()))]
    assert not told(effects, lifeline.Ended)
    daemon, effects = run(daemon, Recorded(("t-1", 1)))
    assert told(effects, lifeline.Ended)[0].finished == finished()
    assert len(messages(effects, work.TaskDone)) == 1
    assert told(effects, lifeline.Idle)
    assert daemon.unsettled == (Reported(finished()),)

    daemon, effects = run(daemon, heard(Settled(agentId=ME.agent_id, task=TaskRef("t-1"), fence=1)))
    assert of(effects, Settle) == [Settle("t-1", 1)]
    assert daemon.unsettled == ()


@pytest.mark.parametrize(
    ("report", "kind"),
    [
        (finished(), work.TaskDone),
        (finished(outcome=Outcome.FAILED), work.TaskFail),
        (finished(outcome=Outcome.QUOTA), work.TaskFail),
        (finished(outcome=Outcome.DENIED), work.Blocked),
        (lifeline.Finished("t-1", 1, Outcome.SUCCEEDED, needs_human=True), work.Blocked),
    ],
)
def test_how_an_outcome_is_reported(report: lifeline.Finished, kind: type) -> None:
    daemon, _ = run(active_daemon(), SessionOver(), Secured(report))
    _, effects = run(daemon, Recorded(("t-1", 1)))
    (said,) = messages(effects, kind)
    assert (said.outcome, said.fence, said.agentId) == (report.outcome, 1, ME.agent_id)


# -- whom it obeys -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        Heard("9" * 16, Assign(agentId=ME.agent_id, task=TaskRef("t-1"), fence=1)),
        Heard(COORDINATOR, Assign(agentId=ME.agent_id, task=TaskRef("t-1"), fence=1), replay=True),
        assign(agent="b" * 16),
    ],
    ids=["a stranger's", "a replayed one", "another agent's"],
)
def test_an_assignment_it_does_not_obey(event: Heard) -> None:
    assert run(idle_daemon(), event) == (idle_daemon(), ())


def test_it_obeys_only_fences_above_the_highest_it_has_seen() -> None:
    daemon = idle_daemon(fences={"t-1": 5})
    assert run(daemon, assign(fence=5)) == (daemon, ())
    _, effects = run(daemon, assign(fence=6))
    assert told(effects, lifeline.Promote)


def test_coordinators_are_a_live_setting() -> None:
    daemon, _ = run(
        idle_daemon(), Told(lifeline.Tuning(heartbeat_seconds=30.0, coordinators=("d" * 16,)))
    )
    assert run(daemon, assign())[1] == ()
    other = Heard("d" * 16, Assign(agentId="@" + ME.agent_id, task=TaskRef("t-1"), fence=1))
    assert told(run(daemon, other)[1], lifeline.Promote)


def test_an_assignment_sent_again_is_answered_as_before() -> None:
    promoting, _ = run(idle_daemon(), assign())
    assert run(promoting, assign()) == (promoting, ())
    active = active_daemon()
    daemon, effects = run(active, assign())
    assert daemon == active
    assert [s.phase for s in messages(effects, work.Status)] == ["started"]
    denied, _ = run(promoting, Told(Denied("t-1", 1, "paused", 7.0)))
    _, effects = run(denied, assign())
    assert [u.retry_after for u in messages(effects, work.Unclaim)] == [7.0]


def test_the_short_form_names_a_component() -> None:
    """``ASSIGN api <agent>``: what was announced of it says the rest."""
    announced = TaskRef(id="t-9", role="builder", component="api", prompt="build it")
    offer = work.TaskAvailable(task=announced, offer=(ME.name,))
    short = Assign(agentId=ME.agent_id, task=TaskRef(component="api"))
    daemon, effects = run(idle_daemon(), heard(offer), heard(short))
    assert told(effects, lifeline.Promote)[0].task == "t-9"
    _, effects = run(daemon, Told(Granted("t-9", 1)))
    assert of(effects, Launch)[0].job.work.prompt == "build it"
    daemon, effects = run(idle_daemon(), heard(short))
    assert told(effects, lifeline.Promote) == [lifeline.Promote("api", 1, COORDINATOR)]
    again, effects = run(daemon, heard(short))
    assert (again, effects) == (daemon, ()), "busy with it already"


def test_a_task_whose_id_cannot_name_a_file_is_refused() -> None:
    daemon, effects = run(idle_daemon(), assign(task="../../etc"))
    assert isinstance(daemon.phase, Idle)
    assert messages(effects, work.Unclaim)
    assert not of(effects, SaveFences)


def test_remembered_fences_are_bounded() -> None:
    daemon = idle_daemon()
    for n in range(orders.MAX_FENCES + 20):
        daemon, _ = run(daemon, assign(task=f"t-{n}"), Told(Denied(f"t-{n}", 1, "paused")))
        settled = Settled(agentId=ME.agent_id, task=TaskRef(f"t-{n}"), fence=1)
        daemon, _ = run(daemon, heard(settled))
    assert len(daemon.fences) == orders.MAX_FENCES
    assert f"t-{orders.MAX_FENCES + 19}" in daemon.fences
    assert isinstance(daemon.phase, Idle)


# -- giving back ---------------------------------------------------------------------------------


def test_denied_is_given_back_durably_and_uncounted() -> None:
    _, effects = run(idle_daemon(), assign(), Told(Denied("t-1", 1, "paused", 60.0)))
    assert of(effects, Record) == [Record(Unclaimed("t-1", 1, "paused", 60.0))]
    assert messages(effects, work.Unclaim)[0].reason == "paused"
    assert told(effects, lifeline.Idle)
    assert not of(effects, Launch)


def test_a_busy_agent_gives_a_second_assignment_back_and_works_on() -> None:
    daemon, effects = run(active_daemon(), assign(task="t-2"))
    assert isinstance(daemon.phase, Active)
    assert "busy with t-1" in messages(effects, work.Unclaim)[0].reason
    assert of(effects, Record)


def test_an_agent_that_must_not_run_sessions_says_why() -> None:
    me = replace(ME, refuses="the sandbox is required and this kernel has none")
    _, effects = run(idle_daemon(me=me), assign())
    assert "required" in messages(effects, work.Unclaim)[0].reason
    offer = work.TaskAvailable(task=TaskRef(id="t-1", role="builder"), offer=(me.name,))
    assert run(idle_daemon(me=me), heard(offer))[1] == ()


def test_a_supervisor_that_does_not_answer() -> None:
    daemon, _ = run(idle_daemon(), assign(), now=5.0)
    assert machine.deadline(daemon) == min(30.0, 5.0 + orders.PROMOTE_SECONDS)
    daemon, effects = run(daemon, Tick(), now=5.0 + orders.PROMOTE_SECONDS)
    assert messages(effects, work.Unclaim)
    daemon, effects = run(daemon, grant(), now=36.0)
    assert not of(effects, Launch), "a late grant starts nothing"


# -- the clone -----------------------------------------------------------------------------------


def test_the_clone_is_made_beforehand() -> None:
    daemon, effects = run(idle_daemon(hub=""), Told(Prepare(HUB)))
    assert of(effects, MakeClone) == [MakeClone(HUB, "shared")]
    daemon, effects = run(daemon, CloneMade(HUB))
    assert told(effects, lifeline.Idle) == [lifeline.Idle(warm=True)]
    assert run(daemon, Told(Prepare(HUB)))[1] == ()


def test_a_promotion_waits_for_a_clone() -> None:
    daemon, effects = run(idle_daemon(hub=""), assign(), grant())
    assert isinstance(daemon.phase, Preparing)
    assert len(of(effects, MakeClone)) == 1
    assert not of(effects, Launch)
    _, effects = run(daemon, CloneMade(HUB))
    assert of(effects, Launch)


def test_a_promotion_waits_for_another_hubs_clone_then_makes_its_own() -> None:
    daemon, effects = run(idle_daemon(hub=""), Told(Prepare("/other")), assign(), grant())
    assert [m.hub for m in of(effects, MakeClone)] == ["/other"]
    daemon, effects = run(daemon, CloneMade("/other"))
    assert [m.hub for m in of(effects, MakeClone)] == [HUB]
    _, effects = run(daemon, CloneMade(HUB))
    assert of(effects, Launch)


def test_a_clone_that_fails_is_no_attempt() -> None:
    daemon, effects = run(idle_daemon(hub=""), assign(), grant(), CloneFailed(HUB, "disk full"))
    assert "disk full" in messages(effects, work.Unclaim)[0].reason
    assert isinstance(daemon.phase, Idle)


def test_a_failed_clone_nobody_waits_for_is_tried_again() -> None:
    daemon, effects = run(idle_daemon(hub=""), Told(Prepare(HUB)), CloneFailed(HUB, "no"), now=5.0)
    assert told(effects, lifeline.Trouble)
    at = machine.deadline(replace(daemon, beat_at=1e9))
    assert at is not None
    daemon, effects = run(daemon, Tick(), now=at)
    assert of(effects, MakeClone)
    _, effects = run(daemon, CloneMade(HUB), now=at)
    assert told(effects, lifeline.Trouble) == [lifeline.Trouble("")]


def test_a_spoiled_clone_is_made_anew_once() -> None:
    spoiled = LaunchFailed("checkout failed", unprepared=True)
    daemon, _ = run(idle_daemon(), assign(), grant())
    daemon, effects = run(daemon, spoiled, SessionOver())
    assert of(effects, MakeClone) == [MakeClone(HUB, "shared", fresh=True, start="abc")]
    daemon, effects = run(daemon, CloneMade(HUB))
    assert of(effects, Launch)
    daemon, effects = run(daemon, spoiled, SessionOver())
    (record,) = of(effects, Record)
    assert isinstance(record.entry, Reported)
    assert record.entry.finished.outcome is Outcome.FAILED
    assert "checkout failed" in record.entry.finished.reason


def test_a_missing_program_is_a_failed_attempt_that_names_it() -> None:
    missing = LaunchFailed("claude: no such program")
    daemon, _ = run(idle_daemon(), assign(), grant(), missing)
    daemon, effects = run(daemon, SessionOver())
    (record,) = of(effects, Record)
    assert isinstance(record.entry, Reported)
    assert record.entry.finished.reason == "claude: no such program"
    _, effects = run(daemon, Recorded(("t-1", 1)))
    assert told(effects, lifeline.Ended)
    assert not told(effects, lifeline.Started)


def test_a_machine_without_room_for_a_session_is_no_failed_attempt() -> None:
    full = LaunchFailed("cannot start a session: Resource temporarily unavailable", ours=True)
    daemon, effects = run(idle_daemon(), assign(), grant(), full, SessionOver())
    (unclaim,) = messages(effects, work.Unclaim)
    assert "unavailable" in unclaim.reason
    assert unclaim.retry_after > 0
    assert isinstance(daemon.phase, Idle)
    assert not told(effects, lifeline.Ended)


# -- while it runs -------------------------------------------------------------------------------


def test_progress_is_told_now_and_then() -> None:
    daemon, effects = run(active_daemon(now=1.0), SessionSpoke("first"), now=2.0)
    assert effects == ()
    daemon, effects = run(daemon, SessionSpoke("a\nlong " + "x" * 900), now=6.5)
    (status,) = messages(effects, work.Status)
    assert status.phase == "working"
    assert len(status.text) <= 200
    assert "\n" not in status.text
    assert run(daemon, SessionSpoke("next"), now=7.0)[1] == ()


def test_spending_is_told_at_once_first_then_now_and_then() -> None:
    spent = SessionSpent(Usage(10, 2), None, "sid-1")
    daemon, effects = run(active_daemon(now=1.0), spent, now=1.0)
    assert told(effects, lifeline.Spent)[0].session_id == "sid-1"
    daemon, effects = run(daemon, spent, now=1.5)
    assert effects == ()
    _, effects = run(daemon, spent, now=4.0)
    assert told(effects, lifeline.Spent)


@pytest.mark.parametrize(
    ("limits", "spent", "over"),
    [
        ({"token_budget": 10}, SessionSpent(Usage(8, 3), None, None), True),
        ({"token_budget": 11}, SessionSpent(Usage(8, 3), None, None), False),
        ({"usd_budget": 0.5}, SessionSpent(Usage(), 0.6, None), True),
        ({"usd_budget": 0.5}, SessionSpent(Usage(9, 9), None, None), False),
    ],
)
def test_the_tasks_own_budget(limits: dict[str, float], spent: SessionSpent, over: bool) -> None:
    daemon, _ = run(idle_daemon(), assign(), grant(**limits), BEGAN)
    daemon, effects = run(daemon, spent)
    assert isinstance(daemon.phase, Ending) is over
    assert bool(of(effects, Terminate)) is over


def test_usage_reported_soon_after_other_usage_is_told_a_little_later() -> None:
    daemon, _ = run(active_daemon(now=1.0), SessionSpent(Usage(1, 1), None, None), now=2.0)
    daemon = replace(daemon, beat_at=1e9)
    daemon, effects = run(daemon, SessionSpent(Usage(9, 2), None, None), now=2.5)
    assert not effects
    assert machine.deadline(daemon) == 2.0 + attempt.SPENT_SECONDS
    daemon, effects = run(daemon, Tick(), now=2.0 + attempt.SPENT_SECONDS)
    assert [line.usage for line in told(effects, lifeline.Spent)] == [Usage(9, 2)]
    assert run(daemon, Tick(), now=60.0)[1] == ()


def test_a_foreign_coordinator_hears_that_its_lease_is_alive() -> None:
    asked = heard(Assign(agentId=ME.agent_id, task=TaskRef(id="t-1", prompt="do it"), fence=1,
                         lease_seconds=30.0))  # fmt: skip
    daemon, _ = run(idle_daemon(), asked, Told(Granted("t-1", 1, None)), BEGAN, now=1.0)
    daemon = replace(daemon, beat_at=1e9)
    assert machine.deadline(daemon) == 11.0
    daemon, effects = run(daemon, Tick(), now=11.0)
    (beat,) = [said.message for said in of(effects, Say)]
    assert beat == Heartbeat(agentId=ME.agent_id, task=TaskRef(id="t-1"), fence=1)
    assert machine.deadline(daemon) == 21.0


def test_our_own_coordinator_hears_it_by_the_lifeline_alone() -> None:
    asked = heard(Assign(agentId=ME.agent_id, task=TaskRef(id="t-1"), fence=1, lease_seconds=30.0))
    daemon, _ = run(idle_daemon(), asked, grant(), BEGAN, now=1.0)
    assert machine.deadline(replace(daemon, beat_at=1e9)) == 1e9


def test_over_its_time_it_gets_term_then_kill() -> None:
    tuning = replace_tuning(max_task_seconds=60.0, grace_seconds=5.0)
    daemon = active_daemon(now=1.0, tuning=tuning)
    daemon, effects = run(replace(daemon, beat_at=1e9), Tick(), now=61.0)
    assert of(effects, Terminate)
    assert machine.deadline(daemon) == 66.0
    daemon, effects = run(daemon, Tick(), now=66.0)
    assert of(effects, Kill)
    daemon, effects = run(daemon, SessionOver())
    assert of(effects, Secure)[0].ended_by is Outcome.TIMED_OUT


def test_a_quota_that_is_waited_for_ends_the_session_unless_it_gets_on() -> None:
    daemon, _ = run(active_daemon(now=1.0), SessionStuck(), now=2.0)
    gets_on, _ = run(daemon, SessionSpoke(""), now=3.0)
    assert run(gets_on, Tick(), now=20.0)[1] == ()
    daemon, effects = run(daemon, Tick(), now=2.0 + attempt.STUCK_SECONDS)
    assert of(effects, Terminate)
    _, effects = run(daemon, SessionOver())
    assert of(effects, Secure)[0].ended_by is Outcome.QUOTA


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.STALLED, Outcome.OVER_BUDGET])
def test_the_supervisor_ends_a_session(outcome: Outcome) -> None:
    end = Told(EndSession("t-1", 1, outcome, "because", 3.0))
    daemon, effects = run(active_daemon(), end)
    assert of(effects, Terminate)
    assert isinstance(daemon.phase, Ending)
    assert daemon.phase.kill_at == 8.0
    _, effects = run(daemon, SessionOver())
    assert (of(effects, Secure)[0].ended_by, of(effects, Secure)[0].reason) == (outcome, "because")
    other = Told(EndSession("t-1", 2, outcome, "", 0.0))
    assert run(active_daemon(), other) == (active_daemon(), ())


def test_a_session_ended_before_it_began_is_reported_all_the_same() -> None:
    end = Told(EndSession("t-1", 1, Outcome.CANCELLED, "asked", 3.0))
    for events in ((assign(),), (assign(), grant())):
        _, effects = run(idle_daemon(), *events, end, SessionOver())
        (record,) = of(effects, Record)
        assert isinstance(record.entry, Reported)
        assert record.entry.finished.outcome is Outcome.CANCELLED


def test_a_full_disk_keeps_the_report_until_it_is_written() -> None:
    daemon, _ = run(active_daemon(), SessionOver(), Secured(finished()))
    daemon, effects = run(daemon, RecordFailed(("t-1", 1), "No space left"), now=5.0)
    assert "No space" in told(effects, lifeline.Trouble)[0].text
    assert not told(effects, lifeline.Ended)
    daemon, effects = run(daemon, Tick(), now=5.0 + attempt.RETRY_DISK_SECONDS)
    assert of(effects, Record)
    daemon, effects = run(daemon, Recorded(("t-1", 1)))
    assert told(effects, lifeline.Trouble) == [lifeline.Trouble("")]
    assert told(effects, lifeline.Ended)


def test_an_unsettled_report_is_said_again_ever_less_often() -> None:
    daemon, _ = run(active_daemon(), SessionOver(), Secured(finished()), Recorded(("t-1", 1)))
    daemon = replace(daemon, beat_at=1e9)
    gaps = []
    at = 5.0
    for _ in range(6):
        due = machine.deadline(daemon)
        assert due is not None
        gaps.append(due - at)
        at = due
        daemon, effects = run(daemon, Tick(), now=at)
        assert len(messages(effects, work.TaskDone)) == 1
    assert gaps == [RESEND_SECONDS, 30, 60, 120, 240, 300]


# -- chat lost -----------------------------------------------------------------------------------


def test_a_session_works_on_without_the_chat() -> None:
    daemon, effects = run(active_daemon(), ChatDown("reset"))
    assert told(effects, lifeline.ChatState) == [lifeline.ChatState(False, reason="reset")]
    assert isinstance(daemon.phase, Active)
    daemon, effects = run(daemon, Tick(), now=31.0)
    assert told(effects, lifeline.Beat)[0].task == "t-1"


def test_five_failures_in_a_row_are_told() -> None:
    daemon = idle_daemon()
    reported = []
    for attempts in range(1, 11):
        daemon, effects = run(daemon, ChatFailing(attempts, "refused"))
        reported += [s.attempts for s in told(effects, lifeline.ChatState)]
    assert reported == [5, 10]


# -- leaving -------------------------------------------------------------------------------------


def test_an_idle_agent_leaves_at_once_and_closes_the_chat() -> None:
    daemon, effects = run(idle_daemon(), Told(Leave(10.0)))
    assert of(effects, CloseChat)
    daemon, effects = run(daemon, ChatClosed())
    assert effects == (Exit(0),)
    assert machine.deadline(daemon) is None


def test_leaving_interrupts_a_session_whose_task_is_queued_again() -> None:
    daemon, effects = run(active_daemon(), Told(Leave(10.0)))
    assert of(effects, Terminate)
    daemon, effects = run(daemon, SessionOver())
    secure = of(effects, Secure)[0]
    assert (secure.ended_by, secure.reason) == (Outcome.LOST, attempt.LEAVING_REASON)
    assert "swarm" not in secure.reason, "`agent stop`, and `scale`, end one agent alone"
    lost = finished(outcome=Outcome.LOST)
    daemon, effects = run(daemon, Secured(lost), Recorded(("t-1", 1)))
    assert told(effects, lifeline.Ended)
    assert not told(effects, lifeline.Idle)
    assert not of(effects, CloseChat), "a moment for the coordinator to settle"
    daemon, effects = run(daemon, heard(Settled(agentId=ME.agent_id, task=TaskRef("t-1"), fence=1)))
    assert of(effects, CloseChat)


def test_leaving_does_not_wait_long_for_a_coordinator() -> None:
    daemon, _ = run(active_daemon(), Told(Leave(10.0)), SessionOver())
    daemon, _ = run(daemon, Secured(finished()), Recorded(("t-1", 1)), now=20.0)
    daemon, effects = run(daemon, Tick(), now=20.0 + LINGER_SECONDS)
    assert of(effects, CloseChat)


def test_draining_lets_the_session_finish() -> None:
    daemon, effects = run(active_daemon(), Told(Leave(10.0, drain=True)))
    assert effects == ()
    daemon, effects = run(daemon, assign(task="t-2"))
    assert messages(effects, work.Unclaim)
    _, effects = run(daemon, Told(Leave(10.0)))
    assert of(effects, Terminate), "a stop without patience overrules it"
    daemon, effects = run(daemon, SessionOver(), Secured(finished()), Recorded(("t-1", 1)))
    assert not told(effects, lifeline.Idle)


def test_a_second_stop_skips_the_grace() -> None:
    daemon, _ = run(active_daemon(), Told(Leave(10.0)))
    daemon, effects = run(daemon, Told(Leave(0.0)))
    assert of(effects, Kill)
    _, effects = run(active_daemon(), Told(Leave(0.0)))
    assert of(effects, Kill)


def test_leaving_before_the_session_began_gives_the_task_back() -> None:
    for events in ((assign(),), (assign(), grant())):
        _, effects = run(
            idle_daemon(hub=""), *events, Told(Leave(10.0)), CloneMade(HUB), SessionOver()
        )
        assert messages(effects, work.Unclaim)[0].reason == attempt.LEAVING_REASON
        assert not of(effects, Launch)


def test_leaving_while_starting() -> None:
    _, effects = run(fresh_daemon(), Told(Leave(10.0)))
    assert of(effects, CloseChat)
    daemon, effects = run(fresh_daemon(recovering=True), Told(Leave(10.0)))
    assert effects == ()
    _, effects = run(daemon, Recovered())
    assert of(effects, CloseChat)


@pytest.mark.parametrize("make", [fresh_daemon, idle_daemon, active_daemon])
def test_the_end_of_the_lifeline_kills_and_exits(make: object) -> None:
    daemon = make()  # type: ignore[operator]
    daemon, effects = run(daemon, LifelineLost())
    assert effects == (Kill(), Exit(0))
    assert run(daemon, Tick(), assign()) == (daemon, ())


def test_a_task_of_a_foreign_coordinator_brings_its_own_prompt() -> None:
    told_all = Assign(
        agentId=ME.agent_id, task=TaskRef("x1", component="api", prompt="do"), fence=4
    )
    daemon, _ = run(idle_daemon(), heard(told_all))
    assert isinstance(daemon.phase, Promoting)
    _, effects = run(daemon, Told(Granted("x1", 4)))
    job = of(effects, Launch)[0].job
    assert (job.work.prompt, job.work.attempt, job.work.repo) == ("do", 4, None)
    silent = Assign(agentId=ME.agent_id, task=TaskRef("x2"), fence=1)
    _, effects = run(idle_daemon(), heard(silent), Told(Granted("x2", 1)))
    assert "no prompt" in messages(effects, work.Unclaim)[0].reason


def test_starting_has_a_name_in_refusals() -> None:
    daemon = fresh_daemon(recovering=True)
    daemon, _ = run(daemon, ChatUp())
    assert daemon.phase == Starting(recovering=True)
    _, effects = run(daemon, assign())
    assert "starting" in messages(effects, work.Unclaim)[0].reason
    assert TUNING.coordinators == (COORDINATOR,)

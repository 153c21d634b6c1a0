"""The probe of a quota: one small session without a task, in a daemon that takes none meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from daemon_bench import SCRIPTED, Bench, channel, daemon
from daemon_values import BEGAN, HUB, assign, finished, heard, idle_daemon, messages, of, told
from supervisor_world import children, gone
from tests_support import eventually_async

from swarm.core.model import Outcome
from swarm.daemon import machine, probing
from swarm.daemon.state import (
    CloneMade,
    Daemon,
    Effect,
    Event,
    Gone,
    Idle,
    Kill,
    Launch,
    LaunchFailed,
    Leaving,
    Probing,
    Secure,
    Secured,
    SessionOver,
    SessionSpoke,
    SessionStuck,
    Terminate,
    Tick,
    Told,
)
from swarm.wire import lifeline, work
from swarm.wire.lifeline import Leave, Prepare, Probe, Probed
from swarm.wire.spawn import RuntimeSpec


def play(daemon: Daemon, *events: Event, at: float = 1.0) -> tuple[Daemon, tuple[Effect, ...]]:
    effects: tuple[Effect, ...] = ()
    for event in events:
        daemon, more = machine.step(daemon, event, at)
        effects += more
    return daemon, effects


def probing_daemon() -> tuple[Daemon, tuple[Effect, ...]]:
    return play(idle_daemon(), Told(Probe(7)))


def ended(outcome: Outcome, reason: str = "") -> Secured:
    return Secured(finished("probe-7", 7, outcome, reason))


def test_an_idle_daemon_runs_it_without_a_repository_and_answers() -> None:
    daemon, effects = probing_daemon()
    (launch,) = of(effects, Launch)
    assert launch.job.probe
    assert (launch.job.work.repo, launch.job.work.task) == (None, "probe-7")
    assert launch.job.work.prompt == "Reply with the single word ok."
    daemon, effects = play(daemon, BEGAN, SessionOver())
    assert not effects[:-1]
    assert of(effects, Secure)
    daemon, effects = play(daemon, ended(Outcome.SUCCEEDED))
    assert told(effects, Probed) == [Probed(7, Outcome.SUCCEEDED)]
    assert isinstance(daemon.phase, Idle)
    assert told(effects, lifeline.Idle)


def test_nobody_else_hears_of_it() -> None:
    daemon, effects = probing_daemon()
    daemon, more = play(
        daemon, BEGAN, SessionSpoke("ok"), SessionOver(), ended(Outcome.QUOTA, "used up")
    )
    effects += more
    assert not told(effects, lifeline.Started)
    assert not told(effects, lifeline.Spent)
    assert not told(effects, lifeline.Ended)
    assert not messages(effects, work.Status)
    assert told(effects, Probed) == [Probed(7, Outcome.QUOTA, "used up")]
    assert daemon.unsettled == ()


def takes_no_task() -> None:
    daemon, _ = probing_daemon()
    offer = work.TaskAvailable(task=work.TaskRef("t-1", role="builder"), offer=(daemon.me.name,))
    daemon, effects = play(daemon, heard(offer))
    assert not messages(effects, work.Claim)
    daemon, effects = play(daemon, assign())
    assert not told(effects, lifeline.Promote), "it asked to be promoted"
    (back,) = messages(effects, work.Unclaim)
    assert "probing" in back.reason
    assert isinstance(daemon.phase, Probing)


def test_meanwhile_it_takes_no_task() -> None:
    takes_no_task()


@pytest.mark.parametrize("how", ["busy", "leaving", "starting"])
def test_who_is_not_idle_says_so_at_once(how: str) -> None:
    daemon = idle_daemon()
    if how == "busy":
        daemon, _ = play(daemon, assign())
    elif how == "leaving":
        daemon, _ = play(daemon, Told(Leave(1.0)))
    else:
        daemon, _ = play(daemon, Told(Probe(6)))
    before = daemon.phase
    daemon, effects = play(daemon, Told(Probe(7)))
    (answer,) = told(effects, Probed)
    assert (answer.id, answer.outcome) == (7, Outcome.CANCELLED)
    assert daemon.phase == before


def ends_in_time() -> None:
    daemon, _ = probing_daemon()
    daemon, effects = play(daemon, Tick(), at=100.0)
    assert not of(effects, Terminate)
    daemon, effects = play(daemon, Tick(), at=122.0)
    assert of(effects, Terminate), "it goes on for ever"
    daemon, effects = play(daemon, Tick(), at=140.0)
    assert of(effects, Kill)
    daemon, effects = play(daemon, SessionOver(), at=141.0)
    (secure,) = of(effects, Secure)
    assert secure.ended_by is Outcome.TIMED_OUT


def test_it_is_ended_after_two_minutes() -> None:
    ends_in_time()


def test_one_that_only_waits_for_its_quota_is_ended_soon_unless_it_gets_on() -> None:
    daemon, _ = probing_daemon()
    daemon, _ = play(daemon, BEGAN, SessionStuck())
    daemon, _ = play(daemon, SessionSpoke("ok"), at=2.0)
    assert machine.deadline(daemon) == 30.0  # its next beat
    daemon, _ = play(daemon, SessionStuck(), at=3.0)
    daemon, effects = play(daemon, Tick(), at=6.5)
    assert of(effects, Terminate)
    daemon, effects = play(daemon, SessionOver(), at=7.0)
    (secure,) = of(effects, Secure)
    assert secure.ended_by is Outcome.QUOTA


def test_a_program_that_cannot_be_started_is_a_failure_and_says_why() -> None:
    daemon, _ = probing_daemon()
    daemon, effects = play(daemon, LaunchFailed("no such program"), SessionOver())
    assert told(effects, Probed) == [Probed(7, Outcome.FAILED, "no such program")]
    assert isinstance(daemon.phase, Idle)


@pytest.mark.parametrize("drain", [False, True])
def test_told_to_leave_it_is_killed_and_the_daemon_goes(drain: bool) -> None:
    daemon, _ = probing_daemon()
    daemon, effects = play(daemon, BEGAN, Told(Leave(10.0, drain=drain)))
    assert of(effects, Kill)
    daemon, effects = play(daemon, SessionOver(), ended(Outcome.CANCELLED))
    assert told(effects, Probed)[0].outcome is Outcome.CANCELLED
    assert isinstance(daemon.phase, Leaving | Gone)


def test_a_clone_wanted_meanwhile_is_made_after() -> None:
    daemon, _ = play(idle_daemon(hub=""), Told(Probe(7)), Told(Prepare(HUB)))
    assert isinstance(daemon.phase, Probing)
    daemon, _ = play(daemon, SessionOver(), ended(Outcome.SUCCEEDED))
    assert daemon.cloning == HUB
    daemon, _ = play(daemon, Told(Probe(8)), CloneMade(HUB))
    assert isinstance(daemon.phase, Probing)
    assert daemon.hub == HUB


def test_a_probe_without_an_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PROBE_SECONDS", 1e9)
    with pytest.raises(AssertionError):
        ends_in_time()


def test_a_daemon_that_takes_tasks_while_it_probes_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine.orders, "_unable", lambda _daemon: "")
    with pytest.raises(AssertionError):
        takes_no_task()


# -- in a real daemon ----------------------------------------------------------------------------


def provider(place: Bench) -> tuple[Path, RuntimeSpec]:
    """A provider whose quota is used up while that file is there."""
    used_up = place.base / "quota"
    used_up.parent.mkdir(parents=True, exist_ok=True)
    env = {"SCRIPTED_QUOTA": str(used_up)}
    return used_up, RuntimeSpec("scripted", "scripted", SCRIPTED, env=env)


async def test_a_dozing_daemon_wakes_for_it_and_leaves_nothing(place: Bench) -> None:
    used_up, runtime = provider(place)
    tomorrow = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    used_up.write_text(tomorrow.strftime("%Y-%m-%dT%H:%M:%SZ"))
    async with channel(place), daemon(place.spec(runtime=runtime, read=(str(used_up),))) as boss:
        await boss.next(lifeline.Idle)
        boss.tell(Probe(1))
        first = await boss.next(Probed)
        assert (first.id, first.outcome) == (1, Outcome.QUOTA)
        assert first.retry_at == tomorrow.timestamp()
        used_up.unlink()
        boss.tell(Probe(2))
        second = await boss.next(Probed, lambda line: line.id == 2)
        assert second.outcome is Outcome.SUCCEEDED
        assert not boss.heard(lifeline.Started)
        assert not boss.heard(lifeline.Spent)
        assert not (place.workspace / ".agentctl" / "current.json").exists()
        assert not (place.workspace / "repo").exists()
        assert not list((place.home / "logs").rglob("*.jsonl"))
        assert "probe" not in (place.workspace / "context.md").read_text()


async def test_a_probe_dies_with_its_daemon(place: Bench) -> None:
    pids = place.base / "out"
    script = f"import os,time; open({str(pids)!r},'w').write(str(os.getpid())); time.sleep(600)"
    runtime = RuntimeSpec("scripted", "scripted", (SCRIPTED[0], "-c", script))
    place.base.mkdir(parents=True)
    async with channel(place), daemon(place.spec(runtime=runtime, sandbox="off")) as boss:
        await boss.next(lifeline.Idle)
        boss.tell(Probe(1))
        await eventually_async(lambda: pids.exists() and pids.read_text(), 10.0)
        (tree,) = children(boss.process.pid)
        boss.process.kill()
        await eventually_async(lambda: gone(tree), 5.0)

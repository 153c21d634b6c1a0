"""Which announcements a daemon claims, and when."""

from __future__ import annotations

import pytest
from daemon_values import COORDINATOR, ME, NAME, heard, idle_daemon, messages

from swarm.daemon import claims, machine
from swarm.daemon.state import Claiming, Heard, Idle, Tick
from swarm.wire import work
from swarm.wire.work import Assign, Rejected, TaskAvailable, TaskRef

TASK = TaskRef(id="t-1", role="builder", component="api")


def available(**fields: object) -> TaskAvailable:
    return TaskAvailable(task=TASK, **{"offer": (NAME,), "idle": 10, "slot_ms": 100, **fields})  # type: ignore[arg-type]


def test_an_offered_agent_claims_at_once() -> None:
    daemon, effects = machine.step(idle_daemon(), heard(available()), 10.0)
    assert [m.task.id for m in messages(effects, work.Claim)] == ["t-1"]
    assert isinstance(daemon.phase, Claiming)


def test_others_wait_their_place_in_the_spread() -> None:
    daemon, effects = machine.step(idle_daemon(), heard(available(offer=("someone",))), 10.0)
    assert not messages(effects, work.Claim)
    at = machine.deadline(daemon)
    place = claims.fraction("t-1", ME.agent_id) * 10 * 0.1
    assert at == pytest.approx(10.0 + place)
    daemon, effects = machine.step(daemon, Tick(), 10.0 + place)
    assert messages(effects, work.Claim)


def test_hearing_that_another_has_it_keeps_us_quiet() -> None:
    daemon, _ = machine.step(idle_daemon(), heard(available(offer=("someone",))), 10.0)
    daemon, _ = machine.step(daemon, heard(Assign(agentId="f" * 16, task=TASK, fence=1)), 10.01)
    daemon, effects = machine.step(daemon, Tick(), 12.0)
    assert not messages(effects, work.Claim)
    assert isinstance(daemon.phase, Idle)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(Heard("9" * 16, available()), id="a stranger's"),
        pytest.param(Heard(COORDINATOR, available(), replay=True), id="a replayed one"),
        pytest.param(
            heard(TaskAvailable(task=TaskRef(id="t-1", role="qa"), offer=(NAME,))), id="role"
        ),
        pytest.param(
            heard(TaskAvailable(task=TaskRef(id="../x", role="builder"), offer=(NAME,))), id="id"
        ),
    ],
)
def test_what_is_not_claimed(event: Heard) -> None:
    daemon, effects = machine.step(idle_daemon(), event, 10.0)
    assert effects == ()
    assert daemon == idle_daemon()


def test_a_role_it_takes_too_and_one_nobody_named() -> None:
    for role in ("general", ""):
        task = TaskRef(id="t-1", role=role)
        _, effects = machine.step(
            idle_daemon(), heard(TaskAvailable(task=task, offer=(NAME,))), 10.0
        )
        assert messages(effects, work.Claim), role


def test_one_claim_at_a_time_and_the_next_when_it_failed() -> None:
    daemon, _ = machine.step(idle_daemon(), heard(available()), 10.0)
    second = TaskAvailable(task=TaskRef(id="t-2", role="builder"), offer=(NAME,))
    daemon, effects = machine.step(daemon, heard(second), 10.1)
    assert not messages(effects, work.Claim)
    daemon, effects = machine.step(daemon, heard(Rejected(agentId=ME.agent_id, task=TASK)), 10.2)
    assert [m.task.id for m in messages(effects, work.Claim)] == ["t-2"]


def test_a_claim_nobody_answers_is_forgotten() -> None:
    daemon, _ = machine.step(idle_daemon(), heard(available()), 10.0)
    daemon, _ = machine.step(daemon, Tick(), 10.0 + claims.CLAIM_SECONDS)
    assert isinstance(daemon.phase, Idle)


def test_the_spread_is_even_and_bounded() -> None:
    places = sorted(claims.fraction("t-1", f"{n:016x}") for n in range(1000))
    assert places[0] >= 0
    assert places[-1] < 1
    assert all(sum(n / 10 <= p < (n + 1) / 10 for p in places) > 60 for n in range(10))
    greedy = available(offer=(), idle=10**9, slot_ms=10**9)
    daemon, _ = machine.step(idle_daemon(), heard(greedy), 10.0)
    assert (machine.deadline(daemon) or 0) <= 10.0 + claims.MAX_SPREAD_SECONDS


def test_few_announcements_are_remembered() -> None:
    daemon = idle_daemon()
    for n in range(50):
        task = TaskRef(id=f"t-{n}", role="builder")
        daemon, _ = machine.step(daemon, heard(TaskAvailable(task=task, idle=1000)), 10.0)
    assert len(daemon.held) <= claims.MAX_HELD


def test_the_look_at_the_raw_text_misses_nothing_that_matters() -> None:
    daemon = idle_daemon()
    assert claims.worth_reading(work.encode(available()), daemon)
    mine = Assign(agentId=ME.agent_id, task=TASK, fence=3)
    assert claims.worth_reading(work.encode(mine), daemon)
    assert claims.worth_reading(f"ASSIGN api @{ME.agent_id}", daemon)
    other = work.encode(Assign(agentId="f" * 16, task=TASK, fence=3))
    assert not claims.worth_reading(other, daemon)
    holding, _ = machine.step(daemon, heard(available(offer=())), 10.0)
    assert claims.worth_reading(other, holding)
    assert not claims.worth_reading("good morning", holding)


@pytest.mark.parametrize("text", ["", "-x", "a/b", "..", "a.lock", "a b", "ä", "x" * 65, "_a"])
def test_what_names_no_task(text: str) -> None:
    assert not claims.is_task_id(text)


@pytest.mark.parametrize("text", ["t-k3f9x2ab", "a", "T_1", "x" * 64])
def test_what_names_a_task(text: str) -> None:
    assert claims.is_task_id(text)

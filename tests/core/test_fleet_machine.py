"""The fleet's properties against an adversary, and bugs planted to see each of them caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from fleet_machine import FleetMachine, walk_many
from fleet_plays import Work
from hypothesis import HealthCheck, settings

from swarm.core import (
    fleet_agents,
    fleet_disk,
    fleet_lives,
    fleet_orders,
    fleet_quota,
    fleet_scale,
    fleet_state,
    fleet_stop,
    fleet_work,
)
from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e

LEAN = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

TestFleetMachine = FleetMachine.TestCase
TestFleetMachine.settings = LEAN

Plant = Callable[[pytest.MonkeyPatch], None]


def gate_counts_one_less(patch: pytest.MonkeyPatch) -> None:
    honest = fleet_state.FleetState.gate
    patch.setattr(
        fleet_state.FleetState, "gate", lambda self: replace(honest(self), active=self.active - 1)
    )


def assignment_of_anybody_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet_work, "_work_for", lambda _fleet, _name, asking: (Work(asking.task), True))


def tree_is_left_alone(patch: pytest.MonkeyPatch) -> None:
    def exited(state: fleet_state.FleetState, event: e.Exited) -> None:
        agent = state.agents.get(event.name)
        if agent is None:
            fleet_lives._service_exited(state, event)
        else:
            fleet_lives.down(state, agent, event.status)

    patch.setattr(fleet_lives, "exited", exited)


def life_hears_of_the_exit_too_early(patch: pytest.MonkeyPatch) -> None:
    honest = fleet_lives.exited

    def exited(state: fleet_state.FleetState, event: e.Exited) -> None:
        honest(state, event)
        agent = state.agents.get(event.name)
        if agent is not None and isinstance(agent.work, fleet_agents.Cleaning):
            state.live(event.name, fleet_lives.life.Exited(event.status))

    patch.setattr(fleet_lives, "exited", exited)


def loss_is_not_told(patch: pytest.MonkeyPatch) -> None:
    honest = fleet_state.FleetState.tell

    def tell(self: fleet_state.FleetState, *effects: fx.Effect) -> None:
        honest(self, *(x for x in effects if not isinstance(x, fx.TellLost)))

    patch.setattr(fleet_state.FleetState, "tell", tell)


def report_is_told_twice(patch: pytest.MonkeyPatch) -> None:
    honest = fleet_work._reported

    def reported(state: fleet_state.FleetState, name: str, report: e.Report) -> None:
        honest(state, name, report)
        honest(state, name, report)

    patch.setattr(fleet_work, "_reported", reported)


def scale_stops_the_busy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet_agents.Agent, "busy", property(lambda self: False))


def coordinators_death_voids_nothing(patch: pytest.MonkeyPatch) -> None:
    def lost(state: fleet_state.FleetState) -> None:
        state.linked = False
        state.told = {}
        state.told_slots = None

    patch.setattr(fleet_lives, "lost_coordinator", lost)


def services_leave_with_the_daemons(patch: pytest.MonkeyPatch) -> None:
    honest = fleet_stop.advance_stop

    def advance(state: fleet_state.FleetState) -> None:
        if state.stop is not None and state.stop.stage == "daemons":
            state.stop.stage = "services"
        honest(state)

    patch.setattr(fleet_stop, "advance_stop", advance)


def deaths_are_not_told(patch: pytest.MonkeyPatch) -> None:
    honest = fleet_state.FleetState.tell_changes

    def tell(self: fleet_state.FleetState) -> None:
        honest(self)
        self.effects = [x for x in self.effects if not isinstance(x, fx.TellGone)]

    patch.setattr(fleet_state.FleetState, "tell_changes", tell)


def janitor_is_never_done(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet_scale, "tidied", lambda _fleet, _event: None)


def stop_grants_still(patch: pytest.MonkeyPatch) -> None:
    honest = fleet_state.FleetState.gate
    patch.setattr(
        fleet_state.FleetState, "gate", lambda self: replace(honest(self), stopping=False)
    )


def agent_stop_is_answered_twice(patch: pytest.MonkeyPatch) -> None:
    honest = fleet_orders.answer_gone

    def answer(state: fleet_state.FleetState) -> None:
        kept = {name: list(replies) for name, replies in state.waiting_gone.items()}
        honest(state)
        state.waiting_gone.update(kept)

    patch.setattr(fleet_orders, "answer_gone", answer)


def the_parked_are_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet_state.FleetState, "closed", lambda _self, _agent: "")


def anybody_probes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet_quota, "_prober", lambda fleet, _one: next(iter(fleet.agents), None))


def a_probes_tree_is_left_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet_lives, "prober_died", lambda _fleet, _name: None)


def clean_up_comes_before_the_agents(patch: pytest.MonkeyPatch) -> None:
    honest = fleet_disk.settle

    def settle(state: fleet_state.FleetState) -> None:
        known, state.started_daemons = state.started_daemons, True
        honest(state)
        state.started_daemons = known

    patch.setattr(fleet_disk, "settle", settle)


MUTANTS: tuple[Plant, ...] = (
    gate_counts_one_less,
    assignment_of_anybody_counts,
    tree_is_left_alone,
    life_hears_of_the_exit_too_early,
    loss_is_not_told,
    report_is_told_twice,
    scale_stops_the_busy,
    coordinators_death_voids_nothing,
    services_leave_with_the_daemons,
    deaths_are_not_told,
    janitor_is_never_done,
    stop_grants_still,
    agent_stop_is_answered_twice,
    the_parked_are_open,
    anybody_probes,
    a_probes_tree_is_left_alone,
    clean_up_comes_before_the_agents,
)


STORIES = 400
"""Seeded stories told to each planted bug, at most; most are found within ten."""


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        walk_many(STORIES)


def test_the_honest_fleet_has_nothing_to_find() -> None:
    walk_many(60)

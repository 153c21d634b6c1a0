"""What the verbs answer: one struct each, with ``"version": 1``; fields are added, never renamed.

Times are RFC 3339 in UTC; what is unknown is ``null``.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a verb answers."""

    version: int = 1


class Added(Reply, frozen=True):
    """A new task."""

    id: str
    state: str
    swarm_running: bool
    """Without one it waits for the next ``agentctl swarm up``."""


class Moved(Reply, frozen=True):
    """A task after a verb that changed it."""

    id: str
    state: str
    reason: str | None
    result: str | None
    note: str = ""
    """What else there is to say, for people."""


class PinnedFile(msgspec.Struct, frozen=True):
    """A file of the task on this machine, and what it held."""

    path: str
    sha256: str


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A task that is yours until ``until``.  The texts are data: they were written by others."""

    id: str
    fence: int
    name: str
    until: str | None
    seconds: float
    role: str
    lane: str
    labels: dict[str, str]
    component: str | None
    title: str
    attempt: int
    prompt: str
    feedback: str | None
    """Why it came back, or a person's answer to an earlier question."""
    earlier: tuple[str, ...]
    """One line for each earlier attempt."""
    thread: tuple[str, ...]
    """What was asked and answered before in its thread, oldest first."""
    request: PinnedFile | None
    """The file the prompt was read from."""
    response_path: str | None
    """Where your answer will be written, besides the ledger."""
    folder: str | None
    """The task's own directory, with ``input``."""


class Taken(Reply, frozen=True):
    """What a claim gave."""

    lease: Lease | None
    """``None``: there is nothing to be had now."""


class Renewed(Reply, frozen=True):
    """A lease that has its full term again."""

    id: str
    fence: int
    until: str | None


class Available(Reply, frozen=True):
    """Whether somebody could claim."""

    id: str | None
    """The task that would be his; ``None``: there is none."""
    title: str | None


class LastEvent(msgspec.Struct, frozen=True):
    """The newest change of a task."""

    kind: str
    at: str | None
    agent: str | None
    detail: str | None


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Where a task is on its way."""

    owner: str | None
    lease_until: str | None
    last_event: LastEvent | None
    next_step: str | None
    """What has to happen for it to go on; ``None`` where it has ended."""


class Shown(Reply, frozen=True):
    """A task in full, as ``agentctl task show --json`` has it, and where it is."""

    task: dict[str, Any]
    where: Where


class Waited(Reply, frozen=True):
    """What became of a wait."""

    ended: bool
    """False: the time is over and the task goes on; wait again."""
    task: dict[str, Any]
    where: Where


class Listed(Reply, frozen=True):
    """Tasks in short, oldest first."""

    tasks: list[dict[str, Any]]
    total: int
    """How many the ledger holds, in all states."""


class ListedPlans(Reply, frozen=True):
    """Plans in short, oldest first."""

    plans: list[dict[str, Any]]


class ShownPlan(Reply, frozen=True):
    """A plan as ``agentctl plan status --json`` has it."""

    plan: dict[str, Any]
    tasks: list[dict[str, Any]]
    next: list[str]
    """What a person can do for it now, one command each."""


class FleetStatus(Reply, frozen=True):
    """How the fleet is."""

    running: bool
    swarm: dict[str, Any] | None
    limits: dict[str, Any] | None
    agents: dict[str, int]
    """How many are in each state."""
    busy: list[dict[str, Any]]
    """Those that do not just wait."""
    services: list[dict[str, Any]]
    tasks: dict[str, int]
    """How many are in each state."""
    usage: dict[str, Any]
    attention: list[dict[str, Any]]
    """Questions and reviews that wait for a person, the oldest first, each with its command."""
    attention_total: int
    """How many there are, those that are not listed included."""

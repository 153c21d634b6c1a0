"""Looking at the fleet all the time: whether its status is true, and who comes back how soon."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from swarm.cli.screen import seconds_of
from swarm.cli.storm.invariants import Violation
from swarm.cli.storm.processes import Process, descriptors, memory_mb
from swarm.core.model import AgentState, ChildState

LIE_SECONDS = 3.0
"""How long a dead process may still be shown as living: long enough to be reaped and told of."""
BACK_SECONDS = 60.0
"""How long anything may take to be well again after a disturbance."""
MEMORY_MB = 200.0
"""Resident memory no process of the supervision may reach; a large fleet's supervisor has 60."""
DESCRIPTORS_EACH, DESCRIPTORS_MORE = 6, 60
"""Descriptors of the supervisor or a service: so many an agent, and so many in all."""
_WELL = frozenset({"idle", "promoting", "active", "demoting", "running"})
_LATE_LIMIT = 30.0
"""Seconds a lowered ``max_active`` may be exceeded by sessions that were there before."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """One subject that was disturbed and is not yet seen well again."""

    cause: str
    subject: str
    since: float
    """Monotonic seconds at which the disturbance was over."""
    wall: float
    """The same in Unix seconds."""
    killed: int = 0
    """The pid it may not come back with; 0 when it was not killed."""


@dataclass(slots=True)
class Watch:
    """What was seen so far.  ``began`` is the storm's beginning in monotonic seconds."""

    began: float
    violations: list[Violation] = field(default_factory=list)
    worst: dict[str, float] = field(default_factory=dict)
    """By disturbance: the longest time until its victim was well again."""
    waiting: dict[str, Recovery] = field(default_factory=dict)
    statuses: int = 0
    memory: dict[str, float] = field(default_factory=dict)
    open_files: dict[str, int] = field(default_factory=dict)
    _dead: dict[tuple[str, int], float] = field(default_factory=dict)
    _limits: list[tuple[float, int]] = field(default_factory=list)
    _told: set[tuple[str, str]] = field(default_factory=set)

    def say(self, rule: str, what: str, now: float) -> None:
        """Note a violation; the same one only once."""
        if (rule, what) not in self._told:
            self._told.add((rule, what))
            self.violations.append(Violation(rule, what, max(0.0, now - self.began)))

    # -- coming back ----------------------------------------------------------------------------

    def expect(self, recovery: Recovery) -> None:
        """From now on its subject is to come back; an earlier wish is forgotten."""
        self.waiting[recovery.subject] = recovery

    def returned(self, subject: str, now: float) -> None:
        """It is well again."""
        found = self.waiting.pop(subject, None)
        if found is not None:
            took = max(0.0, now - found.since)
            self.worst[found.cause] = max(took, self.worst.get(found.cause, 0.0))

    def _recovered(self, status: Mapping[str, Any], now: float) -> None:
        shown = {one["name"]: one for one in (*status["agents"], *status["services"])}
        for subject, recovery in list(self.waiting.items()):
            one = shown.get(subject)
            if one is None:
                if subject != "supervisor":  # scaled away meanwhile
                    del self.waiting[subject]
            elif _is_well(one, recovery):
                self.returned(subject, now)

    def overdue(self, now: float) -> None:
        """Complain about whoever has been away too long."""
        for subject, recovery in list(self.waiting.items()):
            if now - recovery.since > BACK_SECONDS:
                what = f"{subject} is not back {BACK_SECONDS:g} s after '{recovery.cause}'"
                self.say("everybody comes back", what, now)
                del self.waiting[subject]

    # -- the truth of a status --------------------------------------------------------------------

    def look(self, status: Mapping[str, Any], alive: Callable[[int], bool], now: float) -> None:
        """Check one answer of the supervisor; ``alive`` says whether a pid lives."""
        self.statuses += 1
        self._states(status, now)
        self._pids(status, alive, now)
        self._active(status, now)
        self._recovered(status, now)

    def _states(self, status: Mapping[str, Any], now: float) -> None:
        for kind, known in (("agents", set(AgentState)), ("services", set(ChildState))):
            for one in status[kind]:
                if one["state"] not in known:
                    self.say("status is true", f"{one['name']} is {one['state']!r}", now)
                if one["state"] in _WELL and one["pid"] is None:
                    self.say("status is true", f"{one['name']} is {one['state']}, no pid", now)
                if one["state"] == "degraded":
                    self.say("everybody comes back", f"{one['name']} is degraded", now)

    def _pids(self, status: Mapping[str, Any], alive: Callable[[int], bool], now: float) -> None:
        shown = {
            (one["name"], one["pid"])
            for one in (*status["agents"], *status["services"])
            if one["pid"] is not None
        }
        dead = {key for key in shown if not alive(key[1])}
        self._dead = {key: self._dead.get(key, now) for key in dead}
        for (name, pid), since in self._dead.items():
            if now - since > LIE_SECONDS:
                what = f"{name} is shown as pid {pid}, which is dead for {LIE_SECONDS:g} s"
                self.say("status is true", what, now)

    def _active(self, status: Mapping[str, Any], now: float) -> None:
        limit, active = status["limits"]["max_active"], status["swarm"]["active"]
        if not self._limits or self._limits[-1][1] != limit:
            self._limits.append((now, limit))
        ends = [at for at, _ in self._limits[1:]] + [now]
        valid = [n for (_, n), end in zip(self._limits, ends, strict=True)
                 if now - end <= _LATE_LIMIT]  # fmt: skip
        if active > max(valid):
            self.say("status is true", f"{active} are active, at most {max(valid)} may be", now)
        busy = sum(agent["state"] == "active" for agent in status["agents"])
        if busy > max(valid):
            self.say("status is true", f"{busy} agents work, at most {max(valid)} may", now)

    def frozen(self, seconds: float) -> None:
        """The supervisor could not know better for so long: it was stopped."""
        self._dead = {key: since + seconds for key, since in self._dead.items()}

    # -- processes --------------------------------------------------------------------------------

    def sessions(self, processes: Collection[Process], now: float) -> None:
        """At no time two sessions of one task."""
        fences: dict[str, set[str]] = defaultdict(set)
        for process in processes:
            _, _, rest = process.tree.partition(":")
            task, _, fence = rest.rpartition(":")
            if task and "scripted.py" in process.command:
                fences[task].add(fence)
        for task, found in fences.items():
            if len(found) > 1:
                what = f"{task} runs with the fences {', '.join(sorted(found))} at once"
                self.say("one session a task", what, now)

    def measure(self, name: str, process: Process, agents: int, now: float) -> None:
        """Memory and open files of one process of the supervision."""
        memory, files = memory_mb(process), descriptors(process)
        self.memory[name] = max(memory, self.memory.get(name, 0.0))
        self.open_files[name] = max(files, self.open_files.get(name, 0))
        if memory > MEMORY_MB:
            self.say("supervision is bounded", f"{name} has grown to {MEMORY_MB:g} MB", now)
        most = DESCRIPTORS_MORE + DESCRIPTORS_EACH * agents
        if files > most:
            self.say("supervision is bounded", f"{name} has more than {most} files open", now)

    def kinds(self) -> list[tuple[str, float]]:
        """Worst recoveries, the worst first."""
        return sorted(self.worst.items(), key=lambda item: -item[1])

    def counted(self) -> dict[str, int]:
        """How many violations of each rule."""
        named = sorted(violation.rule for violation in self.violations)
        return {rule: len(list(found)) for rule, found in itertools.groupby(named)}


def _is_well(one: Mapping[str, Any], recovery: Recovery) -> bool:
    if one["state"] not in _WELL or one["pid"] in (None, recovery.killed):
        return False
    if "last_heartbeat" not in one:
        return True  # a service: its state is all there is to see
    heard = seconds_of(one["last_heartbeat"])
    return heard is not None and heard >= recovery.wall

"""Who may take which task, pure: role, lane and labels of the task, and what a taker takes.

A role always takes its own tasks of the default lane.  Some labels must be offered
(:data:`~swarm.core.model.STRICT_LABELS`): a task that wants ``vendor=openai`` waits for somebody
who says so.  Any other label is free to use, and only minded by a taker that names its key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from swarm.core.model import STRICT_LABELS

ANY = "*"
"""Any lane, any value of a label."""
VENDORS = {"claude": "anthropic", "codex": "openai"}
"""Adapter → whose models it runs; the others run anybody's."""

Offered = Mapping[str, Collection[str]]
"""Label → the values that are taken."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a task wants of whoever takes it."""

    role: str
    lane: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Takes:
    """What somebody takes.  No ``roles`` at all is any role's tasks."""

    roles: frozenset[str] = frozenset()
    lanes: frozenset[str] = frozenset({""})
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def any_lane(self) -> bool:
        """Whether the lane does not matter to it."""
        return ANY in self.lanes


class Place(Protocol):
    """A task, or a queue of tasks that need the same."""

    @property
    def role(self) -> str:
        """Whose it is."""

    @property
    def lane(self) -> str:
        """Empty: the default one."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What it wants."""


def needs_of(place: Place) -> Needs:
    """What it needs of whoever takes it."""
    return Needs(place.role, place.lane, place.labels)


def role_takes(
    roles: Iterable[str], lanes: Iterable[str] = (), labels: Offered | None = None
) -> Takes:
    """What an agent of a fleet takes: ``roles`` are its own and those it takes besides.

    The default lane is always among its lanes.
    """
    offered = {key: frozenset(values) for key, values in (labels or {}).items()}
    return Takes(frozenset(roles), frozenset(lanes) | {""}, offered)


def outsider_takes(
    roles: Iterable[str] = (), lane: str = "", labels: Mapping[str, str] | None = None
) -> Takes:
    """What somebody outside the fleet takes: one lane (``"*"``: any); ``labels`` is its offer."""
    offered = {key: frozenset({value}) for key, value in (labels or {}).items()}
    return Takes(frozenset(roles), frozenset({lane}), offered)


def implied_labels(runtime: str, adapter: str, model: str) -> dict[str, tuple[str, ...]]:
    """The labels an agent offers by what it runs, declared or not."""
    labels: dict[str, tuple[str, ...]] = {"runtime": (runtime,)}
    if model:
        labels["model"] = (model,)
    if adapter in VENDORS:
        labels["vendor"] = (VENDORS[adapter],)
    return labels


def joined(*offered: Offered) -> dict[str, tuple[str, ...]]:
    """Everything these offer together, each key's values once and sorted."""
    keys = {key for one in offered for key in one}
    return {
        key: tuple(sorted({value for one in offered for value in one.get(key, ())}))
        for key in sorted(keys)
    }


def fits(takes: Takes, needs: Needs) -> str:
    """Why ``takes`` does not take a task that needs this; empty when it does."""
    if not _takes_role(takes, needs):
        return f"it is for role {needs.role}"
    if not _takes_lane(takes, needs):
        return f"it is in lane {needs.lane}" if needs.lane else "it is in no lane"
    missing = [f"{key}={value}" for key, value in _wanted(takes, needs)]
    return f"it wants {' '.join(missing)}" if missing else ""


def why_nobody(fleet: Iterable[Takes], needs: Needs) -> str:
    """Why none of them takes such a task, for people; empty when one does.

    Says the first thing that is missing everywhere, and what would mend it.
    """
    able = [takes for takes in fleet if _takes_role(takes, needs)]
    role = needs.role
    if not able:
        # Those that are down or degraded are not among them: a person sees them in the status.
        return (
            f"no agent that runs takes role {role}; see agentctl swarm status, or try: "
            f"agentctl swarm scale {role}=1"
        )
    able = [takes for takes in able if _takes_lane(takes, needs)]
    if not able:
        return (
            f"lane {needs.lane} is taken by no agent of this fleet; name it in the lanes of role "
            f"{role}, or take it: agentctl lane claim --lane {needs.lane}"
        )
    if not all(_wanted(takes, needs) for takes in able):
        return ""
    lacking = [
        (key, value)
        for key, value in sorted(needs.labels.items())
        if all((key, value) in _wanted(takes, needs) for takes in able)
    ]
    said = " ".join(f"{key}={value}" for key, value in lacking or sorted(needs.labels.items()))
    return f"no agent of this fleet that takes it offers {said}; see the labels of role {role}"


def _takes_role(takes: Takes, needs: Needs) -> bool:
    return not takes.roles or needs.role in takes.roles


def _takes_lane(takes: Takes, needs: Needs) -> bool:
    return takes.any_lane or needs.lane in takes.lanes


def _wanted(takes: Takes, needs: Needs) -> list[tuple[str, str]]:
    """The labels of the task that are minded and not offered, sorted."""
    return [
        (key, value)
        for key, value in sorted(needs.labels.items())
        if (key in STRICT_LABELS or key in takes.labels)
        and not takes.labels.get(key, frozenset()) & {value, ANY}
    ]

"""What a changed configuration changes, before anything is touched; and how a fleet is divided.

Settings come in as plain nested data (maps, sequences, scalars), as they are after validation,
with the roles' own settings under ``roles``.  Every change says when it counts (product, "Live on
reload"): at once, for newly spawned agents, or after a restart of the swarm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TypeAlias

Data: TypeAlias = Mapping[str, object]


class Applies(StrEnum):
    """When a changed key counts."""

    LIVE = "live"
    RESPAWN = "respawn"
    RESTART = "restart"


_NOTES = {
    Applies.LIVE: "",
    Applies.RESPAWN: " (for newly spawned agents)",
    Applies.RESTART: " (needs a restart of the swarm)",
}

_RULES: tuple[tuple[str, Applies], ...] = (
    (r"limits\..+", Applies.LIVE),
    (r"health\..+", Applies.LIVE),
    (r"restart\..+", Applies.LIVE),
    (r"stop\..+", Applies.LIVE),
    (r"agents\..+", Applies.LIVE),
    (r"persist", Applies.LIVE),  # read when the swarm stops
    (r"chat\.(coordinators|announcers)", Applies.LIVE),
    (r"roles\.[^.]+\.(limits|estimate)\..+", Applies.LIVE),
    (r"roles\.[^.]+\.takes", Applies.RESTART),  # the coordinator is told at its start
    (r"roles\.[^.]+\.(lanes|review|retries|retry_seconds)", Applies.LIVE),
    (r"roles\.[^.]+\.labels\..+", Applies.LIVE),
    (r"repo\.(merge|checks|check_minutes|publish|review|max_revisions)", Applies.LIVE),
    (r"(notify|inbox|keep)(\..+)?", Applies.LIVE),
    (r"api\..+", Applies.RESTART),
    (r"roles\..+", Applies.RESPAWN),
    (r"workspace_base", Applies.RESPAWN),
    (r"runtimes\..+", Applies.RESPAWN),
    (r"chat\.(url|listen|channel)", Applies.RESTART),
    (r"repo\..+", Applies.RESTART),  # the coordinator prepares its hub at its start
    (r"version", Applies.RESTART),
)
"""First match wins.  A test walks all settings and fails for a key that matches none."""

_SECRET = re.compile(r"(?:runtimes\.[^.]+\.env|roles\.[^.]+\.secrets)(?:\.|\Z)")


class _Missing:
    __slots__ = ()


_MISSING = _Missing()


@dataclass(frozen=True, slots=True)
class Change:
    """One key that differs; ``old`` and ``new`` as people read them."""

    path: str
    old: str
    new: str
    applies: Applies

    def __str__(self) -> str:
        return f"{self.path} {self.old} → {self.new}{_NOTES[self.applies]}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes, in the order of their paths."""

    changes: tuple[Change, ...] = ()

    def of(self, applies: Applies) -> tuple[Change, ...]:
        """Those that count then."""
        return tuple(change for change in self.changes if change.applies is applies)

    def lines(self) -> tuple[str, ...]:
        """One line a change, for people; says so when there is none."""
        return tuple(str(change) for change in self.changes) or ("nothing changed",)


def plan(old: Data, new: Data) -> Plan:
    """The difference between two sets of settings, key by key."""
    was, will = _flat(old), _flat(new)
    changes = []
    for path in sorted(was.keys() | will.keys()):
        before, after = was.get(path, _MISSING), will.get(path, _MISSING)
        if _same(before, after) or _role_comes_or_goes(path, old, new):
            continue
        secret = bool(_SECRET.match(path))
        changes.append(Change(path, _show(before, secret), _show(after, secret), applies_to(path)))
    return Plan(tuple(changes))


def applies_to(path: str) -> Applies:
    """When a change of this dotted path counts.  A path no rule knows needs a restart."""
    return rule_for(path) or Applies.RESTART


def rule_for(path: str) -> Applies | None:
    """The rule for a dotted path, ``None`` where there is none."""
    for pattern, applies in _RULES:
        if re.fullmatch(pattern, path):
            return applies
    return None


def _flat(data: Data) -> dict[str, object]:
    """Dotted path → scalar or sequence; ``agents`` becomes a count for each role."""
    flat: dict[str, object] = {}
    for key, value in data.items():
        if key == "agents" and not isinstance(value, Mapping):
            flat |= {f"agents.{role}": count for role, count in counts(value).items()}
        elif isinstance(value, Mapping) and value:
            flat |= {f"{key}.{path}": leaf for path, leaf in _flat(value).items()}
        elif not isinstance(value, Mapping):
            flat[key] = value
    return flat


def counts(entries: object) -> dict[str, int]:
    """The ``agents`` list as role → count; a role named twice counts together."""
    total: dict[str, int] = {}
    for entry in entries if isinstance(entries, Sequence) else ():
        if isinstance(entry, Mapping):
            role, count = str(entry.get("role")), entry.get("count", 1)
            total[role] = total.get(role, 0) + (count if isinstance(count, int) else 0)
    return total


def _role_comes_or_goes(path: str, old: Data, new: Data) -> bool:
    """A role that is only now used, or no longer: its count says it, not each of its keys."""
    if not path.startswith("roles."):
        return False
    role = path.split(".")[1]
    return any(role not in _mapping(side.get("roles")) for side in (old, new))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _same(a: object, b: object) -> bool:
    """Equality in which 1 is 1.0, a list is its tuple, but 1 is not true."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    return a == b


def _show(value: object, secret: bool) -> str:
    """A value as YAML would have it, on one line and not too long."""
    if isinstance(value, _Missing):
        return "(unset)"
    if value is None:
        return "null"
    if secret:
        return "(hidden)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(_show(item, secret=False) for item in value) + "]"
    else:
        text = " ".join(str(value).split()) or '""'
    return text if len(text) <= 60 else text[:57] + "…"


# -- dividing a fleet ---------------------------------------------------------------------------


def apportion(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Divide ``total`` in the proportions of ``weights`` by the largest remainder.

    Every role gets its exact share rounded down, and the rest go one each to the largest
    fractions; ties go to the larger weight, then to whoever is named first.  Where all weights
    are 0, all count the same.  Raises ``ValueError`` for a negative number, or when there is
    something to divide and nobody to take it.
    """
    if total < 0 or any(weight < 0 for weight in weights.values()):
        raise ValueError("a fleet cannot be divided into negative numbers")
    if not weights:
        if total:
            raise ValueError("there is no role to scale")
        return {}
    even = not any(weights.values())
    weigh = {role: 1 if even else weight for role, weight in weights.items()}
    whole = sum(weigh.values())
    exact = {role: Fraction(total * weight, whole) for role, weight in weigh.items()}
    share = {role: int(part) for role, part in exact.items()}
    order = {role: place for place, role in enumerate(weigh)}
    by_rest = sorted(weigh, key=lambda r: (share[r] - exact[r], -weigh[r], order[r]))
    for role in by_rest[: total - sum(share.values())]:
        share[role] += 1
    return share


def reconcile_counts(
    old_file: Mapping[str, int], new_file: Mapping[str, int], runtime: Mapping[str, int]
) -> dict[str, int]:
    """The counts after a reload: the new file's where the file changed, else what runs.

    (Rules, "Fleet commands": after ``scale``, what the file did not change keeps its runtime
    value.)  A role the file no longer names goes to 0.
    """
    roles = [*new_file, *(r for r in runtime if r not in new_file)]
    return {
        role: new_file.get(role, 0)
        if role not in runtime or old_file.get(role, 0) != new_file.get(role, 0)
        else runtime[role]
        for role in roles
    }

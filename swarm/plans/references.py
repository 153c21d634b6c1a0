"""How a plan names tasks that are not its own."""

from __future__ import annotations

import re

from swarm.plans.model import EARLIER

_TASK = re.compile(r"t-[0-9a-z]{8}\Z")
_OTHER = re.compile(rf"(?:p-[0-9a-z]{{1,8}}|{EARLIER})/[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}\Z")


def is_outside(ref: str) -> bool:
    """Whether ``ref`` may name a task of the ledger: ``t-…``, ``p-…/key`` or ``earlier/key``."""
    return bool(_TASK.match(ref) or _OTHER.match(ref))


def split(ref: str) -> tuple[str, str]:
    """The plan and the key that ``ref`` names; an empty plan for a task's own id."""
    plan, slash, key = ref.partition("/")
    return (plan, key) if slash else ("", ref)

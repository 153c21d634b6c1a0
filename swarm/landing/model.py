"""What is asked of a landing, and what it came to: plain values, JSON between two processes."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from swarm.core.model import Merge, RemarkKind


class _Struct(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """One line between the coordinator and its lander."""


class Job(_Struct, frozen=True):
    """Land one task's commit on its target."""

    task: str
    n: int
    """Which landing of this task it is, from 1; names the checks' log ``<task>.<n>.log``."""
    hub: str
    """Absolute path of the bare hub repository."""
    source: str | None
    """What the hub is fetched from; ``None`` for the swarm's own."""
    target: str
    """Branch of the hub that the work lands on, e.g. ``main``."""
    branch: str
    """The task's branch in the hub."""
    commit: str
    """The very commit that succeeded, and that was approved where that is asked for."""
    message: str
    """Of the squashed or merge commit: a subject, and perhaps a body."""
    log: str
    """Absolute path of the file that the checks' output goes to."""
    merge: Merge = Merge.SQUASH
    checks: tuple[str, ...] = ()
    check_seconds: float = 600.0
    """All checks together; 0 is no limit."""
    ports: tuple[int, ...] | None = None
    """TCP ports the checks may connect to, where the kernel can say so; ``None``: any."""
    memory_mb: int | None = None
    """Of each check with all it started, as of a session of its agent; ``None`` is no limit."""
    max_processes: int | None = None
    cpu_percent: int | None = None
    """100 is one core."""
    cgroups: dict[str, str] = {}
    """Controller → directory in which this home's cgroups are made, as ``DaemonSpec.cgroups``."""
    publish: str = ""
    """Branch of the source, its ``{target}`` already filled in; empty: not published."""
    agent: str = ""
    """Who made it: the committer's name."""
    author_name: str = ""
    author_email: str = ""


class Publish(_Struct, frozen=True):
    """Only publish what is on the target; answered by :class:`Landed` or :class:`NotLanded`."""

    hub: str
    source: str | None
    target: str
    branch: str
    """Branch of the source."""


class Landed(_Struct, frozen=True):
    """It is on the target, or was there already."""

    commit: str
    """Tip of the target now."""
    merged: bool = True
    """False: the target already held all of it (``noop``)."""
    published: str = ""
    """The source's branch that holds it now; empty when it was not published."""
    unpublished: str = ""
    """One line: why it could not be published.  The landing stands."""
    note: str = ""
    """One line for people: what of the source could not be followed."""


class SentBack(_Struct, frozen=True):
    """The agent has to do something about it; the target did not move."""

    kind: RemarkKind
    """``conflict`` or ``check``."""
    text: str
    """For the agent: which files are in conflict, or which check failed and its last output."""
    target: str
    """Tip of the target it was tried on: to be merged into the branch first."""


class NotLanded(_Struct, frozen=True):
    """Something of ours or the machine's is wrong; the target did not move."""

    reason: str
    retry: bool = True
    """Whether it is worth trying again later."""


Order: TypeAlias = Job | Publish
Verdict: TypeAlias = Landed | SentBack | NotLanded

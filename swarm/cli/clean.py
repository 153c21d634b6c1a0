"""``agentctl clean``: remove what is past its time, and say what stays and what was saved."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swarm.cli.arguments import Number
from swarm.cli.control import ask, here
from swarm.cli.lock import is_locked
from swarm.cli.screen import note, one_line, print_json, say
from swarm.cli.settings import checked_settings, config_named
from swarm.config.places import Places, expanded
from swarm.errors import NotRunning, SwarmError
from swarm.wire import control

if TYPE_CHECKING:
    from swarm.core.keep import Sorted
    from swarm.desk.cleaning import Cleaning, Report

LISTED = 20
"""Things of one kind that are named; the others are counted."""
PATIENCE = 5.0
"""Seconds a supervisor may take to say who its agents are."""


@click.command("clean")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@click.option(
    "--older-than",
    type=Number(0, 36500),
    metavar="DAYS",
    help="Instead of every number of days under 'keep'; 0 is all that may go.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")
@click.pass_context
def clean(ctx: click.Context, dry_run: bool, older_than: float | None, as_json: bool) -> None:
    """Remove what is older than 'keep' in swarm.yaml says.

    Workspaces of agents that are gone, branches, logs and directories of tasks that have ended.
    Never what belongs to a task that has not ended, nor the workspace of an agent; what a
    workspace holds is brought into the hub first, and a branch with commits that are nowhere else
    is kept as refs/agentctl/salvage/….  Your repository is never touched.  Works with and without
    a running swarm, which does it by itself when the disk runs low.

    \b
    Examples:
      agentctl clean --dry-run
      agentctl clean
      agentctl clean --older-than 0         all that has ended
    """
    places = here()
    if not places.home.is_dir():
        raise SwarmError(f"there is no home {places.home}", "AGENTCTL_HOME names another")
    cleaning = _cleaning(places, older_than)
    report = cleaning.preview() if dry_run else cleaning.carry_out()
    if as_json:
        print_json(as_data(report, dry_run))
    else:
        for line in lines(report):
            say(line)
        if dry_run:
            say("nothing was changed: --dry-run")
    for problem in report.problems:
        note(f"agentctl: {one_line(problem)}")
    ctx.exit(1 if report.problems else 0)


def _cleaning(places: Places, older_than: float | None) -> Cleaning:
    from swarm.config.keeping import lifetimes
    from swarm.desk.cleaning import Cleaning, home_id

    settings = checked_settings(places, _config(places))
    return Cleaning(
        places,
        lifetimes(settings.keep, older_than),
        home_id=home_id(places),
        agents=lambda: in_use(places),
        base=str(expanded(Path(settings.workspace_base), "workspace_base")),
        progress=_progress,
    )


def _config(places: Places) -> Path | None:
    """The file of the running swarm, or the one that counts here."""
    try:
        path = _swarm(places).get("config", {}).get("path")
    except SwarmError:
        path = None
    return Path(path) if isinstance(path, str) else config_named(None)


def in_use(places: Places) -> frozenset[str] | None:
    """Agents whose workspaces are in use; none without a swarm, ``None`` if it does not say."""
    try:
        found = _swarm(places).get("in_use")
    except NotRunning:
        return frozenset()
    except SwarmError:
        return None if is_locked(places) else frozenset()
    return frozenset(map(str, found)) if isinstance(found, list) else None


def _swarm(places: Places) -> dict[str, Any]:
    found = ask(places, control.Status(), patience=PATIENCE).data.get("swarm")
    return found if isinstance(found, dict) else {}


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        note(f"… {one_line(text)}")


# -- the report -----------------------------------------------------------------------------------


def lines(report: Report) -> list[str]:
    """The report for people: each kind, then what was saved."""
    plan = report.plan
    logs = Counter(log.path.rpartition("/")[0] for log in report.logs)
    told = [
        *_kind("workspaces", plan.places, [(one.name, one.size) for one in report.places]),
        *_kind(
            "branches",
            plan.branches,
            [(f"{one.branch.name}{_saved(one.saved)}", None) for one in report.endings],
        ),
        *_kind(
            "logs",
            plan.logs,
            [
                (f"{count} of {folder}", _total(report.logs, folder))
                for folder, count in sorted(logs.items())
            ],
            len(report.logs),
        ),
        *_kind("task folders", plan.folders, [(one.path, one.size) for one in report.folders]),
    ]
    if report.salvage:
        told.append(f"salvage: {report.salvage} saved earlier, all stay")
    told += [f"kept: {one.ref} ({one.what})" for one in report.saved]
    return told


def _kind(
    name: str,
    found: Sorted[Any],
    gone: list[tuple[str, int | None]],
    count: int | None = None,
) -> list[str]:
    count = len(gone) if count is None else count
    sizes = [size for _, size in gone if size is not None]
    freed = f", {size_text(sum(sizes))}" if sizes else ""
    told = [f"{name}: {count} of {len(found.goes) + len(found.stays)} go{freed}"]
    for label, size in gone[:LISTED]:
        told.append(f"  {label}" + ("" if size is None else f"  {size_text(size)}"))
    if len(gone) > LISTED:
        told.append(f"  … and {len(gone) - LISTED} more")
    stay = Counter(_reason(why) for _, why in found.stays)
    kept = sum(getattr(one, "size", None) or 0 for one, _ in found.stays)
    if stay:
        held = f" ({size_text(kept)})" if kept else ""
        reasons = "; ".join(f"{n} {why}" for why, n in stay.most_common(LISTED))
        told.append(f"  {sum(stay.values())} stay{held}: {reasons}")
    return told


def _reason(why: str) -> str:
    """The reason without its age, so that many are told as one."""
    return "not old enough" if "days old, kept for" in why else why


def _saved(ref: str) -> str:
    return f" → {ref}" if ref else ""


def _total(logs: list[Any], folder: str) -> int:
    return sum(log.size for log in logs if log.path.rpartition("/")[0] == folder)


def size_text(size: int) -> str:
    """``512 B``, ``3.4 kB``, ``12.0 MB``, ``1.2 GB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def as_data(report: Report, dry_run: bool) -> dict[str, Any]:
    """The report as JSON data."""
    plan = report.plan
    return {
        "version": 1,
        "dry_run": dry_run,
        "freed_bytes": report.freed,
        "workspaces": {
            "goes": [_place(one) for one in report.places],
            "stays": [{**_place(one), "reason": why} for one, why in plan.places.stays],
        },
        "branches": {
            "goes": [{**_branch(one.branch), "saved": one.saved or None} for one in report.endings],
            "stays": [{**_branch(one), "reason": why} for one, why in plan.branches.stays],
        },
        "logs": {
            "goes": [_file(one) for one in report.logs],
            "stays": [{**_file(one), "reason": why} for one, why in plan.logs.stays],
        },
        "folders": {
            "goes": [_file(one) for one in report.folders],
            "stays": [{**_file(one), "reason": why} for one, why in plan.folders.stays],
        },
        "saved": [{"ref": one.ref, "hub": one.hub or None, "of": one.what} for one in report.saved],
        "saved_earlier": report.salvage,
        "problems": report.problems,
    }


def _place(one: Any) -> dict[str, Any]:
    return {"agent": one.name, "path": one.path, "bytes": one.size}


def _branch(one: Any) -> dict[str, Any]:
    return {"branch": one.name, "hub": one.hub, "commit": one.tip}


def _file(one: Any) -> dict[str, Any]:
    return {"path": one.path, "bytes": one.size}

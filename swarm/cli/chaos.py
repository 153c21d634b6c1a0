"""``agentctl chaos``: a bounded storm against a fleet of its own, by seed, with a verdict."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import click

from swarm.cli.arguments import Number
from swarm.cli.demonstration.stage import Stage, clear
from swarm.cli.interruption import ended_by_signals, held_back, undisturbed
from swarm.cli.screen import note, print_json, say
from swarm.cli.storm.plan import PACE, Kind, Way
from swarm.cli.storm.stage import Size, set_stage
from swarm.errors import UsageError

if TYPE_CHECKING:
    from swarm.cli.storm.notes import Options
    from swarm.cli.storm.report import Report

    _Kinds = click.ParamType[tuple[Kind, ...]]
else:
    _Kinds = click.ParamType

SECONDS = 60.0
MAX_SECONDS = 24 * 3600.0


class Kinds(_Kinds):
    """``kill,stop`` as kinds of disturbance."""

    name = "KIND,…"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Kind, ...]:
        """Raises a usage error that names the kinds there are."""
        if isinstance(value, tuple):
            return value
        found = []
        for word in str(value).split(","):
            if word not in {*Kind}:
                self.fail(f"there is no disturbance {word!r}; there are: {', '.join(Kind)}")
            found.append(Kind(word))
        return tuple(dict.fromkeys(found))


@click.command("chaos")
@click.option("--seed", type=click.IntRange(min=0), help="The same seed, the same storm.")
@click.option("--minutes", type=Number(0.1, MAX_SECONDS / 60), help="How long it rages.")
@click.option("--seconds", type=Number(1, MAX_SECONDS), help="The same, in seconds.")
@click.option("--agents", type=click.IntRange(3, 200), default=6, show_default=True)
@click.option("--tasks", type=click.IntRange(min=1), help="At most so many; else a steady supply.")
@click.option(
    "--pace", type=Number(0.1, 60), default=PACE, show_default=True,
    help="Seconds from one disturbance to the next.",
)  # fmt: skip
@click.option("--only", type=Kinds(), help=f"Of {', '.join(Kind)}; else all of them.")
@click.option("--keep", is_flag=True, help="Leave the temporary home, with logs and the hub.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")
@click.option("--quiet", is_flag=True, help="Only the report.")
def chaos(
    seed: int | None,
    minutes: float | None,
    seconds: float | None,
    agents: int,
    tasks: int | None,
    pace: float,
    only: tuple[Kind, ...] | None,
    keep: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Let a storm rage over a fleet in a temporary home, and see that nothing is lost.

    Daemons, sessions, services, landings and the supervisor are killed and stopped, connections
    cut, disks and descriptors filled, processes slowed, while people scale, pause, reload, upgrade
    and commit; then it is checked that every task has ended exactly once with its commits in the
    hub, that what landed did so once and as it was approved, that nothing is left, and more.
    Exit status 0 says that all of it held; 1 names what did not, and keeps the home.  Your own
    home and a running swarm of yours are never touched.

    \b
    Examples:
      agentctl chaos                          a minute, by a seed of its own choice
      agentctl chaos --seed 7 --minutes 30
      agentctl chaos --only kill,stop --agents 12
    """
    from swarm.cli.storm.notes import Options

    if minutes is not None and seconds is not None:
        raise UsageError("--minutes and --seconds exclude each other", "give the one or the other")
    options = Options(
        seed=seed if seed is not None else secrets.randbelow(1_000_000),
        seconds=minutes * 60 if minutes is not None else seconds or SECONDS,
        size=Size.of(agents),
        tasks=tasks,
        only=only or tuple(Kind),
        pace=pace,
        without=() if _can_upgrade() else (Way.UPGRADE,),
    )
    report = _storm(options, keep=keep, quiet=quiet or as_json)
    if as_json:
        print_json(report.to_json())
    else:
        say()
        for line in report.lines():
            say(line)
    return 0 if report.held else 1


def _storm(options: Options, *, keep: bool, quiet: bool) -> Report:
    """The whole storm; nothing of it is left, but the home where it is to be looked at."""
    from swarm.cli.storm.conductor import Conductor
    from swarm.ledger import open_ledger

    began = time.monotonic()

    def tell(text: str) -> None:
        if not quiet:
            say(f"{time.monotonic() - began:6.1f}s  {text}")

    stage: Stage | None = None
    conductor: Conductor | None = None
    with ended_by_signals():
        try:
            with held_back():
                stage = set_stage(options.size)
            tell(f"seed {options.seed}, {options.seconds:g} s, in {stage.root}")
            with open_ledger(stage.places.ledger) as ledger:
                conductor = Conductor(stage, ledger, options, tell)
                report = conductor.run()
            keep = keep or not report.held
        finally:
            with undisturbed():
                if conductor is not None:
                    conductor.end()
                if stage is not None:
                    _clean_up(stage, keep)
    return report


def _clean_up(stage: Stage, keep: bool) -> None:
    """Remove its directory, unless it is to be looked at."""
    if keep:
        note(f"kept: {stage.root}      (AGENTCTL_HOME={stage.places.home})")
        return
    clear(stage)
    if stage.root.exists():
        note(f"{stage.root} could not be removed whole; remove it yourself")


def _can_upgrade() -> bool:
    """Whether this program can execute its newly installed self in a running supervisor."""
    from swarm.cli.swarm import swarm

    return "upgrade" in swarm.list_commands(click.Context(swarm))

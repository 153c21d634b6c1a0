"""``agentctl doctor``: what this machine has and lacks for a fleet, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import click

from swarm.cli.check import Check, Level
from swarm.cli.checks import everything
from swarm.cli.control import here
from swarm.cli.screen import on_terminal, one_line, print_json
from swarm.cli.settings import config_named

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.BAD: "red"}


@click.command("doctor")
@click.option("--config", type=click.Path(path_type=Path), help="Another file than swarm.yaml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")
@click.pass_context
def doctor(ctx: click.Context, config: Path | None, as_json: bool) -> None:
    """Check this machine and this home; say what is missing and how to mend it.

    'ok' is fine, 'warn' works with less, 'bad' must be mended first: then the exit status is 1.
    """
    checks = everything(here(), config_named(config))
    bad = any(check.level is Level.BAD for check in checks)
    if as_json:
        print_json(
            {
                "version": 1,
                "ok": not bad,
                "checks": [
                    {
                        "name": check.name,
                        "level": str(check.level),
                        "found": check.found,
                        "remedy": check.remedy or None,
                    }
                    for check in checks
                ],
            }
        )
    else:
        for check in checks:
            click.echo(_line(check))
    ctx.exit(1 if bad else 0)


def _line(check: Check) -> str:
    level = f"{check.level:<4}"
    if on_terminal():
        level = click.style(level, fg=_COLOURS[check.level], bold=check.level is Level.BAD)
    remedy = f"; {one_line(check.remedy)}" if check.remedy else ""
    return f"{level}  {check.name:<11}  {one_line(check.found)}{remedy}"

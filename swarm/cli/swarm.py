"""``agentctl swarm``: the group, and its short verbs that only ask the supervisor."""

from __future__ import annotations

import click

from swarm.cli.arguments import MAX_AGENTS, RoleCount, show_done
from swarm.cli.control import ask, here
from swarm.cli.lazy import Entry, LazyGroup
from swarm.cli.screen import say
from swarm.errors import UsageError
from swarm.wire import control

HELP = """\
Start, stop, watch and scale the fleet.

\b
Examples:
  agentctl swarm up                       in the foreground, as swarm.yaml says; Ctrl-C stops it
  agentctl swarm up -n 5 --detach         five agents, in the background
  agentctl swarm up --role builder=3 --role qa=1
  agentctl swarm status --watch
  agentctl swarm scale builder=10
  agentctl swarm stop --drain 600         let sessions finish, ten minutes at most
"""

swarm = LazyGroup(
    "swarm",
    {
        "up": Entry("swarm.cli.up:up", "Start the fleet; returns or says 'ready' when it is."),
        "start": Entry("swarm.cli.up:up", "", alias_of="up"),
        "stop": Entry("swarm.cli.stop:stop", "End the fleet; interrupted tasks are queued again."),
        "down": Entry("swarm.cli.stop:stop", "", alias_of="stop"),
        "status": Entry("swarm.cli.status:status", "Agents, services, tasks, usage."),
        "scale": Entry("swarm.cli.swarm:scale", "Change how many agents there are."),
        "upgrade": Entry("swarm.cli.upgrade:upgrade", "Go on with the newly installed program."),
        "reload": Entry("swarm.cli.swarm:reload_", "Read swarm.yaml again; say what changes."),
        "pause": Entry("swarm.cli.swarm:pause", "Start no more sessions until 'resume'."),
        "resume": Entry("swarm.cli.swarm:resume", "Start sessions again."),
        "logs": Entry("swarm.cli.logs:logs", "The log of the supervisor, a service or an agent."),
        "story": Entry("swarm.cli.logs:story", "What happened to an agent, from the journal."),
        "service": Entry("swarm.cli.service:service", "The fleet as a systemd user unit."),
    },
    help=HELP,
)


@click.command("scale")
@click.argument("sizes", nargs=-1, required=True, metavar="N | ROLE=N …")
def scale(sizes: tuple[str, ...]) -> None:
    """Change how many agents there are.

    With one number the roles keep their proportions.  An agent at work is never stopped by
    this: it leaves after its task when the fleet is still too large.  'scale 0' is stop.

    \b
    Examples:
      agentctl swarm scale 10
      agentctl swarm scale builder=6 qa=2
    """
    total, roles = read_sizes(sizes)
    places = here()
    if total == 0:
        from swarm.cli.stop import end_swarm

        end_swarm(places, now=False, drain=None, tell=say)
        return
    command = control.Scale(total=total, roles=roles)
    show_done(ask(places, command, patience=60.0, progress=say), "the fleet has that size")


def read_sizes(sizes: tuple[str, ...]) -> tuple[int | None, dict[str, int]]:
    """``("10",)`` → ``(10, {})``; ``("qa=2", …)`` → ``(None, {"qa": 2, …})``.

    Raises :class:`UsageError` for anything else, a role named twice, or a number too large.
    """
    if len(sizes) == 1 and "=" not in sizes[0]:
        if not (sizes[0].isascii() and sizes[0].isdigit()) or int(sizes[0]) > MAX_AGENTS:
            raise UsageError(
                f"{sizes[0]!r} is no number of agents",
                f"give a number up to {MAX_AGENTS}, or ROLE=N as in builder=3",
            )
        return int(sizes[0]), {}
    roles: dict[str, int] = {}
    for size in sizes:
        role, count = RoleCount().convert(size, None, None)
        if role in roles:
            raise UsageError(f"role {role!r} is given twice", "name each role once")
        roles[role] = count
    return None, roles


@click.command("reload")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
def reload_(dry_run: bool) -> None:
    """Read swarm.yaml and the role files again, as SIGHUP does.

    Prints old → new for each key, and what only applies to new agents or needs a restart of the
    swarm.  A bad file changes nothing; its problems are listed.
    """
    done = ask(here(), control.Reload(dry_run=dry_run), patience=30.0, progress=say)
    show_done(done, "nothing changed")


@click.command("pause")
@click.option("--reason", default="", metavar="TEXT", help="Shown in 'swarm status'.")
def pause(reason: str) -> None:
    """Start no more sessions; running ones go on.  Survives a restart of the swarm."""
    show_done(ask(here(), control.Pause(reason=reason[:500])), "paused: no new sessions")


@click.command("resume")
def resume() -> None:
    """Start sessions again after 'pause', or before a quota's pause is over."""
    show_done(ask(here(), control.Resume()), "resumed")

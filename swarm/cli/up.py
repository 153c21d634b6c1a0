"""``agentctl swarm up``: check what can be checked, then become or start the supervisor."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import click
import msgspec

from swarm.cli.arguments import MAX_AGENTS, RoleCount
from swarm.cli.control import check_socket_path, here
from swarm.cli.interruption import ENDING
from swarm.cli.lock import find_holder, is_locked
from swarm.cli.role_names import require_role
from swarm.cli.screen import note
from swarm.cli.settings import checked_settings, config_named
from swarm.config.places import Places, expanded
from swarm.errors import AlreadyRunning, SwarmError, UsageError

MANAGERS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What a service manager tells the one process it started (sd_notify(3))."""


@click.command("up")
@click.option(
    "-n", "count", type=click.IntRange(1, MAX_AGENTS), help="Agents in all; roles keep proportions."
)
@click.option(
    "--role",
    "roles",
    type=RoleCount(),
    multiple=True,
    help="Agents of one role; with -n its share of them.",
)
@click.option("--config", type=click.Path(path_type=Path), help="Another file than swarm.yaml.")
@click.option("-d", "--detach", is_flag=True, help="Run in the background; return when ready.")
def up(
    count: int | None, roles: tuple[tuple[str, int], ...], config: Path | None, detach: bool
) -> None:
    """Start the fleet.

    In the foreground it prints 'ready' when every agent waits for work, and stays; Ctrl-C stops
    it, a second one at once.  With --detach it returns when ready, or says what is not and why.
    No swarm.yaml is needed: three builders then.  Inside a git repository the fleet works on
    that one, unless repo.source names another.

    \b
    Examples:
      agentctl swarm up
      agentctl swarm up -n 5 --detach
      agentctl swarm up --role builder=2 --role auditor=1
      agentctl swarm up -n 9 --role builder=2 --role auditor=1      six and three
    """
    places = here()
    check_socket_path(places)
    refuse_second(places)
    named = config_named(config)
    settings = checked_settings(places, named)
    check_base(expanded(Path(settings.workspace_base), "workspace_base"))
    wanted = checked_roles(places, roles)
    if shutil.which("git") is None:
        raise SwarmError("git is not on PATH, and the fleet's work is kept with it", "install git")
    source = None
    if settings.repo.source is None and (source := repository_here()) is not None:
        note(f"working on {source}, the repository you are in (repo.source would name another)")
    overrides = {"n": count, "roles": wanted, "source": source}
    arguments = ["--overrides", msgspec.json.encode(overrides).decode()]
    if named is not None:
        arguments += ["--config", str(named)]
    if detach:
        from swarm.cli.detach import start_detached

        environment = _environment(places)
        for name in MANAGERS:  # it is not the process that a service manager started
            environment.pop(name, None)
        start_detached(places, supervisor_argv(*arguments), environment)
    else:
        _become(supervisor_argv(*arguments), _environment(places))


def supervisor_argv(*arguments: str) -> list[str]:
    """The command of a supervisor.

    ``-P`` keeps the working directory off its import path: a project with a folder named
    ``swarm`` must not be run in our stead.
    """
    return [sys.executable, "-P", "-m", "swarm.supervisor", *arguments]


def refuse_second(places: Places) -> None:
    """Raise :class:`AlreadyRunning` when a swarm holds this home."""
    if is_locked(places):
        holder = find_holder(places)
        who = f" (pid {holder.pid})" if holder else ""
        raise AlreadyRunning(
            f"a swarm is already running in {places.home}{who}",
            "use it, end it with 'agentctl swarm stop', or name another AGENTCTL_HOME",
        )


def check_base(base: Path) -> None:
    """Raise :class:`SwarmError` where no workspace can be made: every agent would fail for it."""
    there = base
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise SwarmError(
            f"the workspaces cannot be made in {base}: {there} is no directory you can write",
            "set workspace_base to one",
        )


def checked_roles(places: Places, roles: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """``--role`` options as a mapping; raises :class:`UsageError` for an unknown or double one."""
    wanted: dict[str, int] = {}
    for role, count in roles:
        require_role(places, role)
        if role in wanted:
            raise UsageError(f"--role {role} is given twice", "name each role once")
        wanted[role] = count
    if wanted and not sum(wanted.values()):
        raise UsageError("--role asks for no agents at all", "give one role a count above 0")
    return wanted


def repository_here() -> str | None:
    """Top level of the git repository the working directory is in, when it has a commit.

    One without is told and left alone: no branch can start from it.
    """
    top = _git_says("rev-parse", "--show-toplevel")
    if top is not None and _git_says("rev-parse", "--quiet", "--verify", "HEAD") is None:
        note(f"{top}, the repository you are in, has no commit yet: the fleet does not use it")
        return None
    return top


def _git_says(*arguments: str) -> str | None:
    import subprocess

    try:
        said = subprocess.run(
            ["git", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = os.fsdecode(said.stdout.removesuffix(b"\n"))
    return text if said.returncode == 0 and text else None


def _environment(places: Places) -> dict[str, str]:
    return {**os.environ, "AGENTCTL_HOME": str(places.home)}


def _become(argv: list[str], environment: dict[str, str]) -> None:
    """Replace this process: the terminal's signals then reach the supervisor itself."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.getpid() == 1:
        # Without a handler signals do nothing to pid 1 (pid_namespaces(7)), and an exec takes
        # the handlers away: what comes now waits until the supervisor has its own.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    os.execve(argv[0], argv, environment)  # noqa: S606 - our own interpreter, no shell

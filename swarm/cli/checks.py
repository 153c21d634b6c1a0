"""What ``doctor`` looks at; each check is a function that finds, and changes nothing."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from swarm.cli.check import Check, Level
from swarm.cli.control import check_socket_path
from swarm.cli.hook_checks import check_hooks, check_inbox
from swarm.cli.kernel_checks import check_kernel
from swarm.cli.lock import is_locked
from swarm.cli.settings import checked_settings
from swarm.config.load import parse_address
from swarm.config.places import Places, expanded
from swarm.config.roles import load_role
from swarm.config.runtimes import missing_program, resolve_runtime
from swarm.config.settings import Settings
from swarm.errors import ConfigError, LedgerError, SwarmError
from swarm.health.disk import free_disk_mb

LANDING_GIT = (2, 38)
"""From here on git merges without a work tree."""
OLDEST_GIT = (2, 30)
"""``--end-of-options`` everywhere we use it, and safe handling of foreign repositories."""
FILES_AN_AGENT = 4
"""Descriptors the supervisor and the chat server need for one agent."""
FEW_FILES = 4096
LITTLE_DISK_MB, TOO_LITTLE_DISK_MB = 2048, 100
CLIS = ("claude", "codex", "opencode")


def everything(places: Places, config: Path | None) -> list[Check]:
    """Every check, in the order people read them."""
    found = [check_python(), check_git(), *check_home(places), check_socket(places)]
    settings, about_config = check_config(places, config)
    found += about_config
    found += [check_ledger(places)]
    if settings is None:
        found += check_kernel(places, Settings())
        left = "agent CLIs, roles, open files, memory, workspaces and chat were not looked at"
        return [*found, Check("the rest", Level.WARN, left, "mend the configuration first")]
    found += check_programs(places, settings)
    found += check_kernel(places, settings)
    found += [check_files(settings), check_memory(settings), check_disk(places, settings)]
    found += [check_base(settings), check_port(places, settings)]
    found += [check_inbox(places, settings), *check_hooks(settings)]
    return found


def check_python() -> Check:
    """The interpreter that runs us: it would not, were it too old."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if not sys.platform.startswith("linux"):
        return Check(
            "python",
            Level.BAD,
            f"{version} on {sys.platform}",
            "fleets need Linux: run it in a virtual machine or container",
        )
    return Check("python", Level.OK, f"{version}, {sys.executable}")


def check_git() -> Check:
    """Git, new enough."""
    path = shutil.which("git")
    if path is None:
        return Check("git", Level.BAD, "is not on PATH", "install git")
    try:
        told = subprocess.run(
            [path, "--version"], capture_output=True, timeout=10, check=False, text=True
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("git", Level.BAD, f"{path} does not run: {error}", "install git again")
    numbers = re.search(r"(\d+)\.(\d+)", told)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST_GIT:
        wanted = ".".join(str(number) for number in OLDEST_GIT)
        return Check(
            "git", Level.BAD, told.strip() or "tells no version", f"install {wanted} or newer"
        )
    if (int(numbers[1]), int(numbers[2])) < LANDING_GIT:
        wanted = ".".join(str(number) for number in LANDING_GIT)
        remedy = f"install {wanted} or newer, or set repo.merge: none"
        return Check("git", Level.WARN, f"{told.strip()} cannot land work", remedy)
    return Check("git", Level.OK, f"{told.strip()}, {path}")


def check_home(places: Places) -> Iterator[Check]:
    """``AGENTCTL_HOME``: ours, closed to others, writable, with room."""
    home = places.home
    if not home.exists():
        yield Check("home", Level.OK, f"{home} is not there yet; 'up' makes it")
        yield _room("disk", home)
        return
    try:
        status = home.stat()
    except OSError as error:
        yield Check("home", Level.BAD, f"{home}: {error.strerror}", "name another AGENTCTL_HOME")
        return
    if not stat.S_ISDIR(status.st_mode):
        yield Check("home", Level.BAD, f"{home} is no directory", "name another AGENTCTL_HOME")
    elif status.st_uid != os.getuid():
        yield Check(
            "home",
            Level.BAD,
            f"{home} belongs to uid {status.st_uid}",
            f"chown it to {os.getuid()}",
        )
    elif not os.access(home, os.W_OK | os.X_OK):
        yield Check("home", Level.BAD, f"{home} cannot be written", f"chmod 700 {home}")
    elif status.st_mode & 0o077:
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        yield Check(
            "home", Level.WARN, f"{home} is open to others (mode {mode})", f"chmod 700 {home}"
        )
    else:
        yield Check("home", Level.OK, str(home))
    yield _room("disk", home)


def check_socket(places: Places) -> Check:
    """The control socket's path fits, and whether a swarm runs."""
    try:
        check_socket_path(places)
    except SwarmError as error:
        return Check("socket", Level.BAD, error.what, error.remedy)
    running = "a swarm is running" if is_locked(places) else "no swarm is running"
    return Check("swarm", Level.OK, f"{running} in {places.home}")


def check_config(places: Places, config: Path | None) -> tuple[Settings | None, list[Check]]:
    """The settings to check the rest by, or each problem of the files they come from."""
    try:
        settings = checked_settings(places, config)
    except ConfigError as error:
        return None, [
            Check("config", Level.BAD, problem, error.remedy) for problem in error.problems
        ]
    path = config or places.config
    told = str(path) if path.exists() else f"no {path}: the defaults are in force"
    return settings, [Check("config", Level.OK, told)]


def check_ledger(places: Places) -> Check:
    """The ledger opens, when there is one."""
    if not places.ledger.exists():
        return Check("ledger", Level.OK, "none yet; the first task makes it")
    from swarm.ledger import open_ledger

    try:
        with open_ledger(places.ledger) as ledger:
            count = sum(ledger.counts().values())
    except LedgerError as error:
        return Check("ledger", Level.BAD, error.what, error.remedy)
    return Check("ledger", Level.OK, f"{places.ledger}, tasks: {count}")


def check_programs(places: Places, settings: Settings) -> Iterator[Check]:
    """Agent CLIs on PATH, and what each role of the fleet would run."""
    found = [f"{name} ({path})" for name in CLIS if (path := shutil.which(name))]
    if found:
        yield Check("agent CLIs", Level.OK, ", ".join(found))
    else:
        yield Check(
            "agent CLIs",
            Level.WARN,
            f"none of {', '.join(CLIS)} is on PATH",
            "install one, or name your own in 'runtimes'; runtime 'scripted' needs none",
        )
    for entry in settings.agents:
        name = f"role {entry.role}"
        try:
            runtime = resolve_runtime(load_role(entry.role, places.roles).runtime, settings)
        except ConfigError as error:
            yield Check(name, Level.BAD, "; ".join(error.problems), error.remedy)
            continue
        if why := missing_program(runtime, os.environ):
            what, _, remedy = why.partition("; ")
            yield Check(name, Level.WARN, what, remedy)
        else:
            yield Check(name, Level.OK, f"runs {runtime.command[0]} (runtime {runtime.name})")


def check_files(settings: Settings) -> Check:
    """The open-files limit, which is raised to its hard limit at ``up``."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    agents = sum(entry.count for entry in settings.agents)
    if hard == resource.RLIM_INFINITY:
        return Check("open files", Level.OK, "no limit")
    if hard < 256 + FILES_AN_AGENT * agents:
        return Check(
            "open files",
            Level.BAD,
            f"at most {hard}, too few for {agents} agents",
            "raise it: ulimit -Hn, or nofile in /etc/security/limits.conf",
        )
    if hard < FEW_FILES:
        return Check(
            "open files", Level.WARN, f"at most {hard}", "raise it (ulimit -Hn) for large fleets"
        )
    return Check("open files", Level.OK, f"at most {hard}")


def check_memory(settings: Settings) -> Check:
    """Enough memory that sessions start at all."""
    free = psutil.virtual_memory().available // (1 << 20)
    wanted = settings.limits.min_free_memory_mb
    if free < wanted:
        return Check(
            "memory",
            Level.WARN,
            f"{free} MB are free; below {wanted} MB no session starts",
            "free some, or lower limits.min_free_memory_mb",
        )
    return Check("memory", Level.OK, f"{free} MB are free; sessions start above {wanted} MB")


def check_disk(places: Places, settings: Settings) -> Check:
    """Enough room that sessions start at all."""
    try:
        base = expanded(Path(settings.workspace_base), "workspace_base")
    except SwarmError:
        base = places.home  # told by the workspaces' own check
    free, wanted = free_disk_mb((places.home, base)), settings.limits.min_free_disk_mb
    if free is not None and free < wanted:
        return Check(
            "room",
            Level.WARN,
            f"{free:.0f} MB of disk are free; below {wanted} MB no session starts",
            "'agentctl clean', free some, or lower limits.min_free_disk_mb",
        )
    told = "nobody knows how much disk is free" if free is None else f"{free:.0f} MB are free"
    return Check("room", Level.OK, f"{told}; sessions start above {wanted} MB")


def check_base(settings: Settings) -> Check:
    """Where the workspaces go."""
    try:
        base = expanded(Path(settings.workspace_base), "workspace_base")
    except SwarmError as error:
        return Check("workspaces", Level.BAD, error.what, error.remedy)
    return _room("workspaces", base)


def check_port(places: Places, settings: Settings) -> Check:
    """The chat's port is free, or the chat is elsewhere."""
    if settings.chat.url is not None:
        return Check("chat", Level.OK, f"of its own elsewhere: {settings.chat.url}")
    listen = settings.chat.listen
    if is_locked(places):
        return Check("chat", Level.OK, f"{listen}, in use by the running swarm")
    address = parse_address(listen)
    if address is None:
        return Check("chat", Level.BAD, f"{listen} is no address", "set chat.listen to host:port")
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Check(
                "chat",
                Level.BAD,
                f"{listen} cannot be listened on: {error.strerror}",
                "set chat.listen to another port, or to 127.0.0.1:0 for any free one",
            )
    return Check("chat", Level.OK, f"{listen} is free")


def _room(name: str, path: Path) -> Check:
    """Whether ``path``, or the nearest directory above it, can be written and has room."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check(
            name, Level.BAD, f"{path} cannot be made: {there} is not writable", "see ls -ld"
        )
    free = shutil.disk_usage(there).free // (1 << 20)
    if free < TOO_LITTLE_DISK_MB:
        return Check(name, Level.BAD, f"{free} MB are free at {there}", "free some")
    if free < LITTLE_DISK_MB:
        return Check(name, Level.WARN, f"only {free} MB are free at {there}", "free some soon")
    return Check(name, Level.OK, f"{free // 1024} GB are free at {there}")

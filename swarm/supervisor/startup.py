"""What is done once, before the loop: lock, tokens, identities, leftovers.

Order matters: nothing is touched before the lock is held, and the lock is asked for before
anything of a running swarm could be harmed (product, "Start").
"""

from __future__ import annotations

import fcntl
import os
import resource
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from swarm.config.places import Places
from swarm.daemon.outbox import read_outbox
from swarm.errors import AlreadyRunning, SwarmError
from swarm.logs import bound_text
from swarm.sandbox import cgroup_place, cgroups
from swarm.sandbox.cgroup_place import Place
from swarm.sandbox.scope import own_scope
from swarm.sandbox.trees import start_time, sweep
from swarm.spawner.folders import write_whole
from swarm.spawner.git import PERSONS_UMASK
from swarm.spawner.identity import Identity, load_or_create
from swarm.spawner.workspace import owned_workspaces, sweep_half_made
from swarm.wire.lifeline import Finished

SWEEP_SECONDS = 3.0
"""How long leftovers of a predecessor may take to die."""
CLEAN_UP_SECONDS = 120.0
"""How long a clean-up may take with the one workspace it is at."""


@dataclass(slots=True)
class Lock:
    """The flock on ``swarm.pid``, held for life; the file's content is for people."""

    fd: int

    @classmethod
    def take(cls, places: Places) -> Lock:
        """Raises :class:`~swarm.errors.AlreadyRunning`; the holder is untouched then."""
        try:
            fd = os.open(places.pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SwarmError(
                f"{places.pid_file} cannot be opened: {error.strerror}",
                "make the home writable, or name another AGENTCTL_HOME",
            ) from None
        try:
            _lock_soon(fd)
        except BlockingIOError:
            who = os.read(fd, 64).split()
            os.close(fd)
            pid = f" (pid {who[0].decode(errors='replace')})" if who else ""
            raise AlreadyRunning(
                f"a swarm is already running in {places.home}{pid}",
                "use it, end it with 'agentctl swarm stop', or name another AGENTCTL_HOME",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()} {start_time(os.getpid())}\n".encode(), 0)
        return cls(fd)

    def release(self) -> None:
        """Let go of it; the file stays, it never matters."""
        os.ftruncate(self.fd, 0)
        os.close(self.fd)


def _lock_soon(fd: int) -> None:
    """Take the lock; who only looks whether it is held has it for an instant, so try again."""
    for _ in range(20):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.005)
        else:
            return
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def await_clean_up(
    places: Places, say: Callable[[str], None], patience: float = CLEAN_UP_SECONDS
) -> None:
    """Wait until no ``agentctl clean`` is at the workspaces any more; none begins at them now.

    It looks before each one whether a swarm has started, so that is soon.  Raises
    :class:`~swarm.errors.SwarmError` when it is not.
    """
    try:
        fd = os.open(places.clean_lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # there never was one, or nobody could clean up here
    end = time.monotonic() + patience
    told = False
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise SwarmError(
                        f"a clean-up of {places.home} does not end", "end that agentctl clean"
                    ) from None
                if not told:
                    say("waiting for a clean-up to end")
                told = True
                time.sleep(0.02)  # before the loop: nothing waits but the person who said up
            else:
                return
    finally:
        os.close(fd)


def raise_file_limit() -> None:
    """As many open files as the hard limit allows (rules, "Fleet commands")."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def make_home(places: Places) -> None:
    """The home and its folders, for nobody else.  Raises :class:`~swarm.errors.SwarmError`."""
    before = os.umask(0o077)
    # What is published to the person's own source is theirs, and theirs to share; an upgraded
    # supervisor finds what the first one noted.
    os.environ.setdefault(PERSONS_UMASK, f"{before:03o}")
    try:
        places.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(places.home, 0o700)
        for folder in (
            places.journal,
            places.logs,
            places.logs / "agents",
            places.logs / "sessions",
            places.hub,
        ):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SwarmError(
            f"the home {places.home} cannot be made: {error.strerror}",
            "make its parent writable, or name another AGENTCTL_HOME",
        ) from None


def open_stderr(places: Places) -> int:
    """The descriptor children print to, of a log that is cut when it has grown too long.

    Raises :class:`~swarm.errors.SwarmError`.
    """
    path = places.logs / "stderr.log"
    bound_text(path)
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SwarmError(
            f"{path} cannot be opened: {error.strerror}",
            "make the home writable, or name another AGENTCTL_HOME",
        ) from None


@dataclass(frozen=True, slots=True)
class Names:
    """Who this home is."""

    home_id: str
    token: str
    operator: Identity
    coordinator: Identity


def make_names(places: Places) -> Names:
    """The home's id, the control token (new at each start), and the two identities."""
    home_id = _kept_secret(places.home_id, 8)
    token = secrets.token_hex(32)
    _write_secret(places.control_token, token)
    return Names(
        home_id,
        token,
        load_or_create(places.operator_identity, "operator"),
        load_or_create(places.coordinator_identity, "coordinator"),
    )


def _kept_secret(path: Path, size: int) -> str:
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        text = ""
    except OSError as error:
        raise SwarmError(f"{path} cannot be read: {error.strerror}", "make it readable") from None
    if not text.isalnum():
        text = secrets.token_hex(size)
        _write_secret(path, text)
    return text


def _write_secret(path: Path, text: str) -> None:
    try:
        write_whole(str(path), f"{text}\n")
    except OSError as error:
        raise SwarmError(f"{path} cannot be written: {error.strerror}", "make room") from None


def settle_cgroups(environ: Mapping[str, str]) -> Place:
    """Where sessions will get their cgroups; moves this process where v2 wants it.

    Before anything else is started; where only a user's systemd can give one, it is asked.
    """
    return cgroup_place.settle(lambda: own_scope(environ, os.getpid()))


def sweep_elsewhere(home: Path, home_id: str, folders: Mapping[str, str]) -> int:
    """Empty the cgroups of a predecessor that was started from another place; how many processes.

    A swarm started over ssh yesterday had its cgroups below that login's.  ``folders``, where they
    are from now on, is what the next one will find in ``<home>/cgroups.json``.
    """
    path = home / "cgroups.json"
    killed = 0
    try:
        before = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError):
        before = {}  # the first of this home, or one that was written by nobody of ours
    theirs = {
        name: folder
        for name, folder in before.items()
        if folder.startswith("/") and os.path.basename(folder) == f"{cgroups.PREFIX}{home_id}"
    }
    if theirs != folders:
        killed = len(cgroups.sweep(theirs))
        _write_secret(path, msgspec.json.encode(dict(folders)).decode())
    return killed


def sweep_leftovers(
    base: Path, home_id: str, folders: Mapping[str, str] | None = None
) -> tuple[int, int]:
    """End processes and remove half-made workspaces of a killed predecessor; how many of each.

    ``folders`` are the home's cgroups: they are emptied first, as nothing hides in them.
    """
    killed: set[int] = set(cgroups.sweep(folders or {}))
    end = time.monotonic() + SWEEP_SECONDS
    while (found := sweep(home_id)) and time.monotonic() < end:
        killed |= set(found)
        time.sleep(0.01)  # before the loop: nothing waits but the person who said up
    return len(killed), len(sweep_half_made(str(base), home_id))


def adopt(base: Path, home_id: str) -> tuple[dict[str, str], list[tuple[str, Finished]]]:
    """Workspaces of this home that are there already, and the reports in their outboxes."""
    workspaces: dict[str, str] = {}
    reports: list[tuple[str, Finished]] = []
    for workspace in owned_workspaces(str(base), home_id):
        workspaces[workspace.name] = workspace.path
        try:
            reports += [(workspace.name, report) for report in read_outbox(workspace.outbox)]
        except OSError:
            continue  # unreadable: its task was never settled, and is queued again
    return workspaces, reports


def environment_of(environ: Mapping[str, str]) -> dict[str, str]:
    """What children may be given of our environment; our own settings are none of theirs."""
    return {key: value for key, value in environ.items() if not key.startswith("AGENTCTL_")}

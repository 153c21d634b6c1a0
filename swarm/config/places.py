"""Where everything of one home lies (product contract, "Places")."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import UsageError


def expanded(path: Path, setting: str) -> Path:
    """``path`` absolute, with its ``~`` resolved.

    Raises :class:`~swarm.errors.UsageError` naming ``setting`` when nobody's home is meant, and
    for a name that is no text: it stands in settings, messages and units.
    """
    try:
        str(path).encode()
        return Path(os.path.abspath(path.expanduser()))
    except UnicodeEncodeError:
        raise UsageError(
            f"{str(path)!r} is not UTF-8", f"set {setting} to a path that is"
        ) from None
    except RuntimeError:  # pathlib's word for a user without a home
        raise UsageError(
            f"{path} cannot be found: user {os.getuid()} has no home directory here",
            f"set {setting} to an absolute path, or HOME",
        ) from None


@dataclass(frozen=True, slots=True)
class Places:
    """The files of one ``AGENTCTL_HOME``, an absolute path."""

    home: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Places:
        """The home that ``environ`` names: ``AGENTCTL_HOME``, else ``~/.agentctl``.

        Raises :class:`~swarm.errors.UsageError` where there is no ``~``, as in a container that
        runs as a user nobody has named.
        """
        named = environ.get("AGENTCTL_HOME")
        path = Path(named) if named else Path(environ.get("HOME") or "~") / ".agentctl"
        return cls(expanded(path, "AGENTCTL_HOME"))

    @property
    def config(self) -> Path:
        """``swarm.yaml``, unless ``AGENTCTL_SWARM_CONFIG`` or ``--config`` names another file."""
        return self.home / "swarm.yaml"

    @property
    def roles(self) -> Path:
        """Role files that override the shipped ones key by key."""
        return self.home / "roles"

    @property
    def pid_file(self) -> Path:
        """Locked with flock for the life of the supervisor; its content is for people."""
        return self.home / "swarm.pid"

    @property
    def clean_lock(self) -> Path:
        """Locked with flock while a clean-up is at work; a swarm that starts waits for it."""
        return self.home / "clean.lock"

    @property
    def control_socket(self) -> Path:
        """Unix stream socket, 0600."""
        return self.home / "control.sock"

    @property
    def control_token(self) -> Path:
        """The secret a control request carries, 0600."""
        return self.home / "control.token"

    @property
    def api_token(self) -> Path:
        """The secret the HTTP interface wants, 0600, made at its first start."""
        return self.home / "api.token"

    @property
    def api_address(self) -> Path:
        """Where the HTTP interface listens, as JSON, 0600."""
        return self.home / "api.json"

    @property
    def ledger(self) -> Path:
        """The SQLite file."""
        return self.home / "ledger.db"

    @property
    def journal(self) -> Path:
        """Directory of the journal's JSON-line files."""
        return self.home / "journal"

    @property
    def hub(self) -> Path:
        """Directory of the bare hub repositories, one a source."""
        return self.home / "hub"

    @property
    def logs(self) -> Path:
        """``{supervisor,health,chat,coordinator}.log``, ``agents/``, ``sessions/``."""
        return self.home / "logs"

    @property
    def inbox(self) -> Path:
        """Where files and folders are dropped to become tasks."""
        return self.home / "inbox"

    @property
    def tasks(self) -> Path:
        """The tasks' own directories."""
        return self.home / "tasks"

    def task_folder(self, task: str) -> Path:
        """A task's own directory: ``input/`` and ``results/``."""
        return self.tasks / task

    @property
    def operator_identity(self) -> Path:
        """The person's own chat identity, made at first use."""
        return self.home / "identity.json"

    @property
    def coordinator_identity(self) -> Path:
        """Our coordinator's chat identity; its id is what our daemons obey."""
        return self.home / "coordinator.json"

    @property
    def home_id(self) -> Path:
        """A random id that marks what belongs to this home."""
        return self.home / "home.id"

    def agent_log(self, name: str) -> Path:
        """A daemon's log."""
        return self.logs / "agents" / f"{name}.log"

    def session_log(self, task: str, attempt: int) -> Path:
        """The raw stream of one attempt's CLI."""
        return self.logs / "sessions" / f"{task}.{attempt}.jsonl"

    @property
    def checks(self) -> Path:
        """What the checks of landings printed, ``<task>.<attempt>.log``."""
        return self.logs / "checks"

    def session_prompt(self, task: str, attempt: int) -> Path:
        """What one attempt's session was told."""
        return self.logs / "sessions" / f"{task}.{attempt}.prompt.md"

    def service_log(self, name: str) -> Path:
        """``supervisor``, ``health``, ``chat`` or ``coordinator``."""
        return self.logs / f"{name}.log"

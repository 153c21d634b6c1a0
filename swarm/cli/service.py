"""``agentctl swarm service``: the fleet as a systemd user unit, printed, installed or removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from swarm.cli import unit
from swarm.cli.control import check_socket_path, here
from swarm.cli.screen import note, say
from swarm.cli.settings import checked_settings, config_named
from swarm.cli.up import repository_here
from swarm.config.places import Places, expanded
from swarm.config.settings import Settings
from swarm.errors import ConfigError, SwarmError, UsageError

DISABLE = f"systemctl --user disable --now {unit.NAME}"


@click.command("service")
@click.option("--install", is_flag=True, help="Write it where systemd looks for user units.")
@click.option("--uninstall", is_flag=True, help="Remove it from there, if it is ours.")
@click.option("--force", is_flag=True, help="Even a file that is not ours, or was changed.")
@click.option("--config", type=click.Path(path_type=Path), help="Another file than swarm.yaml.")
def service(install: bool, uninstall: bool, force: bool, config: Path | None) -> None:
    """The fleet as a service of your own: a systemd user unit for this home.

    Without an option it is printed.  It starts 'agentctl swarm up' in the foreground, is told when
    the fleet is ready, and starts it again when it fails or hangs.  Inside a git repository the
    fleet works on that one, unless repo.source names another.  API keys that sessions need go
    into AGENTCTL_HOME/service.env.

    \b
    Examples:
      agentctl swarm service | less
      agentctl swarm service --install
      systemctl --user daemon-reload && systemctl --user enable --now agentctl-swarm
      loginctl enable-linger              it also runs while you are not logged in
      agentctl swarm service --uninstall
    """
    if install and uninstall:
        raise UsageError("--install and --uninstall exclude each other", "give the one or other")
    places = here()
    if uninstall:
        _uninstall(unit_path(os.environ), force)
        return
    text = unit.render(facts_of(places, config))
    if install:
        _install(unit_path(os.environ), text, unit.home_line(str(places.home)), force)
    else:
        click.echo(text, nl=False)


def facts_of(places: Places, config: Path | None) -> unit.Facts:
    """What this machine and home say.  Raises :class:`ConfigError` for a bad file."""
    check_socket_path(places)
    named = config_named(config)
    settings = checked_settings(places, named)
    directory = "/"
    if settings.repo.source is None and (source := repository_here()) is not None:
        note(
            f"it will work on {source}, the repository you are in (repo.source would name another)"
        )
        directory = source
    kept = {name: os.environ[name] for name in _locale(os.environ)}
    path = os.environ.get("PATH", os.defpath)
    # A relative entry means another directory wherever the service runs.
    kept["PATH"] = ":".join(entry for entry in path.split(":") if os.path.isabs(entry))
    _tell_of_keys(places, settings)
    return unit.Facts(
        home=str(places.home),
        program=program(),
        config=str(named) if named is not None else None,
        directory=directory,
        environment=kept,
        grace_seconds=settings.stop.grace_seconds,
    )


def program() -> list[str]:
    """The command that runs ``agentctl`` from anywhere: its script, else this interpreter."""
    script = os.path.abspath(shutil.which(sys.argv[0]) or sys.argv[0])
    if os.path.basename(script) == "agentctl" and os.access(script, os.X_OK):
        return [script]
    return [os.path.abspath(sys.executable), "-P", "-m", "swarm.cli"]


def unit_path(environ: Mapping[str, str]) -> Path:
    """Where systemd looks for a user's own units (systemd.unit(5))."""
    named = environ.get("XDG_CONFIG_HOME", "")
    base = Path(named) if os.path.isabs(named) else Path("~/.config")
    return expanded(base, "XDG_CONFIG_HOME") / "systemd" / "user" / unit.NAME


def _locale(environ: Iterable[str]) -> list[str]:
    return [name for name in environ if name in ("LANG", "LANGUAGE", "TZ") or name[:3] == "LC_"]


def _tell_of_keys(places: Places, settings: Settings) -> None:
    """Logins in this shell's environment that the service would not have."""
    from swarm.config.roles import load_roles
    from swarm.config.runtimes import resolve_runtime

    try:
        roles = load_roles([agents.role for agents in settings.agents], places.roles)
        runtimes = [resolve_runtime(role.runtime, settings) for role in roles.values()]
    except ConfigError:
        return  # 'up' and 'doctor' say so
    names = {name for runtime in runtimes for name in runtime.pass_env if name in os.environ}
    if names:
        note(
            f"set here and not in the unit: {', '.join(sorted(names))}; what sessions need goes "
            f"into {places.home / 'service.env'}"
        )


def _install(path: Path, text: str, home_line: str, force: bool) -> None:
    there = _read(path)
    if there == text and not path.is_symlink():
        say(f"{path} is there already, and as it should be")
    else:
        if (there is not None or path.is_symlink()) and not force:
            _refuse_foreign(path, there or "", "it is not overwritten", "--install")
            if home_line not in (there or "").splitlines():
                raise SwarmError(
                    f"{path} is the service of another AGENTCTL_HOME",
                    "remove it with '--uninstall' there, or overwrite it with '--install --force'",
                )
        _write(path, text)
        say(f"wrote {path}")
    say(f"next: systemctl --user daemon-reload && systemctl --user enable --now {unit.NAME}")
    say("      loginctl enable-linger      (so that it runs while you are not logged in)")


def _uninstall(path: Path, force: bool) -> None:
    there = _read(path)
    if there is None and not path.is_symlink():
        raise SwarmError(f"there is no {path}", "it was not installed, or XDG_CONFIG_HOME differs")
    wanted_by = path.parent / "default.target.wants" / path.name
    if not force:
        _refuse_foreign(path, there or "", "it is not removed", "--uninstall")
        if wanted_by.is_symlink():
            raise SwarmError(f"the service is enabled ({wanted_by})", f"first: {DISABLE}")
    elif wanted_by.is_symlink():
        wanted_by.unlink()
    path.unlink()
    say(f"removed {path}")
    say("next: systemctl --user daemon-reload")


def _refuse_foreign(path: Path, there: str, so: str, option: str) -> None:
    """Raise :class:`SwarmError` for a unit that is not as we wrote it."""
    if path.is_symlink() or not unit.is_ours(there):
        what = "was not written by agentctl"
    elif not unit.is_unchanged(there):
        what = "was changed since agentctl wrote it"
    else:
        return
    remedy = f"look at it; '{option} --force' does it all the same"
    raise SwarmError(f"{path} {what}, and {so}", remedy)


def _read(path: Path) -> str | None:
    """The file as it is, ``None`` when there is none.  A dangling link is none, too."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and for its owner only: paths tell what a person works on."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise SwarmError(f"{path} cannot be written: {error.strerror}", "see ls -ld") from None

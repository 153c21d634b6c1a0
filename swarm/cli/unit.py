"""The systemd user unit of one home, as text; quoted by systemd's own rules (systemd.syntax(7)).

Pure: what it needs is given to it.  A value that systemd cannot be given exactly is refused, so
that the service never runs with another path than the one meant.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarm.errors import UsageError

NAME = "agentctl-swarm.service"
WATCHDOG_SECONDS = 30
"""A supervisor whose loop stands still so long is ended and started again; it beats twice as
often."""
START_SECONDS = 90
"""Until the fleet is ready; a living start asks for more by itself (``EXTEND_TIMEOUT_USEC``)."""
STOP_MARGIN_SECONDS = 30
"""Beyond the grace: daemons and services leave, work is salvaged, workspaces are removed."""
MARK = "# Written by 'agentctl swarm service'; sha256 of the lines below: "

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(r"[A-Za-z0-9_/.,:=+-]+")
_ESCAPES = {"\n": r"\n", "\t": r"\t"}
_GLOB = re.compile(r"([*?\[])")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the unit is made from; paths are absolute."""

    home: str
    program: Sequence[str]
    """The command of ``agentctl``, an absolute program and leading arguments."""
    config: str | None
    directory: str
    """Where ``up`` runs: in a repository, the fleet works on that one."""
    environment: Mapping[str, str]
    """``PATH`` and locale; ``AGENTCTL_HOME`` is added."""
    grace_seconds: float


def render(facts: Facts) -> str:
    """The whole file, its mark first.  Raises :class:`UsageError` for what cannot be said."""
    body = _body(facts)
    return f"{MARK}{_digest(body)}\n{body}"


def is_ours(text: str) -> bool:
    """Whether the file carries our mark at all."""
    return text.startswith(MARK)


def is_unchanged(text: str) -> bool:
    """Whether the file is as we wrote it."""
    first, _, body = text.partition("\n")
    return first == MARK + _digest(body)


def home_line(home: str) -> str:
    """The line that says whose unit it is."""
    return _assignment("AGENTCTL_HOME", home)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogateescape")).hexdigest()


def _body(facts: Facts) -> str:
    program, *rest = facts.program
    up = [*rest, "swarm", "up", *(["--config", facts.config] if facts.config else [])]
    start = " ".join([_program(program), *map(_argument, up)])
    others = [_assignment(name, value) for name, value in sorted(facts.environment.items())]
    stop = int(facts.grace_seconds + 0.999) + STOP_MARGIN_SECONDS
    return "\n".join(
        [
            "[Unit]",
            "Description=agentctl swarm: a fleet of coding agents",
            "StartLimitIntervalSec=600",
            "StartLimitBurst=5",
            "",
            "[Service]",
            "Type=notify",
            "NotifyAccess=main",
            home_line(facts.home),
            *others,
            "# API keys and proxies, one NAME=value a line; keep it for yourself (chmod 600).",
            f"EnvironmentFile=-{_file_pattern(facts.home + '/service.env')}",
            f"WorkingDirectory={_path(facts.directory)}",
            f"ExecStart={start}",
            "ExecReload=/bin/kill -HUP $MAINPID",
            f"TimeoutStartSec={START_SECONDS}",
            f"TimeoutStopSec={stop}",
            f"WatchdogSec={WATCHDOG_SECONDS}",
            "Restart=on-failure",
            "RestartSec=5",
            "# Wrong configuration, another swarm in this home: starting again does not help.",
            "RestartPreventExitStatus=2 5",
            "# TERM goes to the supervisor alone, which lets sessions save their work.",
            "KillMode=mixed",
            "# Sessions get cgroups of their own; one that runs out of memory ends alone.",
            "Delegate=yes",
            "OOMPolicy=continue",
            "UMask=0077",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        ]
    )


# -- quoting --------------------------------------------------------------------------------------


def _assignment(name: str, value: str) -> str:
    """``Environment="NAME=value"``: C escapes and specifiers count in it, variables do not."""
    _say_refused(value, name, allowed="\n\t")
    return f'Environment="{name}={_escaped(value)}"'


def _argument(word: str) -> str:
    """One word of ``ExecStart=`` after the first: variables count too."""
    _say_refused(word, "an argument", allowed="\n\t")
    return word if _PLAIN.fullmatch(word) else f'"{_escaped(word).replace("$", "$$")}"'


def _program(path: str) -> str:
    """The first word of ``ExecStart=``: variables do not count in it, so ``$`` cannot be told."""
    _say_refused(path, "the program")
    if "$" in path:
        raise UsageError(
            f"systemd cannot start a program with '$' in its path: {path!r}",
            "install agentctl at another path",
        )
    return path if _PLAIN.fullmatch(path) else f'"{_escaped(path)}"'


def _path(path: str) -> str:
    """A setting that is one path: no quotes and no escapes there, but specifiers."""
    _say_refused(path, "the directory")
    if path != path.strip() or path.endswith("\\"):
        raise UsageError(
            f"systemd cannot be told a path with white space or '\\' at its end: {path!r}",
            "use another directory",
        )
    return path.replace("%", "%%")


def _file_pattern(path: str) -> str:
    """``EnvironmentFile=`` takes a shell pattern (glob(7)): what is special stands in brackets."""
    return _GLOB.sub(r"[\1]", _path(path).replace("\\", "\\\\"))


def _escaped(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    for character, escape in _ESCAPES.items():
        quoted = quoted.replace(character, escape)
    return quoted


def _say_refused(text: str, what: str, allowed: str = "") -> None:
    """Raise :class:`UsageError` for what no unit file can hold."""
    found = _CONTROL.search(text.translate({ord(one): None for one in allowed}))
    try:
        text.encode()
    except UnicodeEncodeError:
        wrong = "bytes that are not UTF-8"
    else:
        if found is None:
            return
        wrong = f"the control character {found[0]!r}"
    raise UsageError(f"{what} holds {wrong}, and systemd takes none: {text!r}", "use another path")

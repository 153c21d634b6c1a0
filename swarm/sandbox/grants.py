"""Which paths a session is granted (rules, "The sandbox").

Nothing is granted that holds what must stay hidden: a directory on ``PATH`` that is a person's
home, an install prefix above the workspaces, are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from swarm.sandbox.environment import CERTIFICATES
from swarm.sandbox.landlock import LandlockRules
from swarm.sandbox.programs import install_paths

SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/proc", "/sys",
    "/nix/store", "/gnu/store", "/snap", "/home/linuxbrew/.linuxbrew", "/var/lib/ca-certificates",
    "/run/current-system", "/run/systemd/resolve",
)  # fmt: skip
"""Readable and executable for every session, where they exist."""

DEVICES = (
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx",
    "/dev/pts",
)  # fmt: skip


def session_rules(
    *,
    repo: str,
    out: str,
    tmp: str,
    state: str,
    notes: Sequence[str],
    programs: Iterable[str],
    env: Mapping[str, str],
    borrowed: Iterable[str] = (),
    read: Iterable[str] = (),
    write: Iterable[str] = (),
    hidden: Iterable[str] = (),
    ports: tuple[int, ...] | None = None,
) -> LandlockRules:
    """The rules of one session.

    ``notes`` are ``context.md``, ``CLAUDE.md`` and ``AGENTS.md``; ``programs`` the runtime's argv
    (its program's install prefix, and absolute paths in it); ``borrowed`` the hub's ``objects``;
    ``read`` and ``write`` the role's and adapter's lists, ``~`` being ``HOME`` of the *person* and
    already resolved by the caller; ``hidden`` what no derived grant may contain: ``AGENTCTL_HOME``,
    the workspace, the person's home.  The role's own lists are obeyed as they are;
    ``ports`` is its ``network``.
    """
    path = env.get("PATH", "")
    words = list(programs)
    derived = [folder for folder in path.split(os.pathsep) if folder.startswith("/")]
    for word in (*words[:1], "git", "sh", "node", "python3"):
        derived += install_paths(word, path)
    # pyenv and asdf put links to themselves on PATH and their programs beside that folder.
    derived += [os.path.dirname(f) for f in derived if os.path.basename(f) == "shims"]
    derived.append(os.path.realpath("/etc/resolv.conf"))
    derived += [word for word in words[1:] if word.startswith("/") and os.path.exists(word)]
    derived += [env[name] for name in CERTIFICATES if env.get(name, "").startswith("/")]
    secret = [os.path.realpath(entry) for entry in hidden]
    safe = [entry for entry in dict.fromkeys(derived) if not _holds(entry, secret)]
    return LandlockRules(
        read=tuple(dict.fromkeys((*SYSTEM, *safe, *notes, *borrowed, *read))),
        write=tuple(dict.fromkeys((repo, out, tmp, state, *write))),
        devices=DEVICES,
        ports=ports,
    )


def git_rules(*, read: Iterable[str] = (), write: Iterable[str] = ()) -> LandlockRules:
    """The rules of a git command of our own that reads what a session left."""
    path = os.environ.get("PATH", os.defpath)
    return LandlockRules(
        read=tuple(dict.fromkeys((*SYSTEM, *install_paths("git", path), *read))),
        write=tuple(write),
        devices=DEVICES,
    )


def _holds(path: str, secret: Sequence[str]) -> bool:
    """Whether granting ``path`` would grant one of ``secret``, or all there is."""
    real = os.path.realpath(path)
    return real == "/" or any(f"{entry}/".startswith(f"{real}/") for entry in secret)

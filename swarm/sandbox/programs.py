"""Where a program is, and what has to be readable for it to run.

Instead of ``shutil.which``: ``shutil`` brings compression libraries into every daemon.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

_MAX_LINKS = 16
_MAX_INTERPRETERS = 4


def find_program(name: str, path: str) -> str | None:
    """The executable file that ``name`` means: itself when it holds a slash, else from ``PATH``.

    Relative entries of ``path`` are left out: a session's working directory must not name
    programs.
    """
    if "/" in name:
        return name if os.path.exists(name) else None
    for folder in path.split(os.pathsep):
        candidate = os.path.join(folder, name)
        if folder.startswith("/") and os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    return None


def install_paths(name: str, path: str) -> list[str]:
    """Directories that ``name`` and its interpreters were installed to, for reading.

    Follows links (``bin/claude`` → ``lib/node_modules/…/cli.js``), ``#!`` lines, and a virtual
    environment's base.  A program that is not there has none.
    """
    found: list[str] = []
    wanted = [name]
    for _ in range(_MAX_INTERPRETERS):
        if not wanted:
            break
        program = find_program(wanted.pop(), path)
        if program is None:
            continue
        hops = list(_hops(os.path.abspath(program)))
        for hop in hops[:-1]:
            found += _environment(hop)
        found += _prefix(hops[-1])
        wanted = _interpreter(hops[-1])
    return list(dict.fromkeys(found))


def _hops(path: str) -> Iterator[str]:
    """``path`` and everything it links to, the real file last."""
    for _ in range(_MAX_LINKS):
        yield path
        try:
            target = os.readlink(path)
        except OSError:
            break
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    yield os.path.realpath(path)


def _environment(program: str) -> list[str]:
    """The virtual environment a link lies in, with the home of its base interpreter."""
    prefix = os.path.dirname(os.path.dirname(program))
    try:
        with open(os.path.join(prefix, "pyvenv.cfg"), encoding="utf-8", errors="replace") as file:
            lines = file.read(8192).splitlines()
    except OSError:
        return [os.path.dirname(program)]
    homes = [line.partition("=")[2].strip() for line in lines if line.startswith("home")]
    return [prefix, *(os.path.dirname(home) for home in homes if home.startswith("/"))]


def _prefix(program: str) -> list[str]:
    """The install prefix of a real file."""
    folder = os.path.dirname(program)
    if (at := program.find("/node_modules/")) >= 0:
        return [program[: at + len("/node_modules")]]
    parent = os.path.dirname(folder)
    if os.path.basename(folder) not in ("bin", "sbin") or parent == "/":
        return [folder]
    if os.path.exists(os.path.join(parent, "pyvenv.cfg")):
        return _environment(program)
    if os.path.basename(parent) == ".local":  # holds keyrings and browser profiles as well
        return [folder, os.path.join(parent, "lib")]
    return [parent]


def _interpreter(program: str) -> list[str]:
    """What the ``#!`` line names; through ``env``, the program it looks for."""
    try:
        with open(program, "rb") as file:
            line = file.readline(512)
    except OSError:
        return []
    if not line.startswith(b"#!"):
        return []
    words = line[2:].decode(errors="replace").split()
    if words and os.path.basename(words[0]) == "env":
        rest = [w for w in words[1:] if not w.startswith("-") and "=" not in w]
        return rest[:1]
    return words[:1]

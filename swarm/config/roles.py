"""Roles: the shipped ones, and what ``AGENTCTL_HOME/roles`` adds to them or overrides.

A role is ``<name>.yaml`` and the prompt it names.  A file in the home overrides a shipped role of
its name key by key (``limits`` and ``secrets`` as well), or is a role of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path, PurePosixPath

import msgspec

from swarm.config.check import check, closest, merged, shown
from swarm.config.document import (
    Document,
    Key,
    Problem,
    join,
    parse_document,
    read_capped,
    read_document,
)
from swarm.config.load import bad_role_name
from swarm.config.settings import Limits, Role
from swarm.core.matching import ANY
from swarm.core.model import MAX_LABEL, is_label, is_lane, is_role
from swarm.errors import ConfigError

MAX_PROMPT = 64 * 1024
"""Bytes of one role's prompt: it is part of every session's."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


def shipped_roles() -> tuple[str, ...]:
    """Names of the roles that come with the program, sorted."""
    found = (entry.name for entry in resources.files("swarm").joinpath("roles").iterdir())
    return tuple(sorted(name[:-5] for name in found if name.endswith(".yaml")))


def available_roles(home_roles: Path) -> tuple[str, ...]:
    """Names of the shipped roles and those of the home, sorted; files of other names are none."""
    try:
        names = os.listdir(home_roles)
    except OSError:
        names = []  # no such directory: only the shipped ones; load_role names what is unreadable
    own = (name[:-5] for name in names if name.endswith(".yaml"))
    return tuple(sorted({*shipped_roles(), *(name for name in own if is_role(name))}))


def load_role(name: str, home_roles: Path) -> Role:
    """A role with its prompt read in.

    Raises :class:`~swarm.errors.ConfigError` with every problem of its file, or for a role that
    is nowhere.
    """
    if problem := bad_role_name(name):
        raise ConfigError([problem])
    data: dict[str, object] = {}
    problems: list[Problem] = []
    found = False
    if name in shipped_roles():
        found = True
        data = _shipped(name)
    path = home_roles / f"{name}.yaml"
    if os.path.lexists(path):
        found = True
        document = read_document(path)
        problems = _problems(document)
        if not problems:
            own, problems = _with_prompt(document, home_roles)
            data = _override(data, own)
    if not found:
        known = available_roles(home_roles)
        hint = closest(name, known)
        raise ConfigError(
            [f"there is no role {name!r}" + (f"; {hint}" if hint else "")],
            f"there are {', '.join(known)}; {path} would add it",
        )
    if problems:
        raise ConfigError(join(problems), "mend the role file and try again")
    return msgspec.convert(data, Role)


def load_roles(names: Iterable[str], home_roles: Path) -> dict[str, Role]:
    """Several roles; raises one :class:`~swarm.errors.ConfigError` with the problems of all."""
    roles: dict[str, Role] = {}
    problems: list[str] = []
    remedy = ""
    for name in dict.fromkeys(names):
        try:
            roles[name] = load_role(name, home_roles)
        except ConfigError as error:
            problems += error.problems
            remedy = error.remedy
    if problems:
        raise ConfigError(problems, remedy)
    return roles


def effective_limits(limits: Limits, role: Role) -> Limits:
    """The swarm's limits with the role's own in their place, for one session of the role.

    ``token_budget`` and ``usd_budget`` are not merged: the swarm's are for all sessions together,
    a role's for each of its agents.
    """
    own = {
        key: value
        for key, value in msgspec.structs.asdict(role.limits).items()
        if value is not None and key not in ("token_budget", "usd_budget")
    }
    return msgspec.structs.replace(limits, **own)


def resolve_secrets(name: str, role: Role, environ: Mapping[str, str]) -> dict[str, str]:
    """The role's ``secrets`` as variables of a session, read from environment and files.

    A file's trailing newline is no part of the secret.  Raises
    :class:`~swarm.errors.ConfigError` naming every one that is not there, never a value.
    """
    values: dict[str, str] = {}
    problems: list[str] = []
    for variable, source in role.secrets.items():
        kind, _, where = source.partition(":")
        if kind == "env" and where in environ:
            values[variable] = environ[where]
        elif kind == "env":
            problems.append(f"role {name}: secrets.{variable}: {where} is not set")
        else:
            try:
                data = read_capped(Path(where).expanduser())
                values[variable] = data.decode().rstrip("\r\n")
            except (OSError, ValueError, RuntimeError) as error:
                why = error.strerror if isinstance(error, OSError) else "is not a text file"
                problems.append(f"role {name}: secrets.{variable}: {where}: {why}")
    if problems:
        raise ConfigError(problems, "set it, or remove it from the role's secrets")
    return values


# -- reading ------------------------------------------------------------------------------------


def _shipped(name: str) -> dict[str, object]:
    """A role of the package; its files are our own, so they hold no problems (a test says so)."""
    folder = resources.files("swarm").joinpath("roles")
    data = dict(parse_document(folder.joinpath(f"{name}.yaml").read_bytes(), name).data)
    prompt = data.pop("prompt_file", None)
    if isinstance(prompt, str):
        data["prompt"] = folder.joinpath(prompt).read_text(encoding="utf-8")
    return data


def _override(base: dict[str, object], own: Mapping[str, object]) -> dict[str, object]:
    data = dict(base)
    for key, value in own.items():
        below = data.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            value = _override(below, value)
        data[key] = value
    return data


def _with_prompt(document: Document, folder: Path) -> tuple[dict[str, object], list[Problem]]:
    """The file's data with ``prompt`` in place of ``prompt_file``."""
    data = dict(document.data)
    named = data.pop("prompt_file", None)
    if not named:
        return data, []
    try:
        data["prompt"] = _read_prompt(str(named), folder)
    except OSError as error:
        why = f"{shown(named)} cannot be read: {error.strerror or error}"
    except ValueError as error:
        why = str(error)
    else:
        return data, []
    return data, [document.problem(("prompt_file",), why)]


def _read_prompt(named: str, folder: Path) -> str:
    """A prompt beside its role file; raises ``ValueError`` for what is not."""
    path = PurePosixPath(named)
    if path.is_absolute() or ".." in path.parts or "\0" in named:
        raise ValueError(f"{shown(named)} must be a file beside the role file")
    real = (folder / path).resolve(strict=True)
    if not real.is_relative_to(folder.resolve()):
        raise ValueError(f"{shown(named)} leads out of {folder}; put the prompt beside the role")
    data = read_capped(real)
    if len(data) > MAX_PROMPT:
        raise ValueError(f"{shown(named)} is larger than {MAX_PROMPT // 1024} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{shown(named)} is not UTF-8 text") from None
    if not text.strip():
        raise ValueError(f"{shown(named)} is empty")
    return text


# -- checking -----------------------------------------------------------------------------------


def _problems(document: Document) -> list[Problem]:
    meanings = (document.problem(key, what) for key, what in _meanings(document.data))
    return list(merged(document.problems, meanings, check(document, Role)))


def _meanings(data: Mapping[str, object]) -> Iterator[tuple[Key, str]]:
    prompt, prompt_file = data.get("prompt"), data.get("prompt_file")
    if prompt and prompt_file:
        yield ("prompt_file",), "stands beside prompt; give one of them"
    if isinstance(prompt, str) and len(prompt) > MAX_PROMPT:
        yield ("prompt",), f"is longer than {MAX_PROMPT // 1024} KiB"
    if data.get("runtime") == "":
        yield ("runtime",), "must name a runtime, e.g. claude"
    takes = data.get("takes")
    for place, role in enumerate(takes if isinstance(takes, list) else ()):
        if isinstance(role, str) and (why := bad_role_name(role)):
            yield ("takes", place), why
    yield from _lanes(data)
    for name in ("read", "write"):
        paths = data.get(name)
        for place, path in enumerate(paths if isinstance(paths, list) else ()):
            if isinstance(path, str) and (why := _bad_path(name, path)):
                yield (name, place), why
    if data.get("sandbox") is False:
        yield ("sandbox",), "must be 'off' in quotes: YAML reads off as false"
    if data.get("network") is not None and data.get("sandbox") == "off":
        yield ("network",), "is kept by the sandbox, which is off; remove it, or set sandbox: auto"
    secrets = data.get("secrets")
    for variable, source in (secrets if isinstance(secrets, dict) else {}).items():
        if not _VARIABLE.match(variable):
            yield ("secrets", variable), "cannot name an environment variable"
        elif isinstance(source, str) and (why := _bad_secret(source)):
            yield ("secrets", variable), why


def _lanes(data: Mapping[str, object]) -> Iterator[tuple[Key, str]]:
    """Which lanes and labels can be taken; ``*`` is any."""
    lanes = data.get("lanes")
    for place, lane in enumerate(lanes if isinstance(lanes, list) else ()):
        if lane == "":
            yield ("lanes", place), "is the default lane, which is taken anyway; leave it out"
        elif isinstance(lane, str) and lane != ANY and not is_lane(lane):
            yield ("lanes", place), f"{shown(lane)} is no lane's name: use a-z 0-9 _ -, or '*'"
    labels = data.get("labels")
    for key, values in (labels if isinstance(labels, dict) else {}).items():
        if not is_label(str(key), ANY):
            yield ("labels", str(key)), "cannot name a label: use a-z, 0-9, _ and -"
            continue
        for place, value in enumerate(values if isinstance(values, list) else ()):
            if isinstance(value, str) and not is_label(str(key), value):
                what = f"give 1 to {MAX_LABEL} printable characters, or '*' for any"
                yield ("labels", key, place), f"{shown(value)} can be no label's value; {what}"


def _bad_path(name: str, path: str) -> str:
    if "\0" in path or not path.startswith(("/", "~/")):
        return f"{shown(path)} must be an absolute path, or begin with ~/"
    if name == "write" and PurePosixPath(path) == PurePosixPath("/"):
        return "the whole machine cannot be given for writing; name the directories"
    return ""


def _bad_secret(source: str) -> str:
    """Why a secret's source cannot be one; never shows it: it may be the secret itself."""
    kind, _, where = source.partition(":")
    if kind == "env" and _VARIABLE.match(where):
        return ""
    if kind == "file" and where.startswith(("/", "~/")) and "\0" not in where:
        return ""
    return "must say where the secret is, env:NAME or file:/PATH, not be one"

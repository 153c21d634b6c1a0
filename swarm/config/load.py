"""``swarm.yaml`` to :class:`~swarm.config.settings.Settings`, or every problem of the file.

Nothing here raises for a bad file: a reload keeps its old settings and shows the problems.  Who
cannot go on without settings calls :meth:`Loaded.require`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from swarm.config.check import check, closest, merged, shown
from swarm.config.document import Document, Key, Problem, join, parse_document, read_document
from swarm.config.hooks import inbox_problems, notify_problems
from swarm.config.runtimes import ADAPTERS, PLACEHOLDERS
from swarm.config.settings import Settings
from swarm.core.model import MAX_ROLE_NAME, is_agent_id, is_channel, is_role
from swarm.errors import ConfigError

__all__ = ["Loaded", "Problem", "load_settings", "parse_settings"]

_RUNTIME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_AUTHOR = re.compile(r"[^<>\n]*[^<>\s.,:;\"\\'][^<>\n]* <[^<>\s]+>\Z")
_BRANCH = re.compile(
    r"(?!-)(?!.*(?:\.\.|//|@\{|\.lock(?:/|\Z)|/\.|\.\Z|/\Z))[^\x00-\x20\x7f~^:?*\[\\]+\Z"
)
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
"""Where the HTTP interface may listen, as ``api.listen`` spells it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What reading the configuration gave."""

    settings: Settings
    """The file's; the defaults where there is no file, or a bad one."""
    path: Path | None
    """The file that was read; ``None`` where there is none."""
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the settings are the file's."""
        return not self.problems

    def require(self) -> Settings:
        """The settings; raises :class:`~swarm.errors.ConfigError` with every problem."""
        if self.problems:
            raise ConfigError(join(self.problems), "mend the file and try again")
        return self.settings


def load_settings(path: Path | None) -> Loaded:
    """Read a config file; ``None`` means there is none, and gives the defaults."""
    if path is None:
        return Loaded(Settings(), None)
    return _loaded(read_document(path), path)


def parse_settings(text: str | bytes, name: str = "swarm.yaml") -> Loaded:
    """The same for a text; ``name`` is what its problems call it."""
    return _loaded(parse_document(text, name), Path(name))


def _loaded(document: Document, path: Path) -> Loaded:
    problems = merged(document.problems, _meanings(document), check(document, Settings))
    if problems:
        return Loaded(Settings(), path, problems)
    try:
        return Loaded(msgspec.convert(document.data, Settings), path)
    except msgspec.ValidationError as error:
        # The checks above are meant to be no laxer than the types; this keeps them honest.
        return Loaded(Settings(), path, (Problem(document.name, 0, "", str(error)),))


def _meanings(document: Document) -> Iterator[Problem]:
    """What is wrong with values of the right form, and what deserves more than the form's word."""
    data = document.data
    for key, what in _top(data):
        yield document.problem(key, what)
    for key, what in notify_problems(data.get("notify")):
        yield document.problem(("notify", *key), what)
    sections = (
        *(("chat", _chat), ("repo", _repo), ("runtimes", _runtimes)),
        *(("api", _api), ("inbox", inbox_problems)),
    )
    for section, look in sections:
        part = data.get(section)
        if isinstance(part, dict):
            for key, what in look(part):
                yield document.problem((section, *key), what)


_Found = Iterator[tuple[Key, str]]


def _top(data: Mapping[str, object]) -> _Found:
    version = data.get("version", 1)
    if version != 1 and isinstance(version, int):
        yield ("version",), f"version {version} is not known to this agentctl; it reads version 1"
    base = data.get("workspace_base")
    if isinstance(base, str):
        if not base.startswith(("/", "~")):
            yield ("workspace_base",), "must be an absolute path, or begin with ~"
        elif "\0" in base or "\n" in base:
            yield ("workspace_base",), "must be one path"
    agents = data.get("agents")
    seen: dict[str, int] = {}
    for place, entry in enumerate(agents if isinstance(agents, list) else ()):
        role = entry.get("role") if isinstance(entry, dict) else None
        if not isinstance(role, str):
            continue
        key: Key = ("agents", place, "role")
        if problem := bad_role_name(role):
            yield key, problem
        if role in seen:
            yield key, f"{role!r} stands in agents[{seen[role]}] already; add the counts up"
        seen.setdefault(role, place)


def bad_role_name(role: str) -> str:
    """Why ``role`` cannot name a role; empty when it can."""
    if is_role(role):
        return ""
    if len(role) > MAX_ROLE_NAME:
        return (
            f"{shown(role)} is too long for a role: at most {MAX_ROLE_NAME} characters, "
            "so that its agents' names have at most 32"
        )
    return f"{shown(role)} cannot name a role: use a-z, 0-9, _ and -, no dash at either end"


def _chat(chat: Mapping[str, object]) -> _Found:
    url, listen, channel = chat.get("url"), chat.get("listen"), chat.get("channel")
    if isinstance(url, str) and (why := bad_chat_url(url)):
        yield ("url",), why
    if isinstance(listen, str) and parse_address(listen) is None:
        yield ("listen",), f"{shown(listen)} is no address; give host:port, e.g. 127.0.0.1:6667"
    if isinstance(channel, str) and not is_channel(channel):
        what = "'#' and 1 to 31 letters, digits, _ or -"
        yield ("channel",), f"{shown(channel)} is no channel name; give {what}"
    elif channel is None and "channel" in chat:
        yield ("channel",), 'is empty; put it in quotes, as "#" begins a comment: "#agents"'
    for name in ("coordinators", "announcers"):
        ids = chat.get(name)
        for place, one in enumerate(ids if isinstance(ids, list) else ()):
            if (
                not isinstance(one, str)
                or is_agent_id(one)
                or (name == "announcers" and one == "*")
            ):
                continue
            star = " or '*'" if name == "announcers" else ""
            yield (name, place), f"{shown(one)} is no agent id; give 16 hex digits{star}"


def _api(api: Mapping[str, object]) -> _Found:
    listen = api.get("listen")
    if isinstance(listen, str) and (why := bad_api_listen(listen)):
        yield ("listen",), why


def bad_api_listen(listen: str) -> str:
    """Why the HTTP interface cannot listen there; empty when it can.

    Its token travels unencrypted: whoever is on another host comes by a tunnel of his own.
    """
    address = parse_address(listen)
    if address is None:
        return f"{shown(listen)} is no address; give host:port, e.g. 127.0.0.1:8765"
    if listen.rpartition(":")[0] not in LOOPBACK:
        return f"{shown(listen)} is not of the loopback; give one of {', '.join(LOOPBACK)}"
    return ""


def bad_chat_url(url: str) -> str:
    """Why ``url`` cannot be a chat server's; empty when it can."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"{shown(url)} is no address: {error}"
    if parts.scheme not in ("ws", "wss"):
        return f"{shown(url)} must begin with ws:// or wss://"
    if not parts.hostname or port == 0 or re.search(r"[\x00-\x20\x7f]", url):
        return f"{shown(url)} names no host; give e.g. wss://chat.example.org"
    if parts.username or parts.password or parts.fragment:
        return "must hold no user, password or '#': agents sign in with their own keys"
    return ""


def parse_address(text: str) -> tuple[str, int] | None:
    """``host:port`` or ``[v6]:port`` with a port of 0 to 65535; ``None`` when it is neither."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        return None
    return match[1] or match[2], int(match[3])


def _repo(repo: Mapping[str, object]) -> _Found:
    source, target = repo.get("source"), repo.get("target")
    author, publish = repo.get("author"), repo.get("publish")
    if isinstance(source, str) and (not source.strip() or re.search(r"[\x00-\x1f]", source)):
        yield ("source",), "must be a directory or a git address; leave it out for none"
    elif isinstance(source, str) and source.startswith("-"):
        yield ("source",), f"{shown(source)} looks like an option; write ./{source} for a path"
    if isinstance(target, str) and (not _BRANCH.match(target) or target in ("HEAD", "@")):
        yield ("target",), f"{shown(target)} is no branch name"
    elif target == "swarm":  # git keeps no branch beside branches below its name
        room = "leaves no room for the tasks' own branches, swarm/<agent>/<task>"
        yield ("target",), f"{shown(target)} {room}; name another branch"
    if isinstance(author, str) and not _AUTHOR.match(author):
        yield ("author",), f"{shown(author)} is no author; give 'Name <mail@example.org>'"
    if isinstance(publish, str):
        filled = publish.replace("{target}", "main")
        if "{" in filled or "}" in filled or not _BRANCH.match(filled):
            remedy = "only {target} is filled in" if publish.strip() else "null publishes nothing"
            yield ("publish",), f"{shown(publish)} is no branch name; {remedy}"


def _runtimes(runtimes: Mapping[str, object]) -> _Found:
    for name, entry in runtimes.items():
        if not _RUNTIME.match(name):
            yield (name,), "cannot name a runtime: use up to 32 letters, digits, _ and -"
        if not isinstance(entry, dict):
            continue
        for key, what in _runtime(name, entry):
            yield (name, *key), what


def _runtime(name: str, entry: Mapping[str, object]) -> _Found:
    adapter = entry.get("adapter")
    if adapter is None and name not in ADAPTERS:
        known = ", ".join(ADAPTERS)
        hint = closest(name, ADAPTERS)
        yield (
            (),
            f"names no adapter and is none itself; add adapter: one of {known}"
            + (f" ({hint})" if hint else ""),
        )
    command = entry.get("command")
    by_template = (adapter or name) == "command"
    if command is None and by_template:
        yield ("command",), "is missing; give the program and its arguments as a list"
    if isinstance(command, list):
        if not command or not command[0]:
            yield ("command",), "must begin with a program"
        for place, word in enumerate(command):
            yield from _word(word, ("command", place), by_template)
    args = entry.get("args")
    for place, word in enumerate(args if isinstance(args, list) else ()):
        yield from _word(word, ("args", place), by_template)
    env, passed = entry.get("env"), entry.get("pass_env")
    for variable in env if isinstance(env, dict) else ():
        if not _VARIABLE.match(variable):
            yield ("env", variable), "cannot name an environment variable"
    for place, variable in enumerate(passed if isinstance(passed, list) else ()):
        if isinstance(variable, str) and not _VARIABLE.match(variable):
            yield ("pass_env", place), f"{shown(variable)} cannot name an environment variable"


def _word(word: object, key: Key, by_template: bool) -> _Found:
    if not isinstance(word, str):
        return
    if "\0" in word:
        yield key, "no argument can hold a NUL character"
    for placeholder in _PLACEHOLDER.findall(word) if by_template else ():
        if placeholder not in PLACEHOLDERS:
            known = " ".join(f"{{{one}}}" for one in PLACEHOLDERS)
            hint = closest(placeholder, PLACEHOLDERS)
            yield key, f"{{{placeholder}}} is not filled in; {hint or f'known are {known}'}"

"""What the adapters' launches have in common: prompts, commands, and where state and logins lie."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from swarm.errors import SessionError
from swarm.sessions.model import MAX_INLINE_PROMPT, LaunchRequest
from swarm.wire.spawn import RuntimeSpec


def clean_prompt(request: LaunchRequest) -> str:
    """The prompt without NUL, which no argument can hold (execve(2)), and always some text."""
    return request.prompt.replace("\0", "") or "(empty)"


def inline_prompt(request: LaunchRequest) -> tuple[str, dict[str, str]]:
    """The prompt as one argument and the files to write: a long one is read from its file."""
    prompt = clean_prompt(request)
    if len(prompt.encode("utf-8", "replace")) <= MAX_INLINE_PROMPT:
        return prompt, {}
    pointer = f"Read the file {request.prompt_file} to its end and do what it says."
    return pointer, {request.prompt_file: prompt}


def argv_of(runtime: RuntimeSpec, *options: str) -> tuple[str, ...]:
    """The runtime's command, the adapter's options, with the runtime's own ``args`` before them.

    Raises :class:`~swarm.errors.SessionError` for a runtime without a command.
    """
    if not runtime.command or not runtime.command[0]:
        raise SessionError(
            f"runtime {runtime.name!r} has no command", "name its program under runtimes"
        )
    return (*runtime.command, *runtime.args, *options)


@dataclass(frozen=True, slots=True)
class State:
    """Where one CLI's state lies, and what of the person's is shown to it."""

    env: Mapping[str, str] = field(default_factory=dict)
    directories: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    read_paths: tuple[str, ...] = ()
    write_paths: tuple[str, ...] = ()

    def plus(self, other: State) -> State:
        """Both together."""
        return State(
            {**self.env, **other.env},
            self.directories + other.directories,
            {**self.links, **other.links},
            self.read_paths + other.read_paths,
            self.write_paths + other.write_paths,
        )


STATE_VARIABLES = (
    "CLAUDE_CONFIG_DIR", "CODEX_HOME",
    "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME",
)  # fmt: skip
"""Variables that say where a person's CLIs keep their logins; ``HOME`` says it for the others."""


def person_state(
    request: LaunchRequest,
    variable: str,
    own: str,
    usual: str,
    logins: tuple[str, ...],
) -> State:
    """The state directory that ``variable`` names to the CLI.

    It is ``<state_dir>/<own>``, with the person's ``logins`` linked in from their own directory:
    the one ``variable`` names in their environment, else ``~/<usual>``.  A runtime that sets the
    variable itself, or passes it on, says where the state lies: then it lies there.
    """
    chosen = request.runtime.env.get(variable)
    if chosen is None and variable in request.runtime.pass_env:
        chosen = request.environ.get(variable)
    if chosen:
        return State(env={variable: chosen}, write_paths=(chosen,))
    directory = posixpath.join(request.state_dir, own)
    theirs = _person_directory(request.environ, variable, usual)
    names = logins if theirs else ()
    links = {posixpath.join(directory, n): posixpath.join(theirs, n) for n in names}
    return State(
        env={variable: directory},
        directories=tuple(dict.fromkeys((directory, *map(posixpath.dirname, links)))),
        links=links,
        read_paths=tuple(links.values()),
        write_paths=(directory,),
    )


def _person_directory(environ: Mapping[str, str], variable: str, usual: str) -> str:
    named = environ.get(variable, "")
    if posixpath.isabs(named):
        return named
    home = environ.get("HOME", "")
    return posixpath.join(home, usual) if posixpath.isabs(home) else ""

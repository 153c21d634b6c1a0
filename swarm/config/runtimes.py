"""Which program an agent CLI is, and what of the environment it gets, with defaults filled in."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping

from swarm.config.check import closest
from swarm.config.settings import Runtime, Settings
from swarm.errors import ConfigError
from swarm.wire.spawn import RuntimeSpec

PLACEHOLDERS = ("prompt", "prompt_file", "workspace", "task_id", "model", "out")
"""What the words of a ``command`` runtime may hold in braces."""

ADAPTERS = ("claude", "codex", "opencode", "command", "scripted")
"""Each of them knows one CLI's arguments and output; ``command`` is any CLI by template."""


def builtin_runtimes() -> dict[str, Runtime]:
    """The runtimes that need no entry in the file.

    Only the variables named here, and what every session gets (locale, proxy, certificates),
    reach the CLI; logins kept in its state directory need none.
    """
    claude = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN")
    openai = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
    return {
        "claude": Runtime(
            adapter="claude", command=("claude",), pass_env=(*claude, "CLAUDE_CODE_OAUTH_TOKEN")
        ),
        "codex": Runtime(adapter="codex", command=("codex",), pass_env=(*openai, "CODEX_API_KEY")),
        "opencode": Runtime(
            adapter="opencode",
            command=("opencode",),
            pass_env=(
                *claude,
                *openai,
                "OPENROUTER_API_KEY",
                "GEMINI_API_KEY",
                "GOOGLE_GENERATIVE_AI_API_KEY",
            ),
        ),
        # -P: a repository with a folder named like ours must not be run in our stead.
        "scripted": Runtime(
            adapter="scripted", command=(sys.executable, "-P", "-m", "swarm.sessions.scripted")
        ),
    }


def resolve_runtime(name: str, settings: Settings) -> RuntimeSpec:
    """The runtime a role names; the file's entry goes before the built-in one, key by key.

    Raises :class:`~swarm.errors.ConfigError` for a name that is neither.
    """
    builtin = builtin_runtimes()
    entry = settings.runtimes.get(name)
    if entry is None and name not in builtin:
        known = sorted({*builtin, *settings.runtimes})
        hint = closest(name, known)
        raise ConfigError(
            [f"there is no runtime {name!r}" + (f"; {hint}" if hint else "")],
            f"there are {', '.join(known)}; an entry in 'runtimes' adds one",
        )
    entry = entry or Runtime()
    adapter = entry.adapter or (name if name in ADAPTERS else None)
    if adapter is None:
        raise ConfigError(
            [f"runtimes.{name} names no adapter"], f"add adapter: one of {', '.join(ADAPTERS)}"
        )
    default = builtin.get(adapter, Runtime())
    command = entry.command if entry.command is not None else default.command
    if not command:
        raise ConfigError(
            [f"runtimes.{name} has no command"], "give the program and its arguments as a list"
        )
    return RuntimeSpec(
        name=name,
        adapter=adapter,
        command=command,
        args=_either(entry.args, default.args),
        env=dict(entry.env if entry.env is not None else default.env or {}),
        pass_env=_either(entry.pass_env, default.pass_env),
    )


def _either(own: tuple[str, ...] | None, default: tuple[str, ...] | None) -> tuple[str, ...]:
    return own if own is not None else default or ()


def missing_program(runtime: RuntimeSpec, environ: Mapping[str, str]) -> str:
    """Why the runtime's program cannot be started here; empty when it can (told at ``up``)."""
    program = runtime.command[0]
    search = runtime.env.get("PATH", environ.get("PATH", ""))
    if shutil.which(program, path=search) is not None:
        return ""
    where = "is not a program" if "/" in program else "is not on PATH"
    return (
        f"runtime {runtime.name!r}: {program!r} {where}; install it, or name another in "
        f"runtimes.{runtime.name}.command"
    )

"""Runtimes: built in, overridden key by key, or a clear word about what is missing."""

from __future__ import annotations

import sys

import pytest

from swarm.config.runtimes import ADAPTERS, builtin_runtimes, missing_program, resolve_runtime
from swarm.config.settings import Runtime, Settings
from swarm.errors import ConfigError


def test_four_runtimes_need_no_entry() -> None:
    assert set(builtin_runtimes()) == {"claude", "codex", "opencode", "scripted"}
    assert {*builtin_runtimes(), "command"} == set(ADAPTERS)
    for name in builtin_runtimes():
        spec = resolve_runtime(name, Settings())
        assert (spec.name, spec.adapter) == (name, name)
    assert resolve_runtime("scripted", Settings()).command[0] == sys.executable
    assert "ANTHROPIC_BASE_URL" in resolve_runtime("claude", Settings()).pass_env


def test_an_entry_goes_before_the_built_in_one_key_by_key() -> None:
    settings = Settings(
        runtimes={
            "claude": Runtime(command=("/opt/claude",), pass_env=()),
            "fast": Runtime(adapter="claude", args=("--fast",), env={"A": "b"}),
            "mine": Runtime(adapter="command", command=("mine", "{prompt}")),
        }
    )
    claude = resolve_runtime("claude", settings)
    assert (claude.adapter, claude.command, claude.pass_env) == ("claude", ("/opt/claude",), ())
    fast = resolve_runtime("fast", settings)
    assert (fast.command, fast.args, fast.env) == (("claude",), ("--fast",), {"A": "b"})
    assert fast.pass_env == resolve_runtime("claude", Settings()).pass_env
    assert resolve_runtime("mine", settings).command == ("mine", "{prompt}")


@pytest.mark.parametrize(
    ("name", "runtimes", "said"),
    [
        ("clade", {}, "there is no runtime 'clade'; did you mean 'claude'?"),
        ("command", {}, "there is no runtime 'command'"),
        ("x", {"x": Runtime()}, "runtimes.x names no adapter"),
        ("x", {"x": Runtime(adapter="command")}, "runtimes.x has no command"),
    ],
)
def test_what_cannot_be_resolved(name: str, runtimes: dict, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_runtime(name, Settings(runtimes=runtimes))
    assert str(caught.value).startswith(said)
    assert caught.value.remedy


def test_a_missing_program_is_named() -> None:
    claude = resolve_runtime("claude", Settings())
    assert missing_program(claude, {"PATH": "/nowhere"}) == (
        "runtime 'claude': 'claude' is not on PATH; install it, or name another in "
        "runtimes.claude.command"
    )
    assert missing_program(resolve_runtime("scripted", Settings()), {}) == ""
    gone = Settings(runtimes={"claude": Runtime(command=("/nowhere/claude",))})
    assert "is not a program" in missing_program(resolve_runtime("claude", gone), {})

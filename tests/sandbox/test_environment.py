"""A session's environment holds what is passed and nothing else; its state is laid safely."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import WorkspaceError
from swarm.sandbox.environment import prepare_state, scrubbed, session_environment
from swarm.sandbox.programs import find_program, install_paths

PERSON = {
    "PATH": "/usr/bin",
    "HOME": "/home/ann",
    "LANG": "C.UTF-8",
    "LC_TIME": "de_DE",
    "HTTPS_PROXY": "http://proxy",
    "NODE_EXTRA_CA_CERTS": "/etc/ca.pem",
    "AWS_SECRET_ACCESS_KEY": "no",
    "SSH_AUTH_SOCK": "/run/agent",
    "AGENTCTL_HOME": "/home/ann/.agentctl",
    "LD_PRELOAD": "/evil.so",
    "ANTHROPIC_API_KEY": "key",
    "GIT_DIR": "/elsewhere",
}


def made(**changes: object) -> dict[str, str]:
    given: dict[str, object] = {
        "home": "/w/state", "tmp": "/w/tmp", "runtime_env": {}, "pass_env": (), "secrets": {},
        "extra": {}, "task": "t-1", "out": "/w/out/t-1",
    }  # fmt: skip
    return session_environment(PERSON, **{**given, **changes})  # type: ignore[arg-type]


def test_only_what_is_passed_gets_through() -> None:
    env = made(pass_env=("ANTHROPIC_API_KEY", "NOT_SET"))
    assert env["ANTHROPIC_API_KEY"] == "key"
    assert env["HOME"] == "/w/state"
    assert env["TMPDIR"] == "/w/tmp"
    assert (env["AGENTCTL_TASK"], env["AGENTCTL_OUT"]) == ("t-1", "/w/out/t-1")
    assert env["HTTPS_PROXY"] == "http://proxy"
    assert env["LC_TIME"] == "de_DE"
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "SSH_AUTH_SOCK",
        "AGENTCTL_HOME",
        "LD_PRELOAD",
        "GIT_DIR",
    ):
        assert name not in env
    assert "NOT_SET" not in env
    assert "ANTHROPIC_API_KEY" not in made()


def test_the_nearer_wins() -> None:
    env = made(
        pass_env=("ANTHROPIC_API_KEY",),
        extra={"ANTHROPIC_API_KEY": "adapter", "X": "adapter", "Y": "adapter"},
        runtime_env={"X": "runtime", "Y": "runtime"},
        secrets={"Y": "secret"},
    )
    assert (env["ANTHROPIC_API_KEY"], env["X"], env["Y"]) == ("adapter", "runtime", "secret")


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=8))
def test_no_name_outside_the_list_survives(environ: dict[str, str]) -> None:
    assert set(scrubbed({**environ, **PERSON})) <= {
        *scrubbed(PERSON), *(n for n in environ if n in scrubbed({n: ""}))
    }  # fmt: skip
    env = session_environment(
        environ, home="/h", tmp="/t", runtime_env=environ, pass_env=(), secrets={}, extra={}
    )
    for name, value in env.items():
        assert name
        assert "=" not in name
        assert "\0" not in name + value


def test_state_is_made_and_logins_are_linked(home: Path) -> None:
    login = home / "credentials.json"
    login.write_text("{}")
    state = home / "state"
    inside = state / "claude"
    links = {
        str(inside / ".credentials.json"): str(login),
        str(inside / "none.json"): str(home / "missing"),
    }
    files = {str(inside / "settings.json"): "{}"}
    for _ in range(2):
        prepare_state(str(state), [str(inside / "deep" / "er")], files, links)
    assert os.readlink(inside / ".credentials.json") == str(login)
    assert not (inside / "none.json").is_symlink()
    assert (inside / "settings.json").stat().st_mode & 0o777 == 0o600
    assert (inside / "deep" / "er").is_dir()


def test_a_renewed_login_stays_until_the_person_logs_in_again(home: Path) -> None:
    login, state = home / "login", home / "state"
    login.write_text("old")
    place = state / "login"
    prepare_state(str(state), links={str(place): str(login)})
    place.unlink()
    place.write_text("renewed by the program")
    os.utime(login, (1, 1))
    prepare_state(str(state), links={str(place): str(login)})
    assert place.read_text() == "renewed by the program"
    later = place.stat().st_mtime + 10
    os.utime(login, (later, later))
    prepare_state(str(state), links={str(place): str(login)})
    assert place.is_symlink()


def test_no_link_a_session_left_is_followed(home: Path) -> None:
    """A session that plants links where we write gets no file of the person's overwritten."""
    precious = home / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    state = home / "state"
    state.mkdir()
    (state / "claude").symlink_to(precious)
    (state / "plain").symlink_to(precious / "file")
    (state / f"plain.{os.getpid()}.part").symlink_to(precious / "file")
    prepare_state(
        str(state),
        [str(state / "claude")],
        {str(state / "claude" / "file"): "ours", str(state / "plain"): "ours"},
    )
    assert (precious / "file").read_text() == "kept"
    assert sorted(p.name for p in precious.iterdir()) == ["file"]
    assert (state / "plain").read_text() == "ours"


def test_nothing_is_made_outside_of_the_state(home: Path) -> None:
    with pytest.raises(WorkspaceError, match="outside"):
        prepare_state(str(home / "state"), [str(home / "state" / ".." / "other")])
    assert not (home / "other").exists()


def test_a_program_is_found_on_absolute_path_entries_only(home: Path) -> None:
    tool = home / "tool"
    tool.write_text("#!/bin/sh\n")
    assert find_program("tool", str(home)) is None  # not executable yet
    tool.chmod(0o755)
    assert find_program("tool", f"relative:/nowhere:{home}") == str(tool)
    assert find_program("tool", "") is None
    assert find_program(str(tool), "") == str(tool)
    assert find_program("/nowhere/tool", "") is None


def test_the_install_prefix_of_a_linked_script_is_found(home: Path) -> None:
    """As npm installs: bin/agent → ../lib/node_modules/agent/cli.js, run by env node."""
    package = home / "npm" / "lib" / "node_modules" / "@maker" / "agent"
    package.mkdir(parents=True)
    (package / "cli.js").write_text("#!/usr/bin/env -S node --flag\n")
    (package / "cli.js").chmod(0o755)
    (home / "npm" / "bin").mkdir()
    (home / "npm" / "bin" / "agent").symlink_to("../lib/node_modules/@maker/agent/cli.js")
    node = home / "node-20" / "bin" / "node"
    node.parent.mkdir(parents=True)
    node.write_text("#!/nowhere/loader\n")
    node.chmod(0o755)
    found = install_paths("agent", f"{home}/npm/bin:{node.parent}")
    assert str(home / "npm" / "lib" / "node_modules") in found
    assert str(home / "node-20") in found
    assert str(home) not in found


def test_a_virtual_environment_brings_its_base() -> None:
    found = install_paths(sys.executable, "")
    assert any(sys.base_prefix.startswith(path) for path in found)
    assert sys.prefix in found


def test_links_that_go_in_circles_end(home: Path) -> None:
    (home / "a").symlink_to("b")
    (home / "b").symlink_to("a")
    assert install_paths(str(home / "a"), "") == []

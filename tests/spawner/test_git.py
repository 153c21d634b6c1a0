"""Git runs with fixed options, no prompt and a limit; nothing hostile becomes an option."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import ConfigError, GitError
from swarm.spawner import git as git_module
from swarm.spawner.author import git_identity, parse_author, persons_author
from swarm.spawner.git import (
    GitCommand,
    commit_id,
    git,
    is_commit_id,
    is_safe_ref,
    persons_git,
    run_git,
    safe_ref,
    try_git,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def known_to_git(name: str) -> bool:
    done = subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True)
    return done.returncode == 0


@given(st.text(alphabet="ab/.-@{~^:?*[\\ \x7f\x01l ock", max_size=12))
def test_what_passes_is_a_branch_for_git_too(name: str) -> None:
    if is_safe_ref(name):
        assert known_to_git(name)
        assert not name.startswith("-")


@pytest.mark.parametrize("name", ["main", "swarm/swarm-builder-001/t-1", "v1.2", "a_b", "größe"])
def test_ordinary_branches_pass(name: str) -> None:
    assert safe_ref(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "-b", "--upload-pack=x", "a..b", "a b", "a\nb", "/a", "a/", "a//b", ".a", "a/.b", "a.lock",
     "a.lock/b", "HEAD", "@", "a@{1}", "a:b", "+a", "x" * 300, "a\0b", "a~1", "a^", "a*"],
)  # fmt: skip
def test_what_is_none_is_refused(name: str) -> None:
    if name == "+a":
        assert is_safe_ref(name)  # harmless: every use is written out as refs/heads/+a
        return
    with pytest.raises(GitError):
        safe_ref(name)


@given(st.text(max_size=70))
def test_only_hexadecimal_ids_pass(text: str) -> None:
    assert is_commit_id(text) is (len(text) in (40, 64) and not set(text) - set("0123456789abcdef"))
    assert is_commit_id("a" * 40)
    with pytest.raises(GitError):
        commit_id(f"{'a' * 40}\n")


def test_output_input_and_exit(home: Path) -> None:
    run_git(git(str(home), "init", "-q", "--bare", "."))
    made = run_git(git(str(home), "hash-object", "-w", "--stdin", stdin=b"data" * 100_000))
    assert run_git(git(str(home), "cat-file", "blob", made.decode().strip())) == b"data" * 100_000
    with pytest.raises(GitError, match=r"git cat-file .*: fatal:"):
        run_git(git(str(home), "cat-file", "blob", "a" * 40))
    assert try_git(git(str(home), "cat-file", "-e", "a" * 40)).exit == 1


def test_the_same_where_threads_run(home: Path) -> None:
    """Another thread in the process: git is spawned instead of forked."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        run_git(git(str(home), "init", "-q", "--bare", "."))
        assert run_git(git(str(home), "rev-parse", "--is-bare-repository")) == b"true\n"
    finally:
        done.set()
        thread.join()


def test_a_command_past_its_limit_is_killed(home: Path) -> None:
    slow = GitCommand(("sleep", "60"), str(home), {"PATH": os.environ["PATH"]}, timeout=0.05)
    script = home / "sleep"
    script.write_text('#!/bin/sh\nshift 2\nexec /bin/sleep "$@"\n')
    script.chmod(0o755)
    slow = GitCommand(slow.argv, slow.cwd, {"PATH": f"{home}:{os.environ['PATH']}"}, 0.05)
    with pytest.raises(GitError, match="longer than"):
        run_git(slow)


def test_a_flood_of_output_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_module, "MAX_OUTPUT", 10)
    with pytest.raises(GitError, match="prints more"):
        run_git(git(str(home), "help", "-a"))


def test_missing_git_and_missing_folder_are_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GitError, match="no directory"):
        run_git(git(str(home / "none"), "status"))
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(GitError, match="git is not on PATH; install git"):
        run_git(git(str(home), "status"))


def test_no_configuration_of_a_person_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But the person's own is, for talking to the person's own source."""
    (home / ".gitconfig").write_text("[user]\n\tname = Ann Person\n\temail = ann@example.org\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    assert try_git(git(str(home), "config", "--get", "user.name")).exit == 1
    assert run_git(persons_git(str(home), "config", "--get", "user.name")) == b"Ann Person\n"
    assert persons_author(None) == ("Ann Person", "ann@example.org")


def test_nothing_asks(home: Path) -> None:
    for command in (git(str(home), "x"), persons_git(str(home), "x")):
        assert command.env["GIT_TERMINAL_PROMPT"] == "0"
        assert "GIT_ASKPASS" not in command.env


def test_authors() -> None:
    assert parse_author("Ann Person <ann@example.org>") == ("Ann Person", "ann@example.org")
    for bad in ("", "Ann", "<a@b>", "Ann <a b>", "Ann <a@b> x", "A\nB <a@b>"):
        with pytest.raises(ConfigError):
            parse_author(bad)
    both = git_identity("", "", "swarm-qa-001")
    assert both["GIT_AUTHOR_NAME"] == "swarm-qa-001"
    assert git_identity("...", " . ", "swarm-qa-001") == both, "git takes no such name"
    hostile = git_identity("A\n<x>", "e\n>", "swarm-qa-001")
    assert not {"\n", "<", ">"} & set("".join(hostile.values()))

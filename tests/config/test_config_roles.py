"""Roles: shipped, overridden key by key, and refused with a reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from swarm.config.roles import (
    MAX_PROMPT,
    available_roles,
    effective_limits,
    load_role,
    load_roles,
    resolve_secrets,
    shipped_roles,
)
from swarm.config.settings import Limits, Role, RoleLimits
from swarm.errors import ConfigError


def refused(name: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_role(name, folder)
    return str(caught.value).replace(f"{folder}/", "")


def test_five_roles_are_shipped_and_say_what_they_are(tmp_path: Path) -> None:
    assert shipped_roles() == ("auditor", "builder", "general", "planner", "qa")
    for name, role in load_roles(shipped_roles(), tmp_path / "none").items():
        assert role.description, name
        assert role.runtime == "claude"
        assert (role.bypass_permissions, role.sandbox, role.takes) == (True, "auto", ())
        for word in ("needs_human.md", "results directory", "summary", "sandbox"):
            assert word in role.prompt, (name, word)
        assert "push" in role.prompt.lower()
    assert "needs-revision" in load_role("auditor", tmp_path).prompt


def test_a_file_in_the_home_overrides_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "builder.yaml").write_text(
        "model: large\nlimits: {memory_mb: 512}\nsecrets: {TOKEN: 'env:MY_TOKEN'}\n"
    )
    mine, shipped = load_role("builder", tmp_path), load_role("builder", tmp_path / "none")
    assert (mine.model, mine.limits.memory_mb) == ("large", 512)
    assert (mine.prompt, mine.bypass_permissions) == (shipped.prompt, True)


def test_a_prompt_of_the_home_takes_the_shipped_ones_place(tmp_path: Path) -> None:
    (tmp_path / "builder.yaml").write_text("prompt: inline\n")
    assert load_role("builder", tmp_path).prompt == "inline"
    (tmp_path / "builder.yaml").write_text("prompt_file: mine.md\n")
    (tmp_path / "mine.md").write_text("from a file\n")
    role = load_role("builder", tmp_path)
    assert (role.prompt, role.prompt_file) == ("from a file\n", "")


def test_a_role_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "docs.yaml").write_text("takes: [general]\nread: [/opt, ~/ref]\n")
    (tmp_path / "Not A Role.yaml").write_text("")
    assert available_roles(tmp_path) == ("auditor", "builder", "docs", "general", "planner", "qa")
    role = load_role("docs", tmp_path)
    assert (role.takes, role.bypass_permissions) == (("general",), False)
    assert available_roles(tmp_path / "none") == shipped_roles()


def test_an_unknown_role_names_the_ones_there_are(tmp_path: Path) -> None:
    assert refused("bulder", tmp_path) == (
        "there is no role 'bulder'; did you mean 'builder'?; there are auditor, builder, "
        "general, planner, qa; bulder.yaml would add it"
    )
    assert "cannot name a role" in refused("../builder", tmp_path)
    assert "too long" in refused("r" * 23, tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("modl: x", "qa.yaml:1: modl: there is no such key; did you mean 'model'?"),
        ("model: 4", "qa.yaml:1: model: must be text, not 4; put it in quotes"),
        ("sandbox: none", "qa.yaml:1: sandbox: must be one of auto, off, required, not 'none'"),
        ("limits: {memory_mb: 0}", ("qa.yaml:1: limits.memory_mb: must be a whole number above 0 "
         "or null, not 0")),
        ("takes: ['*']", "qa.yaml:1: takes[0]: '*' cannot name a role"),
        ("runtime: ''", "qa.yaml:1: runtime: must name a runtime, e.g. claude"),
        ("read: [x]", "qa.yaml:1: read[0]: 'x' must be an absolute path, or begin with ~/"),
        ("write: [/]", "qa.yaml:1: write[0]: the whole machine cannot be given for writing"),
        ("secrets: {T: hunter2}", ("qa.yaml:1: secrets.T: must say where the secret is, env:NAME "
         "or file:/PATH, not be one")),
        ("secrets: {T: 'file:x'}", "qa.yaml:1: secrets.T: must say where the secret is"),
        ("secrets: {'A=': 'env:X'}", "qa.yaml:1: secrets.A=: cannot name an environment"),
        ("prompt: a\nprompt_file: b", "qa.yaml:2: prompt_file: stands beside prompt; give one"),
        ("\n\nprompt_file: none.md", ("qa.yaml:3: prompt_file: 'none.md' cannot be read: No such "
         "file or directory")),
        ("prompt_file: ../x.md", "qa.yaml:1: prompt_file: '../x.md' must be a file beside"),
        ("prompt_file: /etc/hostname", "qa.yaml:1: prompt_file: '/etc/hostname' must be a file"),
        ("prompt_file: out.md", "qa.yaml:1: prompt_file: 'out.md' leads out of"),
        ("prompt_file: empty.md", "qa.yaml:1: prompt_file: 'empty.md' is empty"),
        ("prompt_file: latin.md", "qa.yaml:1: prompt_file: 'latin.md' is not UTF-8 text"),
        ("prompt_file: large.md", "qa.yaml:1: prompt_file: 'large.md' is larger than 64 KiB"),
        ("prompt_file: .", "qa.yaml:1: prompt_file: is not a regular file"),
        ("- a", "qa.yaml:1: must be a mapping of keys to values"),
    ],
)  # fmt: skip
def test_a_bad_role_file_names_line_key_and_remedy(tmp_path: Path, text: str, problem: str) -> None:
    folder = tmp_path / "roles"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "out.md").symlink_to(tmp_path / "secret")
    (folder / "empty.md").write_text(" \n")
    (folder / "latin.md").write_bytes(b"\xe9")
    (folder / "large.md").write_bytes(b"x" * (MAX_PROMPT + 1))
    (folder / "qa.yaml").write_text(text)
    said = refused("qa", folder)
    assert said.startswith(problem)
    assert "hunter2" not in said


def test_problems_of_all_roles_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "qa.yaml").write_text("modl: x\nread: 3")
    with pytest.raises(ConfigError) as caught:
        load_roles(["builder", "qa", "nobody"], tmp_path)
    assert len(caught.value.problems) == 3


def test_a_dangling_role_file_is_a_problem_not_a_shipped_role(tmp_path: Path) -> None:
    (tmp_path / "qa.yaml").symlink_to(tmp_path / "gone")
    assert refused("qa", tmp_path).startswith("qa.yaml: cannot be read")


def test_secrets_come_from_environment_and_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    role = Role(secrets={"A": "env:MINE", "B": f"file:{tmp_path / 'key'}"})
    assert resolve_secrets("qa", role, {"MINE": "x"}) == {"A": "x", "B": "s3cret"}
    shutil.rmtree(tmp_path)
    with pytest.raises(ConfigError) as caught:
        resolve_secrets("qa", role, {})
    assert [problem.split(":")[1] for problem in caught.value.problems] == [
        " secrets.A",
        " secrets.B",
    ]


def test_a_roles_limits_go_before_the_swarms() -> None:
    role = Role(limits=RoleLimits(memory_mb=9, stall_minutes=0))
    assert effective_limits(Limits(), role) == Limits(memory_mb=9, stall_minutes=0)

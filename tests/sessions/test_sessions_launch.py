"""How each CLI is started: argv, environment, state, prompts of any kind."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from swarm.errors import SessionError
from swarm.sessions.command import filled
from swarm.sessions.model import MAX_INLINE_PROMPT, Launch, LaunchRequest
from swarm.sessions.registry import ADAPTERS, adapter
from swarm.sessions.scripted_adapter import PROGRAM
from swarm.wire.spawn import RuntimeSpec

PATHS = {
    "prompt_file": "/w/state/prompt.md",
    "workspace": "/w/repo",
    "out_dir": "/w/out/t-1",
    "state_dir": "/w/state",
}


def launch(name: str, prompt: str = "make it", **given: Any) -> Launch:
    runtime = given.pop("runtime", None) or RuntimeSpec(
        name=name, adapter=name, command=("/bin/agent",)
    )
    fields: dict[str, Any] = {**PATHS, **given}
    request = LaunchRequest(runtime=runtime, prompt=prompt, task_id="t-1", **fields)
    return adapter(name).launch(request)


def test_claude() -> None:
    assert launch("claude").argv == (
        *("/bin/agent", "-p", "--output-format", "stream-json", "--verbose"),
        *("--add-dir", "/w/out/t-1", "--", "make it"),
    )
    whole = launch("claude", model="opus", resume_session="abc", bypass_permissions=True)
    assert whole.argv[-7:] == (
        *("--model", "opus", "--resume", "abc"),
        *("--dangerously-skip-permissions", "--", "make it"),
    )
    assert whole.env["IS_SANDBOX"] == "1"
    assert whole.env["CLAUDE_CONFIG_DIR"] == "/w/state/claude"
    assert "IS_SANDBOX" not in launch("claude").env


def test_codex() -> None:
    assert launch("codex", model="o9", bypass_permissions=True).argv == (
        *("/bin/agent", "exec", "--json", "--skip-git-repo-check"),
        *("--dangerously-bypass-approvals-and-sandbox", "-m", "o9", "--", "make it"),
    )
    resumed = launch("codex", resume_session="0-1")
    assert resumed.argv[-4:] == ("resume", "--", "0-1", "make it")
    assert 'sandbox_workspace_write.writable_roots=["/w/repo/.git","/w/out/t-1"]' in resumed.argv
    assert resumed.env == {"CODEX_HOME": "/w/state/codex"}


def test_opencode() -> None:
    whole = launch("opencode", model="p/m", resume_session="ses_1", bypass_permissions=True)
    assert whole.argv == (
        *("/bin/agent", "run", "--format", "json", "--print-logs", "--log-level", "ERROR"),
        *("--auto", "-m", "p/m", "-s", "ses_1", "--", "make it"),
    )
    assert "--auto" not in launch("opencode").argv
    state = [whole.env[f"XDG_{kind}_HOME"] for kind in ("DATA", "CONFIG", "STATE", "CACHE")]
    assert all(path.startswith("/w/state/opencode/") for path in state)
    assert set(state) <= set(whole.write_paths)
    assert set(state) <= set(whole.directories)


def test_command_templates_are_filled_once_and_not_by_format() -> None:
    runtime = RuntimeSpec(
        name="mine",
        adapter="command",
        command=("agent", "--cwd", "{workspace}", "--in={prompt_file}", "{prompt}"),
        args=("{task_id}", "{out}/x", "{model}", "{other} {0} {}"),
    )
    found = launch("command", prompt="{model} {0.__class__} %s $(id)", runtime=runtime, model="m")
    assert found.argv == (
        *("agent", "--cwd", "/w/repo", "--in=/w/state/prompt.md", "{model} {0.__class__} %s $(id)"),
        *("t-1", "/w/out/t-1/x", "m", "{other} {0} {}"),
    )
    assert found.files == {"/w/state/prompt.md": "{model} {0.__class__} %s $(id)"}


def test_a_value_is_never_looked_at_for_placeholders() -> None:
    def wrong(word: str, values: dict[str, str]) -> str:
        for name, value in values.items():  # the planted bug: one after another
            word = word.replace(f"{{{name}}}", value)
        return word

    values = {"prompt": "{model}", "model": "secret"}
    assert filled("{prompt}", values) == "{model}"
    assert wrong("{prompt}", values) == "secret"


def test_scripted_runs_by_its_file() -> None:
    module = ("python3", "-P", "-m", "swarm.sessions.scripted")
    found = launch("scripted", runtime=RuntimeSpec(name="s", adapter="scripted", command=module))
    assert found.argv[:4] == ("python3", "-I", "-S", PROGRAM)
    assert found.argv[4:] == (
        *("--task", "t-1", "--out", "/w/out/t-1", "--state", "/w/state/scripted"),
        *("--", "make it"),
    )
    assert launch("scripted", resume_session="abc").argv[-4:-2] == ("--resume", "abc")


@pytest.mark.parametrize("name", ["claude", "codex", "opencode", "scripted"])
@pytest.mark.parametrize("prompt", ["--help", "-p", "a\0b", "", "x" * (MAX_INLINE_PROMPT + 1)])
def test_no_prompt_is_an_option_nor_too_long_nor_unspeakable(name: str, prompt: str) -> None:
    found = launch(name, prompt=prompt)
    if len(prompt) > MAX_INLINE_PROMPT:
        assert found.files == {"/w/state/prompt.md": prompt}
        assert "/w/state/prompt.md" in found.argv[-1]
        assert "/w/state/prompt.md" in found.read_paths
    else:
        assert found.argv[-2] == "--"
        assert found.argv[-1] == prompt.replace("\0", "") or prompt == ""
        assert found.argv[-1]
    assert all(len(word.encode()) < 128 * 1024 for word in found.argv)
    assert not any("\0" in word for word in found.argv)


def test_the_persons_login_is_linked_in_and_only_readable() -> None:
    found = launch("codex", environ={"HOME": "/home/ann"})
    assert found.links == {
        "/w/state/codex/auth.json": "/home/ann/.codex/auth.json",
        "/w/state/codex/config.toml": "/home/ann/.codex/config.toml",
    }
    assert "/home/ann/.codex/auth.json" in found.read_paths
    assert found.write_paths == ("/w/state/codex",)
    elsewhere = launch("claude", environ={"HOME": "/home/ann", "CLAUDE_CONFIG_DIR": "/cfg"})
    assert elsewhere.links == {"/w/state/claude/.credentials.json": "/cfg/.credentials.json"}
    assert launch("claude", environ={"HOME": "relative"}).links == {}
    deep = launch("opencode", environ={"HOME": "/home/ann"})
    link = "/w/state/opencode/data/opencode/auth.json"
    assert deep.links[link] == "/home/ann/.local/share/opencode/auth.json"
    assert "/w/state/opencode/data/opencode" in deep.directories


@pytest.mark.parametrize("how", ["env", "pass_env"])
def test_a_runtime_may_say_where_the_state_lies(how: str) -> None:
    given = {"env": {"CODEX_HOME": "/there"}} if how == "env" else {"pass_env": ("CODEX_HOME",)}
    runtime = RuntimeSpec(name="codex", adapter="codex", command=("codex",), **given)
    found = launch("codex", runtime=runtime, environ={"CODEX_HOME": "/there", "HOME": "/home/ann"})
    assert found.env["CODEX_HOME"] == "/there"
    assert found.write_paths == ("/there",)
    assert found.links == {}


def test_runtime_args_stand_before_the_adapters_own() -> None:
    runtime = RuntimeSpec(name="c", adapter="claude", command=("npx", "claude"), args=("--betas",))
    assert launch("claude", runtime=runtime).argv[:4] == ("npx", "claude", "--betas", "-p")


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_runtime_without_a_command_is_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(SessionError, match=r"'none' has no command; name its program"):
        launch(name, runtime=RuntimeSpec(name="none", adapter=name, command=()))


def test_an_unknown_adapter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SessionError, match="claude, codex, opencode, command, scripted"):
        adapter("gemini")


def test_only_the_adapter_asked_for_is_imported_and_nothing_heavy() -> None:
    program = """
import sys
from typing import Any
from swarm.sessions.registry import adapter
adapter(sys.argv[1]).parser()
import swarm.sessions.outcome, swarm.sessions.prompt
print(*sys.modules)
"""
    for name in ADAPTERS:
        run = subprocess.run(
            [sys.executable, "-c", program, name], capture_output=True, text=True, check=True
        )
        loaded = set(run.stdout.split())
        for heavy in ("asyncio", "threading", "logging", "subprocess", "socket", "selectors"):
            assert heavy not in loaded, (name, heavy)
        others = {"claude", "codex", "opencode", "command", "scripted_adapter"} - {
            *({"claude", "command"} if name == "command" else ()),
            *({"claude", "scripted_adapter"} if name == "scripted" else ()),
            name,
        }
        assert not {f"swarm.sessions.{other}" for other in others} & loaded
        assert "swarm.sessions.scripted" not in loaded

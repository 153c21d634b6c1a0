"""The systemd unit: what it says, how it is quoted, and whose file is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_fake import Ran
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import mutant

from swarm.cli import service, unit
from swarm.cli.unit import Facts, render
from swarm.config.places import Places
from swarm.errors import UsageError

Cli = Callable[..., Ran]

HOSTILE = "/tmp/a b%c\"d$e'f\\g;h\ti"


def facts(**changed: object) -> Facts:
    plain = {
        "home": "/home/ann/.agentctl",
        "program": ("/usr/bin/agentctl",),
        "config": None,
        "directory": "/",
        "environment": {"PATH": "/usr/bin:/bin"},
        "grace_seconds": 10.0,
    }
    return Facts(**{**plain, **changed})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No repository, and a systemd directory of the test's own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "systemd" / "user" / unit.NAME


# -- what it says ---------------------------------------------------------------------------------


def test_the_unit_says_what_the_supervisor_and_its_sessions_need() -> None:
    lines = render(facts(grace_seconds=2.5)).splitlines()
    for line in (
        "Type=notify",
        "NotifyAccess=main",
        "WatchdogSec=30",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Delegate=yes",
        "KillMode=mixed",
        "TimeoutStopSec=33",
        "Restart=on-failure",
        "RestartPreventExitStatus=2 5",
        "OOMPolicy=continue",
        'Environment="AGENTCTL_HOME=/home/ann/.agentctl"',
        'Environment="PATH=/usr/bin:/bin"',
        "ExecStart=/usr/bin/agentctl swarm up",
        "WantedBy=default.target",
    ):
        assert line in lines


def test_printed_it_names_this_home_and_an_absolute_program(
    cli: Cli, places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", f"relative:{os.environ['PATH']}:.")
    other = tmp_path / "other file.yaml"
    other.write_text("version: 1\nstop: {grace_seconds: 70}\n")
    ran = cli("swarm", "service", "--config", str(other))
    assert (ran.code, ran.err) == (0, "")
    assert f'Environment="AGENTCTL_HOME={places.home}"' in ran.out
    (start,) = [line for line in ran.out.splitlines() if line.startswith("ExecStart=")]
    assert start.startswith("ExecStart=/")
    assert start.endswith(f'swarm up --config "{other}"')
    (path,) = [line for line in ran.out.splitlines() if "PATH=" in line]
    assert all(part.startswith("/") for part in path.split("PATH=")[1].strip('"').split(":"))
    assert "TimeoutStopSec=100" in ran.out
    assert not list(tmp_path.rglob("*.service"))


def test_it_works_on_the_repository_one_stands_in(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(service, "repository_here", lambda: str(tmp_path / "my 100% project"))
    ran = cli("swarm", "service")
    assert f"WorkingDirectory={tmp_path}/my 100%% project\n" in ran.out
    assert "it will work on" in ran.err


def test_keys_of_this_shell_are_named_and_not_written(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, places: Places
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-very-secret")
    ran = cli("swarm", "service")
    assert "sk-very-secret" not in ran.out + ran.err
    assert "ANTHROPIC_API_KEY" in ran.err
    assert str(places.home / "service.env") in ran.err
    assert f"EnvironmentFile=-{places.home}/service.env" in ran.out


def test_a_bad_configuration_is_told_instead(cli: Cli, places: Places) -> None:
    places.config.write_text("version: 1\nnonsense: 1\n")
    ran = cli("swarm", "service")
    assert (ran.code, ran.out) == (2, "")
    assert "nonsense" in ran.err


# -- quoting --------------------------------------------------------------------------------------


def unquoted(text: str) -> str:
    """What systemd makes of one double-quoted word: escapes first, then specifiers."""
    assert text[0] == text[-1] == '"'
    out, rest = [], iter(text[1:-1])
    for character in rest:
        if character == '"':
            raise AssertionError("the word ends too soon")
        if character == "\\":
            character = {"\\": "\\", '"': '"', "n": "\n", "t": "\t"}[next(rest)]
        elif character == "%":
            assert next(rest) == "%"
        out.append(character)
    return "".join(out)


VALUES = st.one_of(
    st.text(st.sampled_from("a $%\\\"'\n;x"), max_size=8),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)


@given(VALUES)
def test_any_value_comes_through_or_is_refused(value: str) -> None:
    comes_through(render, value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            r""".replace("%", "%%")
    for""",
            "\n    for",
        ),
        (r"""text.replace("\\", "\\\\")""", "text"),
        (r""".replace('"', '\\"')""", ""),
        (r""".replace("$", "$$")""", ""),
        (r'r"\n"', r'r"\t"'),
        ("[A-Za-z0-9_/.,:=+-]+", "[A-Za-z0-9_/.,:=+$%-]+"),
    ],
)
def test_the_property_finds_a_quoting_rule_left_out(old: str, new: str) -> None:
    with mutant(unit, old, new) as broken:

        @settings(report_multiple_bugs=False, database=None, derandomize=True, max_examples=1000)
        @given(VALUES)
        def play(value: str) -> None:
            comes_through(broken.render, value)

        with pytest.raises((AssertionError, KeyError, StopIteration, RuntimeError, ValueError)):
            play()


def comes_through(render: Callable[[Facts], str], value: str) -> None:
    try:
        lines = render(facts(environment={"X": value}, config=f"/{value}")).split("\n")
    except UsageError:
        assert any(ord(c) < 32 or ord(c) == 127 for c in value)
        return
    (said,) = [line for line in lines if line.startswith('Environment="X=')]
    assert unquoted(said.removeprefix("Environment=")) == f"X={value}"
    (start,) = [line for line in lines if line.startswith("ExecStart=")]
    word = start.split(" --config ")[1]
    if word.startswith('"'):
        assert "$" not in word.replace("$$", "")
        assert unquoted(word.replace("$$", "$")) == f"/{value}"
    else:
        assert word == f"/{value}"
        assert not set(word) & set("$%\\\"' ")


@pytest.mark.parametrize(
    "changed",
    [
        {"home": "/a\nExecStartPre=/bin/evil"},
        {"home": "/a\x07"},
        {"home": "/a\udcff"},
        {"directory": "/a\nb"},
        {"directory": "/a "},
        {"directory": "/a\\"},
        {"program": ("/opt/$HOME/agentctl",)},
        {"environment": {"PATH": "/a\x1b[0m"}},
    ],
)
def test_what_systemd_cannot_be_told_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        render(facts(**changed))


def test_a_hostile_home_stands_in_one_line_each() -> None:
    text = render(facts(home="/a*b?[c]%d\"e'f"))
    assert 'Environment="AGENTCTL_HOME=/a*b?[c]%%d\\"e\'f"' in text
    assert "EnvironmentFile=-/a[*]b[?][[]c]%%d\"e'f/service.env" in text


# -- the real systemd -----------------------------------------------------------------------------


def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    program = os.path.abspath(sys.executable)
    hostile = HOSTILE.replace("\t", "")
    for number, one in enumerate(
        (
            facts(program=(program,)),
            facts(
                program=(program, "-P", "-m", "swarm.cli"),
                home=hostile,
                config=hostile,
                environment={"PATH": hostile, "LANG": "C.UTF-8"},
            ),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / unit.NAME).write_text(render(one))
        ran = subprocess.run(
            [analyze, "verify", "--user", "--man=no", str(folder / unit.NAME)],
            env={**os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "Failed to initialize manager" in ran.stderr:
            pytest.skip(f"systemd-analyze does not work here: {ran.stderr.strip()}")
        assert (ran.returncode, ran.stderr.replace(str(folder), "")) == (0, "")


# -- installing -----------------------------------------------------------------------------------


def test_install_says_what_is_next_and_a_second_time_changes_nothing(
    cli: Cli, home: Path, nowhere: Path
) -> None:
    ran = cli("swarm", "service", "--install")
    assert ran.code == 0
    assert f"wrote {nowhere}" in ran.out
    assert "systemctl --user daemon-reload && systemctl --user enable --now" in ran.out
    assert "loginctl enable-linger" in ran.out
    assert nowhere.stat().st_mode & 0o777 == 0o600
    assert nowhere.read_text() == cli("swarm", "service").out
    assert [one.name for one in nowhere.parent.iterdir()] == [unit.NAME], "nothing half-written"
    before = nowhere.stat().st_ino
    assert "is there already" in cli("swarm", "service", "--install").out
    assert nowhere.stat().st_ino == before


def test_an_untouched_unit_of_this_home_is_brought_up_to_date(
    cli: Cli, places: Places, nowhere: Path
) -> None:
    assert cli("swarm", "service", "--install").code == 0
    places.config.write_text("version: 1\nstop: {grace_seconds: 99}\n")
    assert cli("swarm", "service", "--install").code == 0
    assert "TimeoutStopSec=129" in nowhere.read_text()


@pytest.mark.parametrize("what", ["foreign", "changed", "masked", "other home"])
def test_what_is_not_ours_is_overwritten_and_removed_only_by_force(
    what: str, cli: Cli, nowhere: Path, monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    nowhere.parent.mkdir(parents=True)
    if what == "foreign":
        nowhere.write_text("[Service]\nExecStart=/bin/true\n")
    elif what == "masked":
        nowhere.symlink_to("/dev/null")
    else:
        monkeypatch.setenv("AGENTCTL_HOME", str(tmp_path / "elsewhere"))
        assert cli("swarm", "service", "--install").code == 0
        monkeypatch.setenv("AGENTCTL_HOME", str(home))
    if what == "changed":
        nowhere.write_text(nowhere.read_text().replace("WatchdogSec=30", "WatchdogSec=3000"))
    before = nowhere.read_text()
    ran = cli("swarm", "service", "--install")
    assert ran.code == 1
    assert "--force" in ran.err
    assert nowhere.read_text() == before
    if what != "other home":
        assert cli("swarm", "service", "--uninstall").code == 1
        assert nowhere.exists()
    assert cli("swarm", "service", "--install", "--force").code == 0
    assert not nowhere.is_symlink()
    assert unit.home_line(str(home)) in nowhere.read_text()


def test_uninstall_removes_ours_once_it_is_disabled(cli: Cli, home: Path, nowhere: Path) -> None:
    ran = cli("swarm", "service", "--uninstall")
    assert ran.code == 1
    assert "there is no" in ran.err
    assert cli("swarm", "service", "--install").code == 0
    enabled = nowhere.parent / "default.target.wants" / unit.NAME
    enabled.parent.mkdir()
    enabled.symlink_to(nowhere)
    ran = cli("swarm", "service", "--uninstall")
    assert ran.code == 1
    assert "systemctl --user disable --now" in ran.err
    enabled.unlink()
    assert cli("swarm", "service", "--uninstall").code == 0
    assert not nowhere.exists()


def test_a_directory_that_cannot_be_written_is_named(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    ran = cli("swarm", "service", "--install")
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1
    assert "cannot be written" in ran.err
    assert cli("swarm", "service", "--install", "--uninstall").code == 2

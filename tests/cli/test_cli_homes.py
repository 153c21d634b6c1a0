"""Homes that cannot be: one line that says what to do, and nothing half-made."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_fake import Ran

from swarm.cli import stop
from swarm.cli.lock import Holder
from swarm.config.places import Places
from swarm.errors import SwarmError, UsageError

RUN_ALL = """
import contextlib, io, json, os, sys
from swarm.cli.main import run
told = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    told.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""
COMMANDS = [
    ["swarm", "up", "--detach"],
    ["swarm", "status"],
    ["swarm", "stop"],
    ["swarm", "logs"],
    ["task", "add", "x"],
    ["task", "show", "t-00000001"],
    ["init"],
]


def as_nobody() -> list[str]:
    """A prefix that runs a command without root's right to everything, and its files still ours."""
    if os.getuid() != 0:
        return []
    unshare = shutil.which("unshare")
    prefix = [str(unshare), "--user", "--map-user=54321"]
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("root may do everything, and user namespaces are not permitted")
    return prefix


def run_all(home: Path, cwd: Path) -> list[Ran]:
    """Every command in this home, in one process."""
    ran = subprocess.run(
        [*as_nobody(), sys.executable, "-P", "-c", RUN_ALL, json.dumps(COMMANDS)],
        env={**os.environ, "AGENTCTL_HOME": str(home), "HOME": str(cwd)},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return [Ran(*one) for one in json.loads(ran.stdout)]


def everything(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    "kind",
    ["under /proc", "a file", "below a file", "in an unwritable folder", "unreadable", "no text"],
)
def test_a_home_that_cannot_be_is_told_in_one_line_and_nothing_is_made(
    kind: str, tmp_path: Path
) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "file").write_text("")
    home = {
        "under /proc": Path("/proc/agentctl"),
        "a file": folder / "file",
        "below a file": folder / "file" / "home",
        "in an unwritable folder": folder / "home",
        "unreadable": folder / "home" / "deep",
        "no text": folder / "home\udcff",  # bytes that are not UTF-8
    }[kind]
    if kind == "unreadable":
        (folder / "home").mkdir(mode=0o000)
    if kind == "in an unwritable folder":
        folder.chmod(0o500)
    before = everything(tmp_path)
    try:
        told = run_all(home, tmp_path)
    finally:
        folder.chmod(0o700)
        if kind == "unreadable":
            (folder / "home").chmod(0o700)
    for arguments, ran in zip(COMMANDS, told, strict=True):
        assert ran.code in (1, 2, 4), (arguments, ran)
        assert ran.out == "", (arguments, ran)
        assert ran.err.count("\n") == 1, (arguments, ran)
        assert "; " in ran.err, f"it says no remedy: {arguments}: {ran.err}"
        assert "defect" not in ran.err
    assert everything(tmp_path) == before


def test_workspaces_that_cannot_be_made_are_told_before_anything_starts(tmp_path: Path) -> None:
    home, locked = tmp_path / "home", tmp_path / "locked"
    home.mkdir()
    locked.mkdir(mode=0o500)
    (home / "swarm.yaml").write_text(f"version: 1\nworkspace_base: {locked}/agents\n")
    up = run_all(home, tmp_path)[0]
    assert up.code == 1
    assert up.err.count("\n") == 1
    assert f"{locked} is no directory you can write; set workspace_base to one" in up.err
    assert not (home / "swarm.pid").exists()


def test_nobody_s_home_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no HOME, no passwd entry
    with pytest.raises(UsageError, match="set AGENTCTL_HOME to an absolute path"):
        Places.of({})
    with pytest.raises(UsageError, match="AGENTCTL_HOME"):
        Places.of({"AGENTCTL_HOME": "~/x"})
    assert Places.of({"AGENTCTL_HOME": "/x/../y"}).home == Path("/y")


def test_standard_streams_that_are_closed_are_opened(home: Path) -> None:
    """As a bare init leaves them: no file of ours may become standard output."""
    script = (
        "import os, sys; sys.argv[1:] = ['swarm', 'status']\n"
        "from swarm.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end:\n"
        "    links = [os.readlink(f'/proc/self/fd/{n}') for n in range(3)]\n"
        "    open(os.environ['AGENTCTL_HOME'] + '/told', 'w').write(f'{end.code} {links}')\n"
    )
    subprocess.run(
        ["sh", "-c", 'exec "$0" -P -c "$1" <&- >&- 2>&-', sys.executable, script], check=True
    )
    assert (home / "told").read_text() == f"4 {['/dev/null'] * 3}"


def test_pid_1_of_a_container_that_hangs_is_ended_from_outside(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(stop, "find_holder", lambda _places: Holder(1, 7))
    monkeypatch.setattr(stop, "is_frozen", lambda _holder: False)
    monkeypatch.setattr(stop, "send", lambda _holder, number: bool(sent.append(number)) or True)
    monkeypatch.setattr(stop, "wait_until_free", lambda _places, _seconds: False)
    with pytest.raises(SwarmError, match=r"pid 1 of this container.*end the container"):
        stop._signal_until_gone(Places(home), 0.0, lambda _text: None)
    assert sent == [signal.SIGTERM, signal.SIGKILL]


def test_a_share_of_n_for_each_role(
    cli: Callable[..., Ran], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execve", lambda _program, argv, _environ: called.append(argv))
    assert cli("swarm", "up", "-n", "9", "--role", "builder=2", "--role", "qa=1").code == 0
    overrides = json.loads(called[0][called[0].index("--overrides") + 1])
    assert (overrides["n"], overrides["roles"]) == (9, {"builder": 2, "qa": 1})

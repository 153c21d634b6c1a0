"""Under the rules only what is granted can be opened, made or removed; by root as well."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from swarm.sandbox import kernel, landlock
from swarm.sandbox.grants import DEVICES, SYSTEM, git_rules, session_rules
from swarm.sandbox.landlock import LandlockRules
from swarm.sandbox.launch import Command, Confinement
from swarm.sandbox.run import run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.skipif(kernel.landlock_abi() == 0, reason="this kernel has no Landlock"),
]

PATH = "/usr/bin:/bin"


@pytest.fixture
def desk(home: Path) -> Path:
    """A folder with something granted, something readable and something hidden."""
    for name in ("mine", "shown", "hidden"):
        (home / name).mkdir()
        (home / name / "file").write_text(name)
    return home


def rules_of(desk: Path) -> LandlockRules:
    return LandlockRules(
        read=(*SYSTEM, str(desk / "shown")), write=(str(desk / "mine"),), devices=DEVICES
    )


@pytest.mark.parametrize(
    ("script", "works"),
    [
        ("cat shown/file", True),
        ("cat mine/file && echo new > mine/file && rm mine/file", True),
        ("mkdir -p mine/a/b && mv mine/file mine/a/b && ln -s x mine/link", True),
        ("truncate -s 0 mine/file", True),
        ("echo x > /dev/null && head -c1 /dev/urandom", True),
        ("cat hidden/file", False),
        ("ls hidden", False),
        ("ls .", False),
        ("echo x > shown/file", False),
        ("touch shown/other", False),
        ("rm shown/file", False),
        ("touch new", False),
        ("mv mine/file shown/", False),
        ("ln mine/file shown/hard", False),
        ("ln hidden/file mine/hard", False),
        ("ln -s ../hidden/file mine/soft && cat mine/soft", False),
        ("cp /bin/true hidden/", False),
        ("mknod mine/disk b 8 0", False),
        ("mount --bind hidden mine", False),
        ("cat /etc/hostname > hidden/file", False),
        ("cat ~root/.ssh/* || ls /root", False),
    ],
)
def test_what_works_and_what_does_not(
    desk: Path, rung: Confinement, script: str, works: bool
) -> None:
    confinement = replace(rung, landlock=rules_of(desk))
    done = run(Command(("sh", "-c", script), str(desk), {"PATH": PATH}), confinement)
    assert (done.exit == 0) is works, done.error
    if not works:
        assert (desk / "hidden" / "file").read_text() == "hidden"


def test_a_prelude_step_is_under_the_rules_too(desk: Path) -> None:
    step = Command(("cat", "hidden/file"), str(desk), {"PATH": PATH})
    done = run(step, Confinement(landlock=rules_of(desk)), prelude=[step])
    assert done.prelude_failed == 0


def test_signals_do_not_leave_the_sandbox(desk: Path) -> None:
    """Not even where no namespace hides the others (Landlock ABI 6)."""
    if kernel.landlock_abi() < 6:
        pytest.skip("this Landlock does not scope signals")
    from swarm.core.model import Containment

    confinement = Confinement(Containment.DESCENT, landlock=rules_of(desk))
    kill = Command(("sh", "-c", f"kill -0 {os.getpid()}"), "/", {"PATH": PATH})
    assert run(kill, confinement).exit != 0
    assert run(kill, Confinement(Containment.DESCENT)).exit == 0


def test_rules_that_cannot_be_applied_start_nothing(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a session without the sandbox that was asked for."""

    def refuse(ruleset: int) -> None:
        raise OSError(7, "Argument list too long")

    monkeypatch.setattr(kernel, "landlock_restrict", refuse)
    show = Command(("cat", "hidden/file"), str(desk), {"PATH": PATH})
    done = run(show, Confinement(landlock=rules_of(desk)))
    assert (done.exit, done.out) == (None, b"")
    assert "cannot start cat" in done.error


def test_a_kernel_without_landlock_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "landlock_abi", lambda: 0)
    assert landlock.restrict(LandlockRules()) is False


@pytest.mark.parametrize("abi", range(1, 8))
def test_older_kernels_are_asked_for_what_they_know(abi: int) -> None:
    known = landlock.handled(abi)
    assert known & landlock.READ_FILE
    assert bool(known & landlock.REFER) is (abi >= 2)
    assert bool(known & landlock.TRUNCATE) is (abi >= 3)
    assert bool(known & landlock.IOCTL_DEV) is (abi >= 5)


def test_a_session_gets_its_own_and_nothing_else(home: Path) -> None:
    """The whole set of rules, with a real interpreter as the runtime."""
    workspace = home / "base" / "swarm-builder-001"
    for name in ("repo", "out/t-1", "tmp", "state", ".agentchat", ".agentctl"):
        (workspace / name).mkdir(parents=True)
    (workspace / "context.md").write_text("told")
    (workspace / ".agentchat" / "key").write_text("secret")
    (home / "control.token").write_text("secret")
    env = {"PATH": f"{home}:{os.environ['PATH']}"}
    rules = session_rules(
        repo=str(workspace / "repo"),
        out=str(workspace / "out/t-1"),
        tmp=str(workspace / "tmp"),
        state=str(workspace / "state"),
        notes=(str(workspace / "context.md"),),
        programs=(sys.executable, "-c"),
        env=env,
        hidden=(str(home), str(workspace)),
    )
    script = f"""
import os, json, ssl, sqlite3
def can(f, *a):
    try: f(*a); return True
    except OSError: return False
put = lambda p: open(p, 'w').close()
get = lambda p: open(p).read()
w = {str(workspace)!r}; h = {str(home)!r}
print([can(put, w + p) for p in ('/repo/f', '/out/t-1/f', '/tmp/f', '/state/f')],
      can(get, w + '/context.md'),
      [can(put, w + p) for p in ('/context.md', '/f', '/out/f', '/repo/../f')],
      [can(get, p) for p in (w + '/.agentchat/key', h + '/control.token')],
      can(os.listdir, w), can(os.listdir, h), can(os.listdir, os.path.expanduser('~root')))
"""
    command = Command((sys.executable, "-c", script), str(workspace / "repo"), env)
    done = run(command, Confinement(landlock=rules, tmp=str(workspace / "tmp")))
    assert done.out.decode().split("\n")[0] == (
        "[True, True, True, True] True [False, False, False, False] [False, False] "
        "False False False"
    ), done.error


def test_mutant_a_grant_of_the_workspace_root_is_caught(home: Path) -> None:
    """Planted bug: ``hidden`` is not looked at; a PATH with the home in it then grants it."""
    rules = session_rules(
        repo="/r", out="/o", tmp="/t", state="/s", notes=(), programs=("sh",),
        env={"PATH": f"{home}:/usr/bin"}, hidden=(),
    )  # fmt: skip
    assert str(home) in rules.read
    kept = session_rules(
        repo="/r", out="/o", tmp="/t", state="/s", notes=(), programs=("sh",),
        env={"PATH": f"{home}:/usr/bin"}, hidden=(str(home / "control.token"),),
    )  # fmt: skip
    assert str(home) not in kept.read


def test_git_of_ours_sees_only_what_it_is_given(desk: Path) -> None:
    rules = git_rules(read=(str(desk / "shown"),), write=(str(desk / "mine"),))
    git = Command(("git", "--git-dir", "hidden", "log"), str(desk), {"PATH": os.environ["PATH"]})
    done = run(git, Confinement(landlock=rules))
    assert done.exit == 128
    assert str(desk) not in rules.read

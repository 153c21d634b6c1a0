"""Checks see exactly what would land, and reach nothing else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from landing_support import HOME_ID, World, replace_job, sleeping
from tests_support import eventually

from swarm.core.model import RemarkKind
from swarm.landing import checks
from swarm.landing.model import Job, Landed
from swarm.sandbox import kernel, limited
from swarm.sandbox.landlock import NETWORK_ABI

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def job(
    world: World, *script: str, seconds: float = 60.0, files: dict[str, str] | None = None
) -> Job:
    tip = world.branch("t-1", {"a": "1\n", **(files or {})})
    return world.job("t-1", tip, checks=script, check_seconds=seconds)


def test_checks_see_the_merged_tree_and_a_repository_that_works(world: World) -> None:
    world.landed(world.job("t-0", world.branch("t-0", {"other": "x\n"})))
    one = world.job(
        "t-1",
        world.branch("t-1", {"a": "1\n"}, base="origin/main~1"),
        checks=(
            "test -e a && test -e other",
            "test -z \"$(git status --porcelain)\" && git log -1 --format=%s | grep 'Do t-1'",
            "git diff --name-only origin/main | grep -x a",
            'test "$(git branch --show-current)" = main',
            "git -c user.name=x -c user.email=y commit -q --allow-empty -m theirs",
            f'test "$AGENTCTL_TREE" = {HOME_ID}:landing-t-1:1',  # for the sweep at the next start
            'echo x > "$TMPDIR/f" && echo y > "$HOME/g" && echo z > new',
        ),
    )  # fmt: skip
    world.landed(one)
    assert world.log()[0] == "Do t-1", "what a check commits or writes does not land"
    assert "new" not in world.in_hub("ls-tree", "--name-only", "main")
    log = Path(one.log).read_text()
    assert "$ test -e a && test -e other\n" in log
    assert os.stat(one.log).st_mode & 0o777 == 0o600


def test_a_failing_check_goes_back_with_its_last_words(world: World) -> None:
    long = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
    one = job(world, "true", f"{long}; printf '\\033[31mred\\033[0m\\n' >&2; exit 3", "touch never")
    back = world.sent_back(one)
    assert back.kind is RemarkKind.CHECK
    assert "exit 3" in back.text
    assert back.text.endswith("line 1999\nred"), "both streams in order, nothing for a terminal"
    assert len(back.text) < checks.MAX_TEXT + 600
    log = Path(one.log).read_text()
    assert "line 0\n" in log
    assert "never" not in log


def test_a_signal_and_a_program_that_is_not_there_are_told(world: World) -> None:
    assert "killed by signal 9" in world.sent_back(job(world, "kill -9 $$")).text
    back = world.sent_back(job(world, "no-such-program"))
    assert "exit 127" in back.text
    assert "not found" in back.text


def test_the_time_limit_is_for_all_together_and_ends_the_whole_tree(world: World) -> None:
    script = "setsid sh -c 'trap \"\" TERM; exec sleep 4242' & trap '' TERM; sleep 4242"
    back = world.sent_back(job(world, "true", f"echo begun; {script}", seconds=1.0))
    assert "the limit of 1 s for all checks was reached" in back.text
    assert "begun" in back.text
    eventually(lambda: not sleeping("4242"))


def test_what_a_check_leaves_running_is_ended(world: World) -> None:
    world.landed(job(world, "(setsid sleep 4343 >/dev/null 2>&1 &) ; sleep 4343 & true"))
    eventually(lambda: not sleeping("4343"))


def test_a_check_writes_nowhere_else(world: World) -> None:
    hub = Path(world.hub)
    for path in (world.root / "x", world.source / "x", hub / "x", hub / "refs/heads/evil",
                 hub / "objects/x"):  # fmt: skip
        back = world.sent_back(job(world, f"touch {path}"))
        assert "Permission denied" in back.text
        assert not path.exists()


def test_a_check_reads_no_reference_of_the_hub_and_no_secret(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "secret")
    (world.root / "identity.json").write_text("secret")
    for script in (
        f"cat {world.root}/identity.json", f"cat {world.hub}/HEAD", "test -n \"$MY_API_KEY\"",
        f"ls {world.hub}/refs/heads", f"cat {world.source}/README",
    ):  # fmt: skip
        assert world.sent_back(job(world, script)).kind is RemarkKind.CHECK


def test_a_check_connects_to_no_port_that_its_author_could_not(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        one = job(world, f'python3 -c "{connect}"')
        for allowed in (None, (port,)):
            assert run(world, one, allowed)
        if kernel.landlock_abi() >= NETWORK_ABI:
            assert not run(world, one, ())


def run(world: World, one: Job, ports: tuple[int, ...] | None) -> bool:
    """Whether the checks of a commit that is only looked at pass."""
    verdict = world.land(replace_job(one, ports=ports))
    if isinstance(verdict, Landed):
        world.in_hub("update-ref", "refs/heads/main", "main~1")
    return isinstance(verdict, Landed)


def test_the_log_is_capped_and_who_prints_for_ever_is_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "MAX_LOG", 10_000)
    one = job(world, "yes", seconds=0.5)
    assert world.sent_back(one).text.endswith("y\ny")
    assert os.path.getsize(one.log) < 10_100


def test_no_limit_is_no_limit(world: World) -> None:
    world.landed(job(world, "true", seconds=0))


def test_a_check_that_cannot_be_contained_is_our_fault(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swarm.errors import SessionError

    def refuse(*args: object) -> None:
        raise SessionError("cannot contain a session: no processes left")

    monkeypatch.setattr(limited, "launch", refuse)
    before = world.tip
    refused = world.not_landed(job(world, "true"))
    assert refused.retry
    assert "cannot contain" in refused.reason
    assert world.tip == before


def test_a_log_that_cannot_be_written_is_our_fault(world: World) -> None:
    one = job(world, "true")
    os.makedirs(one.log)
    refused = world.not_landed(one)
    assert refused.retry
    assert one.log in refused.reason

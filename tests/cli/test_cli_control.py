"""The control client against a stand-in that speaks the real protocol."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from cli_fake import FakeSupervisor

from swarm.cli.control import MAX_SOCKET_PATH, Hung, HungUp, ask, check_socket_path, poke
from swarm.config.places import Places
from swarm.errors import (
    AlreadyRunning,
    ConfigError,
    ControlError,
    NotRunning,
    SwarmError,
    UsageError,
    WaitedTooLong,
)
from swarm.wire import control


def test_an_answer_with_its_progress(supervisor: FakeSupervisor) -> None:
    supervisor.replies[control.Reload] = [
        control.Progress("reading"),
        control.Progress("planning"),
        control.Done(data={"a": 1}, lines=("limits.max_active 5 → 10",)),
    ]
    told: list[str] = []
    done = ask(supervisor.places, control.Reload(dry_run=True), progress=told.append)
    assert done.data == {"a": 1}
    assert told == ["reading", "planning"]
    assert supervisor.heard == [control.Reload(dry_run=True)]
    assert supervisor.tokens == ["a-token"]


def test_nobody_holds_the_lock(places: Places) -> None:
    with pytest.raises(NotRunning, match="agentctl swarm up"):
        ask(places, control.Status())


def test_a_stale_socket_and_pid_file_are_no_swarm(places: Places) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(places.control_socket))
    places.pid_file.write_text(str(os.getpid()))
    with pytest.raises(NotRunning):
        ask(places, control.Status())


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, ControlError), (2, UsageError), (5, AlreadyRunning), (124, WaitedTooLong)],
)
def test_a_refusal_keeps_its_words_and_exit_code(
    supervisor: FakeSupervisor, code: int, kind: type[SwarmError]
) -> None:
    supervisor.replies[control.Pause] = [control.Refused("no", "do this", exit_code=code)]
    with pytest.raises(kind) as raised:
        ask(supervisor.places, control.Pause())
    assert (raised.value.what, raised.value.remedy, raised.value.exit_code) == (
        "no",
        "do this",
        code,
    )


def test_a_bad_file_is_refused_problem_by_problem(supervisor: FakeSupervisor) -> None:
    supervisor.replies[control.Reload] = [control.Refused("f:1: a\nf:2: b", "mend", exit_code=2)]
    with pytest.raises(ConfigError) as raised:
        ask(supervisor.places, control.Reload())
    assert raised.value.problems == ("f:1: a", "f:2: b")


def test_a_silent_supervisor_is_hung_and_the_remedy_is_named(supervisor: FakeSupervisor) -> None:
    supervisor.silent.add(control.Status)
    with pytest.raises(Hung, match="agentctl swarm stop"):
        ask(supervisor.places, control.Status(), patience=0.1)


def test_silence_is_borne_while_it_is_still_there(supervisor: FakeSupervisor) -> None:
    supervisor.silent.add(control.Status)
    asked = iter([True, True, False])
    with pytest.raises(Hung):
        ask(supervisor.places, control.Status(), patience=0.05, still_there=lambda: next(asked))
    assert list(asked) == []


def test_an_answer_that_comes_with_the_end_is_read(supervisor: FakeSupervisor) -> None:
    """It answered and ended while it was asked whether it is still there: that is no hang."""
    supervisor.silent.add(control.Stop)

    def ended() -> bool:
        supervisor.answer_late(control.Done(lines=("stopped",)))
        return False

    done = ask(supervisor.places, control.Stop(), patience=0.1, still_there=ended)
    assert done.lines == ("stopped",)


def test_a_hang_up_before_the_answer(supervisor: FakeSupervisor) -> None:
    supervisor.replies[control.Status] = []
    with pytest.raises(HungUp):
        ask(supervisor.places, control.Status())


@pytest.mark.parametrize(
    "junk", [b"junk\n", b'{"type":"done","lines":3}\n', b"\xff\xfe\n", b"[]\n"]
)
def test_an_answer_that_makes_no_sense(supervisor: FakeSupervisor, junk: bytes) -> None:
    supervisor.replies[control.Status] = [junk]
    with pytest.raises(ControlError, match="same version"):
        ask(supervisor.places, control.Status())


def test_a_missing_token_is_named(supervisor: FakeSupervisor) -> None:
    supervisor.places.control_token.unlink()
    with pytest.raises(ControlError, match=r"control\.token is missing"):
        ask(supervisor.places, control.Status())


def test_a_socket_path_too_long(tmp_path: Path) -> None:
    places = Places(tmp_path / ("x" * MAX_SOCKET_PATH))
    with pytest.raises(UsageError, match="shorter AGENTCTL_HOME"):
        check_socket_path(places)


def test_poke_says_whether_somebody_heard_it(places: Places, supervisor: FakeSupervisor) -> None:
    assert poke(places)
    assert supervisor.heard == [control.PokeLedger()]
    supervisor.unlock()
    assert not poke(places)

"""How long a session has been silent: said with each beat, and only progress breaks the silence."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from daemon_values import active_daemon, idle_daemon, told

from swarm.core.model import Containment, Usage
from swarm.daemon import machine
from swarm.daemon.session import MAX_EARLY, RawLog, Session
from swarm.daemon.state import (
    Event,
    SessionBegan,
    SessionPrinted,
    SessionSpent,
    SessionSpoke,
    SessionStuck,
    Tick,
)
from swarm.sessions.registry import adapter
from swarm.wire.lifeline import Beat


def quiet_at(event: Event | None, *, said: float = 40.0, beat: float = 100.0) -> float:
    """What a beat says of a session that began at 1 and to which ``event`` happened."""
    daemon = active_daemon(now=1.0)
    if event is not None:
        daemon, _ = machine.step(daemon, event, said)
    _, effects = machine.step(replace(daemon, beat_at=beat), Tick(), beat)
    return told(effects, Beat)[0].quiet


@pytest.mark.parametrize(
    "event",
    [SessionSpoke("words"), SessionPrinted(), SessionSpent(Usage(input_tokens=1), None, None)],
)
def test_what_it_prints_breaks_the_silence(event: Event) -> None:
    assert quiet_at(event) == 60.0


@pytest.mark.parametrize("event", [None, SessionStuck()])
def test_silence_counts_from_its_beginning_and_a_providers_refusals_are_silence(
    event: Event | None,
) -> None:
    assert quiet_at(event, said=2.0, beat=10.0) == 9.0


def test_without_a_session_there_is_no_silence() -> None:
    _, effects = machine.step(replace(idle_daemon(), beat_at=50.0), Tick(), 50.0)
    assert told(effects, Beat)[0].quiet == 0.0


class FakeTree:
    """Descriptors of pipes; nothing behind them."""

    def __init__(self) -> None:
        self.ends: dict[str, tuple[int, int]] = {}
        for name in ("stdout", "stderr", "status"):
            self.ends[name] = os.pipe()
            os.set_blocking(self.ends[name][0], False)
        self.stdout, self.stderr, self.status = (self.ends[n][0] for n in self.ends)
        self.pidfd, self.group = -1, None
        self.tree_pid, self.tree_start, self.containment = 5, 7, Containment.DESCENT

    def says(self, stream: str, data: bytes) -> int:
        """The descriptor that is readable then."""
        os.write(self.ends[stream][1], data)
        return self.ends[stream][0]

    def close(self) -> None:
        for ends in self.ends.values():
            for end in ends:
                os.close(end)


def heard(*said: tuple[str, bytes]) -> list[Event]:
    """What a session makes of it when it comes in this order."""
    tree = FakeTree()
    parser = adapter("claude").parser()
    session = Session(None, tree, parser, tells_result=True, log=RawLog("/dev/null", 0))  # type: ignore[arg-type]
    found = [event for one in said for event in session.readable(tree.says(*one), 0.0)[0]]
    session._log.close()
    tree.close()
    return found


STARTED = ("status", b'{"started":5}\n')


def events(stream: str, data: bytes) -> list[Event]:
    began, *rest = heard(STARTED, (stream, data))
    assert isinstance(began, SessionBegan)
    return rest


RETRY = (
    b'{"type":"system","subtype":"api_retry","attempt":1,"retry_delay_ms":50,'
    b'"error_status":503,"error":"server_error"}\n'
)


@pytest.mark.parametrize(
    "data",
    [b"plain words\n", b'{"type":"user","message":{}}\n', b'{"type":"assistant","message":{"con'],
)
def test_raw_output_and_records_of_no_interest_are_progress(data: bytes) -> None:
    assert events("stdout", data) == [SessionPrinted()]


def test_retries_and_standard_error_are_none() -> None:
    assert events("stdout", RETRY) == []
    assert events("stderr", b"still trying\n") == []


def test_what_is_said_before_the_start_was_told_is_heard_after_it() -> None:
    """Or the first usage of a quick session, perhaps its only one, would count for nothing."""
    said = ("stdout", b"plain words\n")
    assert heard(said) == []
    began, *rest = heard(said, STARTED, said)
    assert isinstance(began, SessionBegan)
    assert rest == [SessionPrinted(), SessionPrinted()]


def test_of_a_flood_before_the_start_the_last_is_kept() -> None:
    _began, *rest = heard(*[("stdout", b"plain words\n")] * (2 * MAX_EARLY), STARTED)
    assert len(rest) == MAX_EARLY

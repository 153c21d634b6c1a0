"""How signals end a command: by an exception, when it knows what it has started."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from swarm.errors import Interrupted

Handler = Callable[[int, FrameType | None], None] | signal.Handlers
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ctrl-C, TERM and HUP end the block by one exception, so that it cleans up.

    One is enough: whatever comes after it, on the way out, changes nothing.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        for other in ENDING:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(f"ended by {signal.Signals(number).name}")

    with _handling(end):
        yield


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """What would end the command in this block ends it at the end of the block.

    For what must not be half known: a process that is started and a directory that is made
    before there is a name for them could not be cleaned up.  A process started meanwhile has
    these signals as usual (a signal mask it would inherit).
    """
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    with _handling(note):
        yield
    if came:
        signal.raise_signal(came[0])


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Cleaning up is not interrupted; it takes seconds."""
    with _handling(signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    before = [(number, signal.signal(number, handler)) for number in ENDING]
    try:
        yield
    finally:
        for number, old in before:
            signal.signal(number, old)

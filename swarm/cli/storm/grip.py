"""Holding processes down for as long as it was meant, and not a moment longer.

A thread of its own, as the storm itself may wait: for a status, or for a ledger that a stopped
process has locked, which it could not let go of if nobody let *it* go.
"""

from __future__ import annotations

import threading
import time

from swarm.cli.storm.hands import Held
from swarm.cli.storm.processes import Process

_TURN = 0.02


class Grip:
    """All that is held at the moment; safe to use from the storm's thread while it works."""

    def __init__(self) -> None:
        self._held: list[Held] = []
        self._over: list[tuple[Held, float]] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._mind, name="grip", daemon=True)
        self._thread.start()

    def take(self, held: Held) -> None:
        """Hold it until its time is over."""
        with self._lock:
            self._held.append(held)

    def holds(self, process: Process) -> bool:
        """Whether that process is held in some way."""
        with self._lock:
            return any(held.victim.process == process for held in self._held)

    def now(self) -> list[Held]:
        """What is held."""
        with self._lock:
            return list(self._held)

    def over(self) -> list[tuple[Held, float]]:
        """What was let go of since the last call, and when (monotonic seconds)."""
        with self._lock:
            found, self._over = self._over, []
        return found

    def release(self) -> None:
        """Let go of everything at once."""
        self._let_go(everything=True)

    def close(self) -> None:
        """Let go of everything; the thread ends."""
        self._end.set()
        self._thread.join()
        self.release()

    def _mind(self) -> None:
        while not self._end.wait(_TURN):
            self._let_go(everything=False)

    def _let_go(self, *, everything: bool) -> None:
        with self._lock:
            now = time.monotonic()
            for held in list(self._held):
                if everything or held.until <= now:
                    held.release()
                    self._held.remove(held)
                    self._over.append((held, now))
                elif held.turn is not None:
                    held.turn(now)

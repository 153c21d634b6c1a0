"""The coordinator's end of its landers: one process a hub, started when it is needed."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from swarm.landing.model import Job, Landed, NotLanded, Order, Publish, Verdict

IDLE_SECONDS = 30.0
"""A worker without work for so long ends by itself."""
LEAVE_SECONDS = 5.0
"""How long one that is told to end may take before it is killed."""
_LINE = 1024 * 1024
_TRIES = 2
_BOOT = (
    "import sys; sys.path[:] = sys.argv.pop().split('\\n'); del sys.argv[1];"
    " from swarm.landing.worker import main; sys.exit(main())"
)
"""Run the very code that this process runs, however it came to its path."""

_PATH = "\n".join(os.path.abspath(entry) for entry in sys.path)

_verdicts: msgspec.json.Decoder[Verdict] = msgspec.json.Decoder(Verdict)


class _Died(Exception):
    """The worker ended without an answer; the argument says how."""


@dataclass(slots=True)
class _Line:
    """One hub's worker, and whose turn it is."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    process: asyncio.subprocess.Process | None = None


class Lander:
    """Lands jobs: one after the other for each hub, several hubs at a time.

    ``home_id`` marks the trees of checks, so that the sweep at the next start finds what a killed
    machine left.  :meth:`close` must be awaited at the end.
    """

    def __init__(self, home_id: str = "", idle_seconds: float = IDLE_SECONDS) -> None:
        self._home_id = home_id
        self._idle = idle_seconds
        self._lines: dict[str, _Line] = {}
        self._closed = False

    async def land(self, job: Job) -> Verdict:
        """Its verdict.  A worker that dies is replaced once; the job can be repeated safely."""
        return await self._ask(job.hub, job)

    async def publish(
        self, hub: str, source: str | None, target: str, branch: str
    ) -> Landed | NotLanded:
        """Publish what is on ``target`` already: for a landing that could not be, at the time."""
        verdict = await self._ask(hub, Publish(hub, source, target, branch))
        assert isinstance(verdict, Landed | NotLanded)
        return verdict

    async def close(self) -> None:
        """End every worker, also one at work: what it was doing is done again when asked again."""
        self._closed = True
        for line in self._lines.values():
            if line.process is not None:
                await _end(line.process)
            async with line.turn:  # who waited for his turn has seen by now that it is over
                if line.process is not None:
                    await _end(line.process)
                    line.process = None

    async def _ask(self, hub: str, order: Order) -> Verdict:
        line = self._lines.setdefault(hub, _Line())
        async with line.turn:
            how = ""
            tries = _TRIES
            while tries > 0:
                if self._closed:
                    return NotLanded("the lander is closed")
                fresh = line.process is None
                try:
                    return await self._once(line, order)
                except _Died as died:
                    how = str(died)
                    tries -= 1 if fresh else 0  # an idle one may leave just as it is asked
                except OSError as error:
                    return NotLanded(f"the lander cannot be started: {error.strerror}")
        return NotLanded(f"the lander died {_TRIES} times: {how}")

    async def _once(self, line: _Line, order: Order) -> Verdict:
        """Ask once.  Raises :class:`_Died`; whatever goes wrong, the worker is gone then."""
        if line.process is None:
            line.process = await self._start()
        process = line.process
        assert process.stdin is not None
        assert process.stdout is not None
        answered = False
        try:
            with suppress(ConnectionError):  # it is dead, and its answer says so
                process.stdin.write(msgspec.json.encode(order) + b"\n")
                await process.stdin.drain()
            text = await process.stdout.readline()
            verdict = _verdicts.decode(text) if text.endswith(b"\n") else None
            answered = verdict is not None
        except (ValueError, msgspec.MsgspecError):
            verdict = None
        finally:
            if not answered:
                line.process = None
                await _end(process)
        if verdict is None:
            raise _Died(f"exit {process.returncode}")
        return verdict

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            # On a full disk Python leaves half a .pyc, and then nobody could import it any more.
            *("-P", "-B", "-c", _BOOT, "swarm.landing.worker"),
            *(str(os.getpid()), self._home_id, str(self._idle), _PATH),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE,
            start_new_session=True,
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    """TERM, so that it tidies up; KILL when it does not."""
    if process.stdin is not None:
        process.stdin.close()
    # One that has closed its output is ending: a signal would reap it behind asyncio's back, and
    # its exit status would be lost (``Popen.send_signal`` polls first).
    if process.stdout is None or not process.stdout.at_eof():
        with suppress(ProcessLookupError):
            process.terminate()
    try:
        async with asyncio.timeout(LEAVE_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()

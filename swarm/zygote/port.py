"""The supervisor's side of the zygote: start it, ask for forks, hear of pids.

Nothing here blocks: requests that the socket will not take now wait in order.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import sys
from collections import deque
from collections.abc import Callable

import msgspec

from swarm.errors import SpawnError
from swarm.wire.spawn import Fork, FromZygote
from swarm.zygote.main import MAX_PACKET

_BOOT = (
    "import sys\n"
    "sys.path[:] = sys.argv[4].split('\\n')\n"
    "from swarm.zygote.main import main\n"
    "raise SystemExit(main(int(sys.argv[1]), int(sys.argv[2]), tls=sys.argv[3] == 'tls'))\n"
)
"""``python -S`` finds nothing by itself in a virtual environment, so the path is handed over."""

_decoder: msgspec.json.Decoder[FromZygote] = msgspec.json.Decoder(FromZygote)


class Zygote:
    """A running zygote.  ``pid`` is a direct child of this process, to be reaped by it."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self._line = line
        self._waiting: deque[tuple[bytes, socket.socket]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_reply: Callable[[FromZygote], None] = lambda _reply: None
        self._on_end: Callable[[], None] = lambda: None

    @classmethod
    def start(cls, *, tls: bool = False, stderr: int | None = None) -> Zygote:
        """Execute a zygote.  ``tls`` preloads ``ssl`` for a fleet on ``wss://``.

        ``stderr`` is a descriptor for what it prints when it dies; default: this process's own.
        Raises :class:`~swarm.errors.SpawnError`.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        path = "\n".join(os.path.abspath(entry) for entry in sys.path)
        argv = [
            sys.executable,
            *("-I", "-S", "-c", _BOOT),
            *(str(theirs.fileno()), str(os.getpid()), "tls" if tls else "plain", path),
        ]
        actions: list[tuple[int, int] | tuple[int, int, int]] = []
        if stderr is not None:
            actions.append((os.POSIX_SPAWN_DUP2, stderr, 2))
        os.set_inheritable(theirs.fileno(), True)
        try:
            pid = os.posix_spawn(
                sys.executable,
                argv,
                os.environ,
                file_actions=actions,
                # Out of the terminal's foreground group: Ctrl-C is the supervisor's alone.
                setsid=True,
                # A supervisor that has just taken over blocks signals; its children must not.
                setsigmask=(),
            )
        except OSError as error:
            ours.close()
            raise SpawnError(
                f"the zygote cannot be started: {error.strerror}", f"check {sys.executable}"
            ) from None
        finally:
            theirs.close()
        return cls(pid, ours)

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        on_reply: Callable[[FromZygote], None],
        on_end: Callable[[], None],
    ) -> None:
        """Deliver each reply to ``on_reply``; ``on_end`` once, when the zygote is gone."""
        self._loop, self._on_reply, self._on_end = loop, on_reply, on_end
        loop.add_reader(self._line.fileno(), self._readable)

    def fork(self, id: int, kind: str, spec: bytes, log: str = "") -> socket.socket:  # noqa: A002
        """Ask for a child and return our end of its lifeline, non-blocking.

        ``spec`` is JSON (see :mod:`swarm.wire.spawn`).  Raises
        :class:`~swarm.errors.SpawnError` for one too large to send.
        """
        packet = msgspec.json.encode(Fork(id=id, kind=kind, spec=msgspec.Raw(spec), log=log))
        if len(packet) > MAX_PACKET:
            raise SpawnError(
                f"the settings of a {kind} take {len(packet)} bytes, more than {MAX_PACKET}",
                "shorten its role's prompt or the environment",
            )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        self._waiting.append((packet, theirs))
        self._flush()
        return ours

    def close(self) -> None:
        """Let the zygote go: it ends when its socket does.  Its exit is the caller's to reap."""
        if self._loop is not None:
            self._loop.remove_reader(self._line.fileno())
            self._loop.remove_writer(self._line.fileno())
            self._loop = None
        self._line.close()
        while self._waiting:
            self._waiting.popleft()[1].close()

    def _flush(self) -> None:
        while self._waiting:
            packet, theirs = self._waiting[0]
            rights = array.array("i", [theirs.fileno()])
            try:
                self._line.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            except BlockingIOError:
                if self._loop is not None:
                    self._loop.add_writer(self._line.fileno(), self._writable)
                return
            except OSError:
                return  # it is gone: end-of-file tells the same, and fails what is outstanding
            self._waiting.popleft()
            theirs.close()

    def _writable(self) -> None:
        assert self._loop is not None
        self._loop.remove_writer(self._line.fileno())
        self._flush()

    def _readable(self) -> None:
        while True:
            try:
                packet = self._line.recv(MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self.close()
                self._on_end()
                return
            with contextlib.suppress(msgspec.MsgspecError):  # ours alone speaks here
                self._on_reply(_decoder.decode(packet))

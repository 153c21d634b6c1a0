"""A stand-in supervisor that speaks the real control protocol, for tests of its clients."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from swarm.config.places import Places
from swarm.errors import BadMessage
from swarm.wire import control

Reply = control.Answer | bytes
TOKEN = "a-token"

STATUS = {
    "swarm": {
        "pid": 4242,
        "home": "/tmp/home",
        "started_at": "2026-01-01T00:00:00Z",
        "chat_url": "ws://127.0.0.1:41234",
        "paused": None,
        "config": {"path": None, "ok": True, "problems": []},
    },
    "limits": {"max_active": 5},
    "agents": [
        {
            "name": "swarm-builder-001",
            "agent_id": "0123456789abcdef",
            "role": "builder",
            "state": "idle",
            "since": "2026-01-01T00:00:00Z",
            "pid": 4243,
            "restarts": 0,
            "next_restart_at": None,
            "reason": None,
            "last_heartbeat": None,
            "memory_mb": 1.5,
            "cpu_percent": 0.0,
            "task": None,
        },
        {
            "name": "swarm-builder-002",
            "agent_id": "fedcba9876543210",
            "role": "builder",
            "state": "active",
            "since": "2026-01-01T00:00:00Z",
            "pid": 4244,
            "restarts": 2,
            "next_restart_at": None,
            "reason": "evil \x1b[31m[bold]reason",
            "last_heartbeat": None,
            "memory_mb": None,
            "cpu_percent": None,
            "task": {"id": "t-00000001", "attempt": 1, "session_pid": 4245, "started_at": None},
        },
    ],
    "services": [{"name": "chat", "state": "running", "pid": 4246, "restarts": 0}],
}


class FakeSupervisor:
    """Holds the lock of a home and answers its control socket from a thread.

    ``replies`` maps a command's type to what is answered: messages, raw bytes, or nothing, which
    hangs up.  A command that is not in it is answered by an empty ``Done``; one in ``silent`` is
    never answered.
    """

    def __init__(self, home: Path) -> None:
        self.places = Places(home)
        self.heard: list[control.Command] = []
        self.replies: dict[type, list[Reply]] = {control.Status: [control.Done(data=STATUS)]}
        self.silent: set[type] = set()
        self.tokens: list[str] = []
        self._lock = os.open(self.places.pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(self._lock, f"{os.getpid()}\n".encode())
        self.places.control_token.write_text(TOKEN + "\n")
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.places.control_socket))
        self._server.listen(8)
        self._ending = threading.Event()
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.on: dict[type, Callable[[], None]] = {}

    def answer_late(self, answer: control.Answer) -> None:
        """Answer the last command in ``silent`` after all."""
        self._held[-1].sendall(control.encode(answer))

    def _serve(self) -> None:
        while True:
            connection, _ = self._server.accept()
            if self._ending.is_set():
                connection.close()
                return
            with connection.makefile("rb") as lines:
                line = lines.readline()
            try:
                request = control.read_request(line)
            except BadMessage:  # it connected and went away
                connection.close()
                continue
            self.tokens.append(request.token)
            self.heard.append(request.do)
            kind = type(request.do)
            if kind in self.silent:
                self._held.append(connection)
                continue
            for reply in self.replies.get(kind, [control.Done()]):
                connection.sendall(reply if isinstance(reply, bytes) else control.encode(reply))
            if kind in self.on:
                self.on[kind]()
            connection.close()

    def unlock(self) -> None:
        """The swarm has ended, as far as anybody can see."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        self._ending.set()
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.places.control_socket))
            self._thread.join(5)
        assert not self._thread.is_alive()
        for connection in self._held:
            connection.close()
        self._server.close()
        os.close(self._lock)


class Ran:
    """What one command line did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"<exit {self.code}, out {self.out!r}, err {self.err!r}>"

"""JSON-line logs that rotate by size, for every process.

Not the ``logging`` module: it imports ``threading``, which the zygote and the daemons must not
(architecture, "Processes").
"""

from __future__ import annotations

import contextlib
import os
import time

import msgspec

MAX_BYTES = 8 * 1024 * 1024
"""Size at which a log is rotated."""
KEEP = 3
"""Rotated files kept beside the current one: ``x.log.1`` is the newest."""

_encoder = msgspec.json.Encoder(order="deterministic", enc_hook=str)


def timestamp(seconds: float | None = None, *, fine: bool = False) -> str:
    """RFC 3339 in UTC with milliseconds (``fine``: microseconds), of Unix ``seconds`` or of now."""
    at = time.time() if seconds is None else seconds
    whole = int(at)
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    part = at - whole
    return f"{date}.{int(part * 1e6):06d}Z" if fine else f"{date}.{int(part * 1000):03d}Z"


class JsonLog:
    """Appends one JSON object a line: ``{"ts": …, "kind": …, …}``.

    The file is opened for each line and closed again: a thousand idle daemons hold no
    descriptor, and a rotation by another process of the same log is always seen.  A log that
    cannot be written is dropped, never an error: a full disk must not stop supervision; what must
    not be lost is in the ledger, the journal and the outboxes.
    """

    __slots__ = ("_keep", "_max_bytes", "path")

    def __init__(
        self, path: str | os.PathLike[str], max_bytes: int = MAX_BYTES, keep: int = KEEP
    ) -> None:
        self.path = os.fspath(path)
        self._max_bytes = max_bytes
        self._keep = keep

    def write(self, kind: str, **fields: object) -> bool:
        """Append one entry; false when the disk would not take it."""
        line = _encoder.encode({"ts": timestamp(fine=True), "kind": kind, **fields}) + b"\n"
        try:
            fd = self._open()
        except OSError:
            return False
        try:
            if os.fstat(fd).st_size + len(line) > self._max_bytes:
                os.close(fd)
                fd = -1
                self._rotate()
                fd = self._open()
            return os.write(fd, line) == len(line)
        except OSError:
            return False
        finally:
            if fd >= 0:
                os.close(fd)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            return os.open(self.path, flags, 0o600)

    def _rotate(self) -> None:
        for index in range(self._keep - 1, 0, -1):
            _replace(f"{self.path}.{index}", f"{self.path}.{index + 1}")
        _replace(self.path, f"{self.path}.1")


def _replace(source: str, target: str) -> None:
    if os.path.exists(source):
        os.replace(source, target)


def bound_text(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> bool:
    """Cut a plain log that others hold open with ``O_APPEND``; whether it had to be.

    A file grown over ``max_bytes`` keeps its inode and starts again empty; the last part of it
    (at most ``max_bytes`` of it, so a flood costs no more than a trickle) becomes ``<path>.1``.
    What is written between the copy and the cut is lost, which is borne: it is what a dying
    process printed, and all that must be kept is elsewhere.
    """
    name = os.fspath(path)
    try:
        fd = os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        size = os.fstat(fd).st_size
        if size <= max_bytes:
            return False
        _keep_tail(fd, f"{name}.1", size, max_bytes)
        os.ftruncate(fd, 0)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _keep_tail(fd: int, target: str, size: int, limit: int) -> None:
    """Copy the last ``limit`` bytes of ``fd``; a disk that is full is no reason to keep them."""
    part = f"{target}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        out = os.open(part, flags, 0o600)
        try:
            at = max(0, size - limit)
            while at < size and (sent := os.sendfile(out, fd, at, size - at)):
                at += sent
        finally:
            os.close(out)
        os.replace(part, target)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)

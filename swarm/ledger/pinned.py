"""Files a task is tied to by their SHA-256: where its text came from, where its answer goes.

Paths are a person's, and what lies there may be anything by the time it is looked at: nothing
is followed, waited for or written over that is not exactly what was meant.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import SwarmError, UsageError

MAX_REQUEST = 256 * 1024
"""Bytes of a request file: what a prompt may have."""
MAX_RESPONSE_FILE = 1024 * 1024
"""Bytes of an answer's file that are looked at: ours are smaller."""


@dataclass(frozen=True, slots=True)
class Request:
    """A task's text as it was read from a file."""

    path: str
    """Absolute, without symbolic links."""
    sha256: str
    text: str


def read_request(path: str) -> Request:
    """Read a task's text from a file.

    Raises :class:`~swarm.errors.UsageError` for what is no readable text file of that size.
    """
    real = os.path.realpath(os.path.expanduser(path))
    try:
        data = _read(real, MAX_REQUEST)
        text = data.decode()
    except OSError as error:
        raise UsageError(
            f"the request file {path} cannot be read: {error.strerror}", "name a text file"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the request file {path} is not UTF-8 (byte {error.start})", "give the text in UTF-8"
        ) from None
    return Request(real, hashlib.sha256(data).hexdigest(), text)


def request_problem(path: str, sha256: str) -> str:
    """How a request file differs from what it was; empty when it is the same."""
    try:
        data = _read(path, MAX_REQUEST)
    except OSError as error:
        return f"its request file {path} cannot be read any more: {error.strerror}"
    if hashlib.sha256(data).hexdigest() != sha256:
        return f"its request file {path} has changed since the task was added"
    return ""


def usable_response(path: str) -> str:
    """Where an answer may be written later, as an absolute path.

    Raises :class:`~swarm.errors.UsageError` for a place that is taken or no directory's.
    """
    folder, name = os.path.split(os.path.abspath(os.path.expanduser(path)))
    real = os.path.join(os.path.realpath(folder), name)
    if not os.path.isdir(folder) or not name:
        raise UsageError(
            f"the answer cannot be written to {path}: {folder} is no directory", "make it first"
        )
    if os.path.lexists(real):
        raise UsageError(
            f"there is something at {path} already", "name a file that is not there yet"
        )
    return real


def write_response(path: str, text: str, ours: str) -> str:
    """Write an answer (0600, whole or not at all); the SHA-256 of what lies there then.

    ``ours`` is the SHA-256 of what was written there before, empty for nothing.  Raises
    :class:`~swarm.errors.SwarmError` for anything else that lies in its place.
    """
    data = (text if text.endswith("\n") or not text else f"{text}\n").encode(errors="replace")
    sha256 = hashlib.sha256(data).hexdigest()
    folder, name = os.path.split(path)
    try:
        before = _there(path)
        if before == sha256:
            return sha256  # written, and not noted: the process was killed in between
        if before is not None and (not ours or before != ours):
            raise SwarmError(
                f"the answer was not written: {path} holds something else",
                "move that away, or see the answer in 'agentctl task show'",
            )
        _put(folder, name, data, replace=before is not None)
    except OSError as error:
        raise SwarmError(
            f"the answer was not written to {path}: {error.strerror}",
            "see it in 'agentctl task show'",
        ) from error
    return sha256


def response_problem(path: str, sha256: str) -> str:
    """How an answer's file differs from what was written; empty when it is the same."""
    try:
        there = _there(path)
    except OSError as error:
        return error.strerror or "it cannot be read"
    if there is None:
        return "it is not there any more"
    return "" if there == sha256 else "it has changed since"


def _there(path: str) -> str | None:
    """SHA-256 of the regular file at ``path``, ``None`` when nothing is there.

    Raises ``OSError``, for a symbolic link too.
    """
    try:
        return hashlib.sha256(_read(path, MAX_RESPONSE_FILE)).hexdigest()
    except FileNotFoundError:
        return None


def _read(path: str, most: int) -> bytes:
    """A regular file of at most ``most`` bytes.  A pipe with nobody behind it blocks no one."""
    # Opened to be looked at; O_NONBLOCK matters for pipes only (open(2)).
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes")
    return data


def _put(folder: str, name: str, data: bytes, *, replace: bool) -> None:
    """Written beside its place first; linked, not renamed, where nothing may be replaced."""
    path = os.path.join(folder, name)
    beside = os.path.join(folder, f".agentctl-{secrets.token_hex(8)}.tmp")
    descriptor = os.open(
        beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if replace:
            os.rename(beside, path)
        else:
            os.link(beside, path, follow_symlinks=False)
    finally:
        Path(beside).unlink(missing_ok=True)

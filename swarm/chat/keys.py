"""Checking signatures, and the clock and chance the pure machines are given."""

from __future__ import annotations

import time

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key


def verify(public_pem: str, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is the Ed25519 signature of ``message`` by ``public_pem``.

    False for anything else too: a key of another kind, or text that is no key.
    """
    try:
        key = load_pem_public_key(public_pem.encode("utf-8", "replace"))
        if not isinstance(key, Ed25519PublicKey):
            return False
        key.verify(signature, message)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


class Clock:
    """Unix milliseconds that never run backwards: wall time at the start, then monotonic."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def __call__(self) -> int:
        """Now."""
        return (time.monotonic_ns() + self._offset) // 1_000_000

"""Signing in to the server: who may come through the door, and as whom."""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Callable

from swarm.wire.agentchat import frames
from swarm.wire.agentchat.members import Agent, Challenged, id_of_key, is_pubkey

Verify = Callable[[str, bytes, bytes], bool]
"""``verify(public_pem, message, signature)``: whether the Ed25519 signature holds; never raises."""
Entropy = Callable[[int], bytes]
"""So many random bytes."""


class Refusal(Exception):
    """A frame is answered with ``ERROR`` ``code`` and ``message``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Door:
    """Challenges keys and checks proofs.

    ``trusted`` are bare ids that are ``verified``; ``badge`` is the secret by which the fleet's
    own agents are known, empty when there is none.
    """

    __slots__ = ("_badge", "_entropy", "_expires", "_verify", "trusted")

    def __init__(
        self,
        verify: Verify,
        entropy: Entropy,
        expires: int,
        trusted: frozenset[str],
        badge: str = "",
    ) -> None:
        self._verify = verify
        self._entropy = entropy
        self._expires = expires
        self._badge = badge.encode()
        self.trusted = trusted

    def identify(self, frame: frames.Identify, conn: int, now: int) -> Challenged | Agent:
        """A challenge for a key, or a read-only agent for none.  Raises :class:`Refusal`."""
        if not frames.is_name(frame.name):
            raise Refusal("INVALID_NAME", "A name is 1-32 of A-Z a-z 0-9 _ -")
        quiet, addressed = frame.quiet is True, frame.addressed is True
        if not frame.pubkey:
            return Agent(
                self._entropy(4).hex(),
                frame.name,
                conn,
                verified=False,
                lurking=True,
                quiet=quiet,
                addressed=addressed,
            )
        if not is_pubkey(frame.pubkey):
            raise Refusal("INVALID_MSG", "pubkey is not a public key in PEM")
        challenge_id = f"chal_{self._entropy(8).hex()}"
        nonce = self._entropy(16).hex()
        expires = now + self._expires
        fleet = self._of_the_fleet(frame)
        return Challenged(
            frame.name, frame.pubkey, quiet, addressed, fleet, challenge_id, nonce, expires
        )

    def _of_the_fleet(self, frame: frames.Identify) -> bool:
        shown = frame.badge.encode("utf-8", "replace") if isinstance(frame.badge, str) else b""
        return bool(self._badge) and hmac.compare_digest(shown, self._badge)

    def prove(self, asked: Challenged, frame: frames.VerifyIdentity, conn: int, now: int) -> Agent:
        """The agent that answered its challenge.  Raises :class:`Refusal`."""
        if frame.challenge_id != asked.challenge_id or now > asked.expires_at:
            raise Refusal("VERIFICATION_EXPIRED", "Challenge not found or expired")
        text = frames.challenge_text(asked.nonce, asked.challenge_id, frame.timestamp)
        try:
            signature = binascii.a2b_base64(frame.signature.encode("ascii"), strict_mode=True)
        except ValueError:  # binascii.Error and UnicodeEncodeError are ValueErrors
            signature = b""
        if len(signature) != 64 or not self._verify(asked.pubkey, text, signature):
            raise Refusal("VERIFICATION_FAILED", "Invalid signature")
        agent_id = id_of_key(asked.pubkey)
        return Agent(
            agent_id,
            asked.name,
            conn,
            verified=agent_id in self.trusted,
            lurking=False,
            quiet=asked.quiet,
            addressed=asked.addressed,
            fleet=asked.fleet,
        )

"""An identity whose private key stays in its file."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.spawner.identity import load_identity


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with the key that lies at ``path``: a daemon signs seldom, and keeps no secret."""

    name: str
    agent_id: str
    public_pem: str
    path: str

    def sign(self, data: bytes) -> bytes:
        """The raw Ed25519 signature, 64 bytes.

        Raises :class:`~swarm.errors.WorkspaceError` when the identity cannot be read.
        """
        return load_identity(self.path).sign(data)

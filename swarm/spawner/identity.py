"""Ed25519 identities in the agentchat file format.

The id is the first 16 hex digits of SHA-256 over the public key's PEM text, byte for byte as it
is sent (agentchat protocol, "Names and ids").
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from swarm.errors import WorkspaceError

MAX_FILE = 64 * 1024
"""Bytes of an identity file we are willing to read."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an agent is on the chat.  ``agent_id`` is 16 hex digits without the ``@``."""

    name: str
    agent_id: str
    public_pem: str
    private_pem: str

    @classmethod
    def create(cls, name: str) -> Identity:
        """A new key pair."""
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        public = (
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        )
        return cls(name, agent_id_of(public), public, private)

    def sign(self, data: bytes) -> bytes:
        """The raw Ed25519 signature, 64 bytes.

        The key is parsed at each call: signing is rare (once a sign-in), and a parsed key kept
        around costs an idle daemon more memory than the text it comes from.
        """
        key = load_pem_private_key(self.private_pem.encode(), password=None)
        assert isinstance(key, Ed25519PrivateKey)
        return key.sign(data)


class _File(msgspec.Struct, omit_defaults=True):
    publicKey: str = ""  # noqa: N815 - agentchat's spelling
    privateKey: str = ""  # noqa: N815
    agentId: str = ""  # noqa: N815
    name: str = ""
    created: str = ""
    rotations: list[object] = []
    pubkey: str = ""
    privkey: str = ""


def agent_id_of(public_pem: str) -> str:
    """The agentchat id of a public key."""
    return hashlib.sha256(public_pem.encode()).hexdigest()[:16]


def load_identity(path: str | os.PathLike[str]) -> Identity:
    """Read an identity file; the older ``pubkey``/``privkey`` names are accepted.

    Raises :class:`~swarm.errors.WorkspaceError` when it cannot be read, is no identity, holds
    another key than Ed25519, or can be read by others than its owner.
    """
    fix = "move it away and a new identity is made"
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MAX_FILE)
    except OSError as error:
        raise WorkspaceError(f"the identity {path} cannot be read: {error.strerror}", fix) from None
    if mode & 0o077:
        raise WorkspaceError(f"the identity {path} is open to others", f"run: chmod 600 {path}")
    try:
        data = msgspec.json.decode(text, type=_File)
        private = data.privateKey or data.privkey
        key = load_pem_private_key(private.encode(), password=None)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise WorkspaceError(f"{path} is no agentchat identity: {error}", fix) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise WorkspaceError(f"{path} holds a key that is not Ed25519", fix)
    public = data.publicKey or data.pubkey
    if not public:
        raise WorkspaceError(f"{path} holds no public key", fix)
    return Identity(data.name, agent_id_of(public), public, private)


def save_identity(identity: Identity, path: str | os.PathLike[str]) -> None:
    """Write the identity file, 0600, whole or not at all.

    Beside an ``.agentchat`` root a ``.gitignore`` of ``*`` is laid, so that no key is committed.
    """
    target = os.fspath(path)
    folder = os.path.dirname(target)
    data = _File(
        publicKey=identity.public_pem,
        privateKey=identity.private_pem,
        agentId=identity.agent_id,
        name=identity.name,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _guard_from_git(folder)
        part = f"{target}.{os.getpid()}.part"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n")
        finally:
            os.close(fd)
        os.replace(part, target)
    except OSError as error:
        raise WorkspaceError(
            f"the identity {target} cannot be written: {error.strerror}",
            "make room, or make the folder writable",
        ) from None


def load_or_create(path: str | os.PathLike[str], name: str) -> Identity:
    """The identity at ``path``; a new one named ``name`` is made when there is none."""
    if not os.path.lexists(path):
        save_identity(Identity.create(name), path)
    return load_identity(path)


def _guard_from_git(folder: str) -> None:
    head, tail = os.path.split(folder)
    while tail:
        if tail == ".agentchat":
            ignore = os.path.join(head, tail, ".gitignore")
            if not os.path.exists(ignore):
                with open(ignore, "w") as file:
                    file.write("*\n")
            return
        head, tail = os.path.split(head)

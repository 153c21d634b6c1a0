"""Identities in the agentchat file format."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from swarm.errors import WorkspaceError
from swarm.spawner.identity import (
    Identity,
    agent_id_of,
    load_identity,
    load_or_create,
    save_identity,
)


def test_the_id_is_that_of_the_recorded_server() -> None:
    pem = (
        "-----BEGIN PUBLIC KEY-----\n"
        "MCowBQYDK2VwAyEAkCBakZCGynyqikJClbPSf/OMD1/Krhx9EkjXg6fvwUU=\n"
        "-----END PUBLIC KEY-----\n"
    )
    assert agent_id_of(pem) == "829615c3b8e72651"


def test_a_saved_identity_is_read_back_and_signs(tmp_path: Path) -> None:
    path = tmp_path / ".agentchat" / "identities" / "a.json"
    made = load_or_create(path, "a")
    again = load_or_create(path, "other")
    assert again == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".agentchat" / ".gitignore").read_text() == "*\n"
    key = load_pem_public_key(made.public_pem.encode())
    key.verify(again.sign(b"text"), b"text")  # type: ignore[union-attr, call-arg]
    assert not list(path.parent.glob("*.part"))


def test_the_older_names_of_the_keys_are_read(tmp_path: Path) -> None:
    identity = Identity.create("old")
    path = tmp_path / "old.json"
    path.write_text(
        json.dumps({"pubkey": identity.public_pem, "privkey": identity.private_pem, "name": "old"})
    )
    path.chmod(0o600)
    assert load_identity(path) == identity


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"privateKey": "x", "publicKey": "y"}', '{"name": 3}', "\x00" * 99]
)
def test_what_is_no_identity_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(WorkspaceError, match=r"bad\.json") as caught:
        load_identity(path)
    assert "\n" not in str(caught.value)


def test_an_identity_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "open.json"
    save_identity(Identity.create("x"), path)
    path.chmod(0o644)
    with pytest.raises(WorkspaceError, match="chmod 600"):
        load_identity(path)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="cannot be written"):
        save_identity(Identity.create("x"), os.path.join(tmp_path, "file", "id.json"))

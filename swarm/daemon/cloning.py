"""What a helper process does with the clone before a session: make it, merge the target in."""

from __future__ import annotations

import os

import msgspec

from swarm.daemon import memory
from swarm.daemon.resting import first_rest
from swarm.daemon.state import MakeClone
from swarm.errors import SpawnError
from swarm.sandbox.landlock import LandlockRules
from swarm.sandbox.launch import Confinement
from swarm.spawner import clone as clones
from swarm.spawner.author import git_identity
from swarm.spawner.clone_merge import Merged, merge_target
from swarm.spawner.workspace import Workspace, clone_problem, set_aside

_encoder = msgspec.json.Encoder()


def confinement_of(workspace: Workspace, sandboxed: bool) -> Confinement:
    """Of the same strength as the session's; git's own paths are filled in where it runs."""
    return Confinement(landlock=LandlockRules() if sandboxed else None, tmp=workspace.tmp)


def make_clone(workspace: Workspace, wanted: MakeClone, confinement: Confinement) -> bytes:
    """Make ``repo/`` a clone of the hub as ``wanted``, contained as ``confinement``.

    With a ``start`` it holds that commit, as a task waits for it; without, it is made ready for
    the first one.  ``fresh`` sets the one that is there aside.  Returns what became of the merge
    that is wanted, for :func:`read_merged`.  Raises :class:`~swarm.errors.SwarmError`.
    """
    hub, mode = wanted.hub, wanted.clone
    if wanted.fresh and os.path.isdir(workspace.repo) and not clone_problem(workspace):
        set_aside(workspace)
    clones.ensure_clone(workspace, hub, mode)
    if not wanted.start:
        first_rest(workspace, hub, mode, confinement)
        return b""
    if wanted.merge is None:
        clones.ensure_start(workspace, hub, mode, wanted.start, confinement)
        return b""
    repo = wanted.merge
    try:
        memory.mark_used(workspace)  # what is checked out now is no resting place
    except OSError as error:
        raise SpawnError(f"{workspace.private} cannot be written: {error.strerror}") from None
    identity = git_identity(repo.author_name, repo.author_email, workspace.name)
    return _encoder.encode(merge_target(workspace, repo, identity, confinement))


def read_merged(answer: bytes) -> Merged | None:
    """What :func:`make_clone` said of the merge; ``None`` when none was wanted."""
    return msgspec.json.decode(answer, type=Merged) if answer else None

"""Workspaces: one folder an agent, made whole or not at all, verified before a restart.

Layout (product, "Places")::

    <base>/<name>/.gitignore                        written before anything else
                  CLAUDE.md AGENTS.md context.md    what the agent is told; read-only to sessions
                  .agentchat/identities/<name>.json the chat identity, 0600
                  .agentctl/                        trusted state, never visible to a session
                  repo/ out/<task>/ tmp/ state/     what sessions may write

A workspace carries the id of the home that made it; nobody else's is ever touched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from swarm.core.model import split_agent_name
from swarm.errors import WorkspaceError
from swarm.spawner.folders import remove_tree, write_whole

GITIGNORE = """\
# Written before anything else: no secret of an agent is ever committed.
*.key
*.pem
.env*
credentials.json
auth.json
.agentchat/
.agentctl/
state/
tmp/
out/
repo/
"""

CLONE = "clone"
"""``.agentctl/clone``: hub and mode of the clone in ``repo/``, one a line."""
CLONE_CONFIG = "clone.config"
"""``.agentctl/clone.config``: the clone's configuration as we wrote it."""
IN_USE = "in-use"
"""``.agentctl/in-use``: a session ran in the clone, and what it left is not in the hub yet."""
_ID = 64


@dataclass(frozen=True, slots=True)
class Workspace:
    """The places of one workspace; ``path`` is absolute."""

    path: str

    @property
    def name(self) -> str:
        """The agent's name."""
        return os.path.basename(self.path)

    @property
    def repo(self) -> str:
        """The clone, a session's working directory."""
        return os.path.join(self.path, "repo")

    @property
    def tmp(self) -> str:
        """Private temporary directory."""
        return os.path.join(self.path, "tmp")

    @property
    def state(self) -> str:
        """State of the agent CLIs, kept from task to task."""
        return os.path.join(self.path, "state")

    @property
    def identity(self) -> str:
        """The chat identity's file."""
        return os.path.join(self.path, ".agentchat", "identities", f"{self.name}.json")

    @property
    def private(self) -> str:
        """Our own state, never visible to a session."""
        return os.path.join(self.path, ".agentctl")

    @property
    def outbox(self) -> str:
        """Reports that are not settled yet."""
        return os.path.join(self.private, "outbox.jsonl")

    @property
    def fences(self) -> str:
        """Highest fence seen for each task."""
        return os.path.join(self.private, "fences.json")

    @property
    def current(self) -> str:
        """Task, fence and branch of the running session."""
        return os.path.join(self.private, "current.json")

    @property
    def context(self) -> str:
        """What the agent is told about its task and its earlier ones."""
        return os.path.join(self.path, "context.md")

    @property
    def notes(self) -> tuple[str, str, str]:
        """The three texts a session may read."""
        return (self.context, self._at("CLAUDE.md"), self._at("AGENTS.md"))

    def out(self, task: str) -> str:
        """Where a task's session leaves its results."""
        return os.path.join(self.path, "out", _component(task))

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)


@dataclass(frozen=True, slots=True)
class Brief:
    """What ``CLAUDE.md`` and ``AGENTS.md`` say."""

    role: str
    prompt: str = ""
    channel: str = "#agents"


def make_workspace(base: str, name: str, home_id: str, brief: Brief) -> Workspace:
    """Make the workspace of agent ``name``, or put right and return the one this home has.

    It is built beside its place and renamed when whole; the identity and the clone are made by
    their own modules.  Raises :class:`~swarm.errors.WorkspaceError` when another home owns the
    place or it cannot be written.
    """
    place = Workspace(os.path.join(os.path.abspath(base), _agent(name)))
    try:
        if os.path.lexists(place.path):
            if owner(place.path) != home_id:
                raise WorkspaceError(
                    f"{place.path} belongs to somebody else",
                    "choose another workspace_base, or move that folder away",
                )
            mend_workspace(place, brief)
            return place
        os.makedirs(base, exist_ok=True)
        made = os.path.join(base, f".making-{_component(home_id)}-{name}")
        if os.path.lexists(made):
            remove_tree(made)
        os.mkdir(made, 0o700)
        write_whole(os.path.join(made, ".gitignore"), GITIGNORE)
        os.mkdir(os.path.join(made, ".agentctl"), 0o700)
        write_whole(os.path.join(made, ".agentctl", "owner"), home_id)
        _furnish(made, name, brief)
        os.rename(made, place.path)
    except OSError as error:
        raise WorkspaceError(
            f"the workspace {place.path} cannot be made: {error.strerror}",
            "make room, or set workspace_base to a folder you can write",
        ) from None
    return place


def verify_workspace(workspace: Workspace, home_id: str) -> tuple[str, ...]:
    """What is wrong with a workspace, one line each; empty when it is fit for use.

    Looks at ownership, the layout, the identity's mode and whether the clone is a repository; a
    workspace without a clone or an identity yet is fine.
    """
    if not os.path.isdir(workspace.path) or os.path.islink(workspace.path):
        return ("there is no workspace",)
    if owner(workspace.path) != home_id:
        return ("it belongs to another home",)
    found = []
    for folder in ("out", "tmp", "state", ".agentctl"):
        path = os.path.join(workspace.path, folder)
        if os.path.islink(path) or not os.path.isdir(path):
            found.append(f"{folder}/ is missing")
    found += [
        f"{text} is missing"
        for text in (".gitignore", "CLAUDE.md", "AGENTS.md", "context.md")
        if not os.path.isfile(os.path.join(workspace.path, text))
    ]
    if os.path.lexists(workspace.identity):
        mode = os.lstat(workspace.identity).st_mode
        if not stat.S_ISREG(mode) or stat.S_IMODE(mode) & 0o077:
            found.append("the identity is open to others")
    if problem := clone_problem(workspace):
        found.append(problem)
    return tuple(found)


def mend_workspace(workspace: Workspace, brief: Brief) -> tuple[str, ...]:
    """Put right what :func:`verify_workspace` finds; returns what was done.

    Nothing of value is thrown away: a broken clone is set aside in ``.agentctl/broken/``, where the
    janitor finds it, an identity that others could read is replaced by a new one.
    """
    done = []
    os.chmod(workspace.path, 0o700)
    if not os.path.isfile(os.path.join(workspace.path, ".gitignore")):
        write_whole(os.path.join(workspace.path, ".gitignore"), GITIGNORE)
        done.append(".gitignore written again")
    if os.path.lexists(workspace.identity):
        info = os.lstat(workspace.identity)
        if not stat.S_ISREG(info.st_mode) or stat.S_IMODE(info.st_mode) & 0o077:
            os.unlink(workspace.identity)
            done.append("the identity was open to others: a new one is made")
    if clone_problem(workspace):
        set_aside(workspace)
        done.append("the clone was broken: set aside, a new one is made")
    _furnish(workspace.path, workspace.name, brief)
    return tuple(done)


def clone_problem(workspace: Workspace) -> str:
    """Why ``repo/`` is no usable clone; empty when it is one, or none was made yet.

    A task without a repository works in a plain folder.
    """
    if not os.path.lexists(workspace.repo):
        return ""
    if os.path.islink(workspace.repo) or not os.path.isdir(workspace.repo):
        return "repo/ is no directory"
    gitdir = os.path.join(workspace.repo, ".git")
    if not os.path.lexists(gitdir) and not os.path.lexists(os.path.join(workspace.private, CLONE)):
        return ""
    return gitdir_problem(workspace.repo)


def gitdir_problem(repo: str) -> str:
    """Why the ``.git`` of a clone is none that git could read; empty when it looks like one."""
    if os.path.islink(repo):
        return "repo/ is a link"
    gitdir = os.path.join(repo, ".git")
    for path, kind in (("", stat.S_ISDIR), ("objects", stat.S_ISDIR), ("refs", stat.S_ISDIR),
                       ("HEAD", stat.S_ISREG), ("config", stat.S_ISREG)):  # fmt: skip
        try:
            fits = kind(os.lstat(os.path.join(gitdir, path) if path else gitdir).st_mode)
        except OSError:
            fits = False
        if not fits:
            return f"repo/.git/{path} is not what git makes there"
    return ""


def set_aside(workspace: Workspace) -> str:
    """Move ``repo/`` into ``.agentctl/broken/``; nothing in it is lost.

    Its record goes along, so that the janitor can still bring home what is sound of it.
    """
    folder = os.path.join(workspace.private, "broken")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    number = len(os.listdir(folder))
    while os.path.lexists(os.path.join(folder, str(number))):
        number += 1
    place = os.path.join(folder, str(number))
    os.mkdir(place, 0o700)
    for name in (CLONE, CLONE_CONFIG):
        with suppress(FileNotFoundError), open(os.path.join(workspace.private, name)) as file:
            write_whole(os.path.join(place, name), file.read())
    os.rename(workspace.repo, os.path.join(place, "repo"))
    with suppress(FileNotFoundError):  # said of that clone, not of the one that comes in its place
        os.rename(os.path.join(workspace.private, IN_USE), os.path.join(place, IN_USE))
    return os.path.join(place, "repo")


def broken_clones(workspace: Workspace) -> list[str]:
    """Clones that were set aside and may hold work, each beside its record."""
    folder = os.path.join(workspace.private, "broken")
    try:
        return sorted(os.path.join(folder, name, "repo") for name in os.listdir(folder))
    except FileNotFoundError:
        return []


def owner(path: str) -> str:
    """The id of the home that made the workspace at ``path``; empty when it is none."""
    if os.path.islink(path):
        return ""
    try:
        with open(os.path.join(path, ".agentctl", "owner"), encoding="utf-8") as file:
            return file.read(_ID + 1).strip()
    except (OSError, UnicodeDecodeError):
        return ""


def owned_workspaces(base: str, home_id: str) -> list[Workspace]:
    """Every workspace of this home, by name."""
    return [
        Workspace(os.path.join(os.path.abspath(base), name))
        for name in sorted(taken_names(base))
        if owner(os.path.join(base, name)) == home_id
    ]


def taken_names(base: str) -> set[str]:
    """Agent names that something in ``base`` has, whoever owns it: never given out again."""
    try:
        return {name for name in os.listdir(base) if split_agent_name(name) is not None}
    except OSError:
        return set()


def sweep_half_made(base: str, home_id: str) -> list[str]:
    """Remove what this home half made or half removed; returns the paths."""
    prefixes = tuple(f".{verb}-{_component(home_id)}-" for verb in ("making", "removing"))
    try:
        names = [name for name in os.listdir(base) if name.startswith(prefixes)]
    except OSError:
        return []
    for name in names:
        remove_tree(os.path.join(base, name))
    return [os.path.join(base, name) for name in names]


def remove_workspace(workspace: Workspace, home_id: str) -> None:
    """Remove it for good, identity and all.  Whatever was worth keeping has been salvaged before.

    Raises :class:`~swarm.errors.WorkspaceError` when it is not this home's or cannot be removed.
    """
    if not os.path.lexists(workspace.path):
        return
    if not home_id or owner(workspace.path) != home_id:
        raise WorkspaceError(f"{workspace.path} is not this swarm's: it stays")
    base = os.path.dirname(workspace.path)
    gone = os.path.join(base, f".removing-{_component(home_id)}-{workspace.name}")
    try:
        if os.path.lexists(gone):
            remove_tree(gone)
        os.rename(workspace.path, gone)
        remove_tree(gone)
    except OSError as error:
        raise WorkspaceError(
            f"the workspace {workspace.path} cannot be removed: {error.strerror}",
            f"look at {gone}",
        ) from None


def prepare_task(workspace: Workspace, task: str) -> str:
    """Empty ``tmp/`` and make ``out/<task>/``, which is returned.  No session may be running."""
    try:
        remove_tree(workspace.tmp)
        os.mkdir(workspace.tmp, 0o700)
        out = workspace.out(task)
        _plain_folders(workspace.path, ("out", "state", os.path.join("out", _component(task))))
    except OSError as error:
        raise WorkspaceError(
            f"{workspace.path} cannot be made ready: {error.strerror}", "make room in it"
        ) from None
    return out


def _furnish(path: str, name: str, brief: Brief) -> None:
    """Folders and texts; an existing ``context.md`` is the agent's memory and stays."""
    _plain_folders(path, ("out", "tmp", "state", ".agentctl"))
    text = _briefing(name, brief)
    for file in ("CLAUDE.md", "AGENTS.md"):
        write_whole(os.path.join(path, file), text)
    if not os.path.isfile(os.path.join(path, "context.md")):
        write_whole(os.path.join(path, "context.md"), f"# {name}\n\nNo task yet.\n")


def _plain_folders(path: str, names: Iterable[str]) -> None:
    for name in names:
        folder = os.path.join(path, name)
        if os.path.islink(folder) or (os.path.lexists(folder) and not os.path.isdir(folder)):
            os.unlink(folder)
        os.makedirs(folder, mode=0o700, exist_ok=True)


def _briefing(name: str, brief: Brief) -> str:
    return f"""\
# {name}

You are `{name}`, an agent of the role *{brief.role}*.

{brief.prompt.strip()}

## How you work here
- `repo/` is your own clone; commit your work on the branch that is checked out.
  Nothing you do there reaches anybody else until your session ends: then the branch is fetched.
- Results that are no commits go to `out/<task>/` (also in `$AGENTCTL_OUT`).
- When you cannot go on without a person, write your question to `needs_human.md` there and stop.
- `context.md` says what your task is and what you did before.  It and this file are read-only.
- Temporary files go to `$TMPDIR`.  Your sandbox refuses what lies elsewhere: do not try around it.
- Your agent talks on {brief.channel} for you; you need not report there.
"""


def _agent(name: str) -> str:
    if split_agent_name(name) is None:
        raise WorkspaceError(f"{name[:80]!r} is no agent's name", "they are swarm-<role>-<number>")
    return name


def _component(text: str) -> str:
    """``text`` as one component of a path, or an error: it may come from a chat message."""
    plain = text.replace("-", "").replace("_", "").replace(".", "")
    if not text or len(text) > 200 or not (plain.isascii() and plain.isalnum()) or text[0] in ".-":
        raise WorkspaceError(f"{text[:80]!r} cannot name a folder")
    return text

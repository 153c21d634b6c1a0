"""From the inbox to a task's directory, so that a kill at any moment loses and doubles nothing.

A drop moves by renames, each a whole step, and its place says how far it has come::

    inbox/<name>                       dropped
    inbox/.taken/<ref>/<name>          ours; still on the inbox's file system
    tasks/.incoming/<ref>/input/<name> carried over (copied first, where that is another one)
    tasks/<id>/input/<name>            the ledger has the task, under (``inbox``, ref)

or, where it cannot become a task, ``inbox/.quarantine/<when>-<ref>`` with the reason beside it.
Everything blocks, and raises ``OSError`` as the file system does; whoever calls tries again.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swarm.ledger.intake import one_line
from swarm.spawner.folders import remove_tree

TAKEN, QUARANTINE, INCOMING = ".taken", ".quarantine", ".incoming"
INPUT, RESULTS, COPYING = "input", "results", "copying"


@dataclass(frozen=True, slots=True)
class Carried:
    """A drop that is on its way."""

    ref: str
    """Its own id: what the ledger knows it by."""
    path: str
    """Where it lies now."""

    @property
    def name(self) -> str:
        """What it was dropped as."""
        return os.path.basename(self.path)


class Carrier:
    """Moves drops from ``inbox`` below ``tasks``, the parent of all tasks' directories."""

    def __init__(self, inbox: Path, tasks: Path) -> None:
        self.inbox = inbox
        self.tasks = tasks

    def prepare(self) -> None:
        """Make the folders; the inbox too, when it is not there."""
        for folder in (self.inbox, self.inbox / QUARANTINE, self.tasks, self.tasks / INCOMING):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def claim(self, name: str) -> Carried | None:
        """Make a drop ours; ``None`` when it is gone."""
        ref = uuid.uuid4().hex
        taken = self.inbox / TAKEN / ref
        taken.mkdir(mode=0o700, parents=True)
        try:
            _move(self.inbox / name, taken / name)
        except FileNotFoundError:
            taken.rmdir()
            return None
        except OSError:
            with suppress(OSError):
                taken.rmdir()
            raise
        return Carried(ref, str(taken / name))

    def carry(self, drop: Carried, *, copy: bool = False) -> Carried:
        """Bring a claimed drop over; ``copy``: its files have other names, and must be our own."""
        home = self.tasks / INCOMING / drop.ref
        into = home / INPUT / drop.name
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not copy:
            (home / INPUT).mkdir(mode=0o700, exist_ok=True)
            try:
                os.rename(drop.path, into)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                copy = True
        if copy:
            _copy(drop.path, home / COPYING, drop.name)
            with suppress(FileNotFoundError):
                (home / INPUT).rmdir()  # empty: a rename that could not be
            os.rename(home / COPYING, home / INPUT)
        self._drop_claim(drop.ref)
        return Carried(drop.ref, str(into))

    def place(self, ref: str, task: str) -> Path:
        """The task is in the ledger: its directory takes its name.  Doing so twice is once."""
        home, folder = self.tasks / INCOMING / ref, self.tasks / task
        try:
            os.rename(home, folder)
        except FileNotFoundError:
            pass  # it was placed before
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            os.rename(home / INPUT, folder / INPUT)  # somebody has left results there already
            home.rmdir()
        (folder / RESULTS).mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def quarantine(self, drop: Carried, reason: str) -> Path:
        """Put a drop aside, the reason in a file beside it; where it lies now."""
        aside = self.inbox / QUARANTINE
        aside.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = aside / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{drop.ref[:8]}"
        line = f"{one_line(ascii(drop.name), 300)}: {one_line(reason, 1000)}\n"
        reason_file = kept.with_name(f"{kept.name}.reason")
        reason_file.write_text(line)
        path = drop.path
        carried = self.tasks / INCOMING / drop.ref / INPUT / drop.name
        if os.path.lexists(carried):  # it got so far before it was refused
            path = str(carried)
        try:
            os.rename(path, kept)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(path, aside / f"{kept.name}.part", drop.name)
            os.rename(aside / f"{kept.name}.part" / drop.name, kept)
            (aside / f"{kept.name}.part").rmdir()
        self._drop_claim(drop.ref)
        _remove(self.tasks / INCOMING / drop.ref)
        return kept

    def quarantined(self) -> int:
        """How many drops lie in quarantine."""
        try:
            names = os.listdir(self.inbox / QUARANTINE)
        except FileNotFoundError:
            return 0
        return sum(not name.endswith((".reason", ".part")) for name in names)

    def incoming(self) -> list[str]:
        """The drops that were carried over whole, and have no directory of their own yet."""
        into = self.tasks / INCOMING
        return [ref for ref in _names(into) if _names(into / ref / INPUT)]

    def left(self) -> list[Carried]:
        """Drops that an earlier life had on their way; half a copy is begun anew.

        One that was carried lies below :data:`INCOMING`, one that was only claimed in the inbox.
        """
        found: dict[str, Carried] = {}
        for ref, path in _inside(self.inbox / TAKEN):
            found[ref] = Carried(ref, path)
        for ref in _names(self.tasks / INCOMING):
            home = self.tasks / INCOMING / ref
            inputs = _names(home / INPUT)
            if inputs:
                self._drop_claim(ref)
                found[ref] = Carried(ref, str(home / INPUT / inputs[0]))
            elif ref not in found:
                _remove(home)
            else:
                _remove(home / COPYING)
        return list(found.values())

    def is_carried(self, drop: Carried) -> bool:
        """Whether it has left the inbox."""
        return Path(drop.path).parent == self.tasks / INCOMING / drop.ref / INPUT

    def _drop_claim(self, ref: str) -> None:
        taken = self.inbox / TAKEN / ref
        with suppress(FileNotFoundError):
            try:
                taken.rmdir()
            except OSError:
                remove_tree(str(taken))  # it was copied


def _move(path: Path, to: Path) -> None:
    try:
        os.rename(path, to)
    except PermissionError:
        # A folder that its owner may not write cannot be moved: its ".." would change.
        mode = os.lstat(path).st_mode
        if not stat.S_ISDIR(mode) or mode & stat.S_IWUSR:
            raise
        os.chmod(path, stat.S_IMODE(mode) | stat.S_IRWXU)
        os.rename(path, to)


def _remove(path: Path) -> None:
    """What stays is found again at the next start."""
    with suppress(OSError):
        remove_tree(str(path))


def _copy(path: str, into: Path, name: str) -> None:
    remove_tree(str(into))
    into.mkdir(mode=0o700)
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.copytree(path, into / name, symlinks=True)
    elif os.path.islink(path):
        os.symlink(os.readlink(path), into / name)
    else:
        shutil.copy2(path, into / name, follow_symlinks=False)


def _inside(folder: Path) -> list[tuple[str, str]]:
    """The claims in ``folder`` and what each holds; an empty one is removed."""
    found = []
    for ref in _names(folder):
        names = _names(folder / ref)
        if names:
            found.append((ref, str(folder / ref / names[0])))
        else:
            with suppress(OSError):
                (folder / ref).rmdir()
    return found


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []

"""Where sessions' cgroups can be made, and what they can enforce there.

:func:`decide` is pure: it reads the texts of ``/proc/self/cgroup`` and ``/proc/self/mountinfo``,
and is told what can be written.  :func:`find` only looks, for ``doctor``; :func:`settle` moves
the calling process where v2 wants it, for the supervisor, before it has started anything.

In this order: v2 delegated to us, or in a scope that systemd makes for us; writable v1
hierarchies; v2 without controllers, which still lists and kills.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from swarm.sandbox.cgroups import CONTROLLERS, PREFIX, UNIFIED

LEAF = "agentctl-supervisor"
"""v2: a cgroup that gives controllers to those below holds no process itself ("no internal
processes"), so the supervisor and its zygote move into this one beside the sessions'."""
V1_CONTROLLERS = (*CONTROLLERS, "freezer")

_REMOVE_TRIES, _REMOVE_WAIT = 25, 0.002
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Place:
    """Where cgroups of sessions can be made."""

    version: int = 0
    """0: nowhere; 1 or 2."""
    bases: Mapping[str, str] = field(default_factory=dict)
    """Controller → directory to make a home's directory in.  For v2 ``unified`` is among them,
    and beside it the controllers that can be given to those below."""

    @property
    def enforces(self) -> tuple[str, ...]:
        """Which of memory, processes and processor time the kernel keeps here."""
        return tuple(one for one in CONTROLLERS if one in self.bases)

    @property
    def limits_by(self) -> str:
        """``cgroup-v1``, ``cgroup-v2`` or ``sampling``, by what memory is kept."""
        return f"cgroup-v{self.version}" if "memory" in self.bases else "sampling"

    def folders(self, home_id: str) -> dict[str, str]:
        """Controller → the directory of one home, as ``cgroups`` wants it."""
        return {one: f"{base.rstrip('/')}/{PREFIX}{home_id}" for one, base in self.bases.items()}


NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class Own:
    """Directories of the cgroups that this process is in; empty where not to be seen."""

    unified: str = ""
    v1: Mapping[str, str] = field(default_factory=dict)


def own_directories(cgroup: str, mountinfo: str) -> Own:
    """From the texts of ``/proc/self/cgroup`` and ``/proc/self/mountinfo`` (proc(5)).

    A cgroup that is outside of what is mounted here, as of a container's host, has no directory.
    """
    paths: dict[str, str] = {}
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(",") if number != "0" else (UNIFIED,):
            paths[name] = path
    unified, v1 = "", {}
    for line in mountinfo.splitlines():
        mount, _, system = line.partition(" - ")
        fields, kind = mount.split(" "), system.split(" ")
        if len(fields) < 6 or len(kind) < 3:
            continue
        root, point = _plain(fields[3]), _plain(fields[4])
        if kind[0] == "cgroup2" and not unified:
            unified = _inside(root, point, paths.get(UNIFIED, ""))
        elif kind[0] == "cgroup":
            for name in kind[2].split(","):
                if name in V1_CONTROLLERS and name not in v1:
                    v1[name] = _inside(root, point, paths.get(name, ""))
    return Own(unified, {name: path for name, path in v1.items() if path})


def decide(
    own: Own, writable: Collection[str], given: Mapping[str, str], *, scope: bool = False
) -> Place:
    """Where to make cgroups.

    ``writable`` are the directories of ``own`` (and their parents) in which we may make some;
    ``given`` is a v2 directory's ``cgroup.controllers``.  ``scope``: only what a scope of ours, or
    of whoever delegated to us, would give; nothing of v1.
    """
    base = base_of(own.unified)
    controllers = [one for one in CONTROLLERS if one in given.get(base, "").split()]
    v2 = base in writable and own.unified in writable
    if v2 and controllers:
        return Place(2, {UNIFIED: base, **dict.fromkeys(controllers, base)})
    if scope:
        return NOWHERE
    v1 = {one: path for one, path in own.v1.items() if path in writable}
    if v1:
        return Place(1, {one: v1[one] for one in V1_CONTROLLERS if one in v1})
    return Place(2, {UNIFIED: base}) if v2 else NOWHERE


def base_of(unified: str) -> str:
    """Beside which cgroup sessions' are made: the leaf's parent, once we are in the leaf."""
    return os.path.dirname(unified) if os.path.basename(unified) == LEAF else unified


def look(read: Callable[[str], str] | None = None) -> tuple[Own, frozenset[str], dict[str, str]]:
    """What :func:`decide` wants to know of this process."""
    read = read or _read
    own = own_directories(read("/proc/self/cgroup"), read("/proc/self/mountinfo"))
    base = base_of(own.unified)
    wanted = {own.unified, base, *own.v1.values()} - {""}
    writable = frozenset(path for path in wanted if _may_write(path))
    given = {base: read(f"{base}/cgroup.controllers")} if base else {}
    return own, writable, given


def find() -> Place:
    """Where cgroups could be made, for who only wants to know: nothing is changed.

    For v2 it is what holds when this process were the supervisor and alone in its cgroup.
    """
    own, writable, given = look()
    return works(decide(own, writable, given))


def settle(ask_systemd: Callable[[], bool] | None = None) -> Place:
    """Where they are made; the calling process moves into a leaf where v2 wants that.

    To be called once, before it starts others.  ``ask_systemd`` is tried where v2 has controllers
    and is not ours; it says whether this process is in a scope of its own now.
    Raises nothing: what cannot be had leaves less.
    """
    own, writable, given = look()
    place = decide(own, writable, given)
    if not _is_delegated(place):
        pass
    elif _spread(place, own.unified):
        return works(place)
    else:
        writable -= {own.unified, base_of(own.unified)}  # others live in it: not ours alone
        place = decide(own, writable, given)
    gain = set(given.get(base_of(own.unified), "").split()) & set(CONTROLLERS)
    if gain and ask_systemd is not None and ask_systemd():
        moved, writable_there, given = look()
        there = decide(moved, writable_there, given, scope=True)
        if _is_delegated(there) and _spread(there, moved.unified):
            return works(there)
    return works(place)


def works(place: Place) -> Place:
    """``place``, or nowhere if a cgroup cannot be made and entered there; tried in a child."""
    if not place.version:
        return place
    name = f"{PREFIX}try-{os.getpid()}"
    made = {f"{base.rstrip('/')}/{name}" for base in place.bases.values()}
    try:
        for path in made:
            os.mkdir(path, 0o755)
        pid = os.fork()
        if pid == 0:
            _try_entering(made, "tasks" if place.version == 1 else "cgroup.procs")
        _, status = os.waitpid(pid, 0)
        fine = status == 0
    except OSError:
        fine = False
    finally:
        _remove(made)
    return place if fine else NOWHERE


# -- inside ----------------------------------------------------------------------------------------


def _is_delegated(place: Place) -> bool:
    return place.version == 2 and bool(place.enforces)


def _spread(place: Place, unified: str) -> bool:
    """Give the controllers to those below, from the leaf if need be; undone when refused."""
    base = place.bases[UNIFIED]
    missing = set(place.enforces) - set(_read(f"{base}/cgroup.subtree_control").split())
    if not missing:
        return True
    leaf = f"{base}/{LEAF}"
    # The one at the very top has no type, and may hold processes all the same.
    moves = unified == base and os.path.exists(f"{base}/cgroup.type")
    try:
        if moves:
            with suppress(FileExistsError):
                os.mkdir(leaf, 0o755)
            _write(f"{leaf}/cgroup.procs", str(os.getpid()))
        _write(f"{base}/cgroup.subtree_control", " ".join(f"+{one}" for one in sorted(missing)))
    except OSError:
        if moves:
            with suppress(OSError):
                _write(f"{base}/cgroup.procs", str(os.getpid()))
                os.rmdir(leaf)
        return False
    return True


def _try_entering(paths: Collection[str], name: str) -> None:
    code = 1
    try:
        for path in paths:
            _write(f"{path}/{name}", "0")
        code = 0
    finally:
        os._exit(code)


def _remove(paths: Collection[str]) -> None:
    """A cgroup is busy for a moment after its last process is gone."""
    for path in paths:
        for _ in range(_REMOVE_TRIES):
            try:
                os.rmdir(path)
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(_REMOVE_WAIT)
            else:
                break


def _inside(root: str, point: str, path: str) -> str:
    """Where the cgroup ``path`` is, in a hierarchy of which ``root`` is mounted at ``point``."""
    if not path.startswith("/") or path.startswith("/.."):
        return ""
    if root == "/":
        return point + path.rstrip("/") or point
    if path == root or path.startswith(f"{root}/"):
        return point + path[len(root) :]
    return ""


def _plain(text: str) -> str:
    """Mount points have their spaces and the like written in octal."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def _may_write(path: str) -> bool:
    """Whether cgroups can be made below, and processes moved there."""
    procs = f"{path}/cgroup.procs"
    return os.access(path, os.W_OK | os.X_OK) and os.access(procs, os.W_OK)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)

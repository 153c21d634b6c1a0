"""A descriptor that is readable when a session's cgroup may have hit a limit.

v2 tells by inotify: a poll of the file itself always says readable.  v1 tells of memory by an
eventfd (Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control"), and not at all of
processes (seen on Linux 6.18): its forks fail, and sampling ends it.  ``cgroups.over`` says
whether it is so.
"""

from __future__ import annotations

import os
from contextlib import suppress

from swarm.sandbox import kernel
from swarm.sandbox.cgroups import Group, over


class Alarm:
    """The alarms of one group, as far as this kernel has them."""

    __slots__ = ("_group", "_memory", "_watch", "told")

    def __init__(self, group: Group) -> None:
        self._group = group
        self._watch = self._memory = -1
        self.told = ""
        """Which limit was hit, as of ``cgroups.over``."""
        with suppress(OSError):
            self._watch = _watched(group)
        if not group.unified and group.folder("memory"):
            with suppress(OSError):
                self._memory = _memory_v1(group.folder("memory"))

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to poll for reading, until :meth:`close`."""
        return tuple(fd for fd in (self._watch, self._memory) if fd >= 0)

    def look(self, fd: int = -1) -> str:
        """Which limit was hit; ``fd`` is the one of :attr:`descriptors` that can be read."""
        if fd >= 0:
            with suppress(BlockingIOError):
                os.read(fd, 4096)
        self.told = self.told or over(self._group, alarmed=fd >= 0 and fd == self._memory)
        return self.told

    def close(self) -> None:
        """No more is heard."""
        for fd in self.descriptors:
            os.close(fd)
        self._watch = self._memory = -1


def _watched(group: Group) -> int:
    names = [f"{group.path}/{one}.events" for one in ("memory", "pids") if group.folder(one)]
    if not group.unified or not names:
        raise FileNotFoundError("nothing to watch")
    fd = kernel.inotify()
    try:
        for name in names:
            kernel.inotify_modified(fd, name)
    except OSError:
        os.close(fd)
        raise
    return fd


def _memory_v1(folder: str) -> int:
    alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        control = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            asks = os.open(f"{folder}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(asks, f"{alarm} {control}".encode())
            finally:
                os.close(asks)
        finally:
            os.close(control)
    except OSError:
        os.close(alarm)
        raise
    return alarm

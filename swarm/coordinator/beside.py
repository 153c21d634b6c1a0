"""What works beside the deciding: the inbox that takes tasks in, and the notices that tell people.

Both live in the coordinator's process, and neither may hold it up or bring it down.
"""

from __future__ import annotations

import asyncio

from swarm.config.places import Places
from swarm.coordinator import messages as m
from swarm.coordinator.notices import Notices
from swarm.coordinator.shell import Coordinator
from swarm.core.model import NoticeKind
from swarm.inbox.shell import Inbox, Ports
from swarm.ledger.interface import Ledger
from swarm.logs import JsonLog
from swarm.wire import lifeline


class Beside:
    """The inbox and the notices of one coordinator."""

    def __init__(
        self, coordinator: Coordinator, ledger: Ledger, places: Places, log: JsonLog
    ) -> None:
        landing = coordinator.books.landing
        self._notices = Notices(
            ledger,
            places.home,
            lambda task: landing.way(task).review,
            log,
            trouble=coordinator.trouble,
        )
        ports = Ports(
            trouble=lambda text: coordinator.trouble("inbox", text),
            added=lambda: coordinator.put(m.Poked()),
            refused=lambda text: self._notices.tell(NoticeKind.NEEDS_HUMAN, text),
            log=log,
        )
        self._inbox = Inbox(places, ledger, ports)
        coordinator.turned = self._notices.look
        coordinator.troubled = self._troubled

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Work from now on, until the group ends."""
        self._inbox.place_left()
        group.create_task(self._inbox.run())
        group.create_task(self._notices.run())

    def heard(self, said: lifeline.ParentLine) -> None:
        """Take what is ours from what the supervisor says; the coordinator was told before."""
        match said:
            case lifeline.Rules(notify=notify, inbox=inbox):
                self._notices.use(notify)
                self._inbox.use(inbox)
            case lifeline.Notice(kind=kind, text=text, agent=agent):
                self._notices.tell(kind, text, agent)
            case _:
                pass

    def _troubled(self, about: str, text: str) -> None:
        """Landed work that cannot be published is somebody's to mend."""
        if text and about.startswith("publish"):
            self._notices.tell(NoticeKind.PUBLISH, text)

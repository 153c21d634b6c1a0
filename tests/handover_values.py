"""What a supervisor hands over, with something of everything in it."""

from __future__ import annotations

from pathlib import Path

from fleet_plays import A

from swarm.config.places import Places
from swarm.core import fleet_events as e
from swarm.core.fleet import Fleet
from swarm.core.model import Outcome, Usage
from swarm.supervisor import channel, children, console, control, handover
from swarm.supervisor.configuration import Configuration, Overrides
from swarm.supervisor.specs import Specs
from swarm.wire import lifeline


def a_document(home: Path, lifeline_fd: int = 8, client_fd: int = 9) -> handover.Document:
    """A document of a fleet that has a past; its environment holds a secret."""
    places = Places(home)
    places.config.write_text("version: 1\nlimits: {max_active: 3}\nchat: {listen: '127.0.0.1:0'}\n")
    configuration = Configuration.read(places, None, Overrides())
    specs = Specs(places, "h0me", configuration, {"SECRET": "s3cret"}, "c" * 16, "o" * 16)
    specs.chat_url, specs.workspaces[A] = "ws://127.0.0.1:1", str(home / "w")
    fleet = Fleet(
        configuration.fleet(),
        services=("chat", "coordinator"),
        wanted={"builder": 1},
        coordinator_id="c" * 16,
        epoch=5.0,
        reports=[(A, lifeline.Finished("t-1", 2, Outcome.SUCCEEDED, usage=Usage(1, None)))],
    )
    fleet.handle(e.Up(), 10.0)
    work = lifeline.Work(task="t-9", attempt=1, prompt="p", role="builder")
    fleet.handle(e.WorkAssigned(A, 1, work), 11.0)
    heard = channel.Heard(b"\xffpart", b"out", greeted=True)
    return handover.Document(
        started_at=1.5,
        token="t0ken",
        specs=handover.copied(specs),
        fleet=handover.attributes_of(fleet),
        timers=fleet.timers.all(),
        children=(children.Left("chat", 7, lifeline_fd, heard),),
        callers=(control.Held(client_fd, unsent=b"x", asked=True),),
        replies={4: client_fd},
        last_reply=4,
        console=console.Heard(quiet=True, expected=1, lines=("a",)),
        listening=10,
        lock=11,
        stderr=12,
    )

"""``agentctl task export``: a task's whole story as a folder."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from swarm.cli.arguments import TaskName
from swarm.cli.control import here
from swarm.cli.hubs import git, hub_of, work_ref
from swarm.cli.lock import is_locked
from swarm.cli.screen import say
from swarm.cli.task_diff import read_diff, root_of
from swarm.cli.tasks import opened, role_budget
from swarm.config.places import Places
from swarm.errors import GitError, SwarmError, UsageError
from swarm.ledger import Ledger, Task, show_json
from swarm.ledger.records import Event, Remark
from swarm.ledger.shown import rfc3339

EVENTS_AT_ONCE = 1000


@click.command("export")
@click.argument("task_id", type=TaskName(), metavar="ID")
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
def export(task_id: str, folder: Path | None) -> None:
    """A task's whole story as a new folder DIR (./ID): all that is known of it, and its work.

    It holds task.json, prompt.md, remarks.md, events.jsonl, attempts/N/ with prompt, log and
    outcome of each; work.patch and work.bundle where there are commits ('git fetch work.bundle
    BRANCH' takes them into a repository that has the base); input/ and results/ where there are
    such.  Logs and prompts hold whatever a session was told and said: look before you pass it on.
    """
    places = here()
    with opened(places) as ledger:
        task = ledger.find(task_id)
        place = Path(os.path.abspath(folder if folder is not None else Path(task.id)))
        written = whole(place, lambda part: _write(places, ledger, task, part))
    say(str(written))


def whole(place: Path, fill: Callable[[Path], None]) -> Path:
    """``place`` made by ``fill`` under another name first: it is there whole, or not at all.

    Raises :class:`~swarm.errors.UsageError` when something is there already,
    :class:`~swarm.errors.SwarmError` when it cannot be written.
    """
    if os.path.lexists(place):
        raise UsageError(f"{place} is there already", "name another folder")
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        part.mkdir(mode=0o700)
        fill(part)
        place.mkdir(mode=0o700)  # whoever was quicker keeps what is his
        part.rename(place)
    except FileExistsError:
        raise UsageError(f"{place} is there already", "name another folder") from None
    except OSError as error:
        raise SwarmError(
            f"{place} cannot be written: {error.strerror or error}", "name another folder"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place


def _write(places: Places, ledger: Ledger, task: Task, folder: Path) -> None:
    limit = role_budget(places, task.role)
    shown = show_json(ledger, task.id, places.session_log, live=is_locked(places), limit=limit)
    _text(folder / "task.json", json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
    _text(folder / "prompt.md", ledger.prompt(task.id))
    _text(folder / "remarks.md", remarks_text(task, ledger.remarks(task.id)))
    with (folder / "events.jsonl").open("w", encoding="utf-8", errors="replace") as file:
        for event in _events(ledger, task.id):
            file.write(json.dumps(_event(event), ensure_ascii=False) + "\n")
    for attempt in shown["attempts"]:
        _attempt(places, task, attempt, folder / "attempts" / str(attempt["n"]))
    if task.commits:
        _work(places, task, folder)
    if task.folder:
        for name in ("input", "results"):
            if os.path.isdir(source := os.path.join(task.folder, name)):
                shutil.copytree(source, folder / name, symlinks=True, ignore=_odd)


def _attempt(places: Places, task: Task, attempt: dict[str, Any], folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True)
    _text(folder / "attempt.json", json.dumps(attempt, indent=2, ensure_ascii=False) + "\n")
    kept = {
        "prompt.md": places.session_prompt(task.id, attempt["n"]),
        "log.jsonl": places.session_log(task.id, attempt["n"]),
    }
    for name, source in kept.items():
        if source.is_file():  # one that was cleaned up is missing, and task.json says where it was
            shutil.copyfile(source, folder / name)


def _work(places: Places, task: Task, folder: Path) -> None:
    """What is in no hub any more is missing; the story goes on without it."""
    hub = hub_of(places, task)
    if hub is None or task.branch is None:
        return
    (folder / "work.patch").write_bytes(read_diff(places, task, "--patch", "--binary"))
    base = root_of(hub, task)
    wanted = [work_ref(hub, task) or task.branch, *([f"^{base}"] if base is not None else [])]
    done = git(hub, "bundle", "create", "-q", str(folder / "work.bundle"), *wanted)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        raise GitError(f"git bundle in {hub}: {said}", "is the hub damaged? git fsck tells")


def remarks_text(task: Task, remarks: list[Remark]) -> str:
    """All that was said about a task's work, oldest first, for reading."""
    parts = [f"# {task.id}: {task.title}\n"]
    for one in remarks:
        by = f" by {one.author}" if one.author else ""
        about = f" about {one.commit[:12]}" if one.commit else ""
        verdict = f": {one.verdict}" if one.verdict else ""
        counted = ", ".join(f"{number} {name}" for name, number in one.counts.items() if number)
        parts.append(f"## {one.kind}{by}{about}{verdict}, {rfc3339(one.at)}\n")
        parts += [f"{text}\n" for text in (counted, one.text) if text]
    return "\n".join(parts if remarks else [*parts, "Nothing was said about it.\n"])


def _events(ledger: Ledger, task: str) -> Iterator[Event]:
    after = 0
    while found := ledger.events(after, task, EVENTS_AT_ONCE):
        yield from found
        after = found[-1].seq


def _event(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "at": rfc3339(event.at),
        "kind": event.kind,
        "agent": event.agent or None,
        "fence": event.fence,
        "detail": event.detail or None,
    }


def _odd(folder: str, names: list[str]) -> list[str]:
    """What is neither file, folder nor link: a copy of a pipe would wait for ever."""
    plain = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)
    modes = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}
    return [name for name, mode in modes.items() if not any(kind(mode) for kind in plain)]


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace")

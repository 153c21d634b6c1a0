"""Reading what has landed: the hub's target and its references, the ledger's moves, the inbox."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from swarm.cli.demonstration.stage import Stage
from swarm.cli.hubs import git
from swarm.cli.storm.evidence import files_of
from swarm.cli.storm.invariants import Violation
from swarm.cli.storm.landed import Arrived, Moved, Step, Target, judge_taken
from swarm.cli.storm.notes import Notes
from swarm.cli.storm.stage import CHECK, PUBLISHED, TARGET
from swarm.cli.storm.work import SHARED, Piece
from swarm.core.model import Outcome, RemarkKind
from swarm.errors import GitError
from swarm.ledger import Event, Ledger
from swarm.ledger.records import NEEDS_REVISION, Remark
from swarm.spawner.refs import all_refs, find_gitdir, read_ref

DROPS = "drops become one task each"
_TASK = re.compile(r"^Task: (\S+)$", re.MULTILINE)
_NOTE = re.compile(r"refs/agentctl/landed/(?P<task>[^/]+)/(?P<commit>[0-9a-f]{40})\Z")
_ENDS = frozenset({"done", "merged", "failed", "cancelled", "skipped"})
"""Events that end a task; one that is retried has several."""
_BETWEEN = frozenset({"review", "landing", "needs_human", "sent_back", "claimed", "requeued"})
"""Events that say where a task is."""


def tips_now(stage: Stage, hub: Path | None) -> tuple[str | None, str | None]:
    """The hub's target, and what is published of it; from files.  Raises :class:`GitError`."""
    here = read_ref(str(hub), f"refs/heads/{TARGET}") if hub is not None else None
    gitdir = find_gitdir(str(stage.repository))
    return here, read_ref(gitdir, f"refs/heads/{PUBLISHED}") if gitdir else None


def events_of(ledger: Ledger) -> dict[str, list[Event]]:
    """Every task's events, oldest first."""
    found: dict[str, list[Event]] = defaultdict(list)
    after = 0
    while events := ledger.events(after):
        after = events[-1].seq
        for event in events:
            found[event.task].append(event)
    return found


def moved(ledger: Ledger, pieces: Mapping[str, Piece], hub: Path | None) -> list[Moved]:
    """Every task of the storm, as far as landing goes."""
    notes = landed_notes(hub)
    events = events_of(ledger)
    found = []
    for one, piece in pieces.items():
        task = ledger.task(one)
        if task is None:
            continue
        good = {a.tip for a in ledger.attempts(one) if a.outcome is Outcome.SUCCEEDED and a.tip}
        found.append(
            Moved(
                id=one,
                piece=piece,
                state=task.state,
                result=task.result,
                tip=task.tip,
                landed=task.landed,
                good=frozenset(good),
                approved=frozenset(_approved(ledger.remarks(one))),
                notes=notes.get(one, {}),
                cancelled=_cancelled_before(events.get(one, [])),
            )
        )
    return found


def _approved(remarks: Iterable[Remark]) -> set[str]:
    kinds = (RemarkKind.REVIEW, RemarkKind.APPROVAL)
    return {
        r.commit for r in remarks if r.kind in kinds and r.verdict != NEEDS_REVISION and r.commit
    }


def _cancelled_before(events: Sequence[Event]) -> bool:
    """Whether it was cancelled when it was not landing, and has not been retried since."""
    where, found = "", False
    for event in events:
        if event.kind == "cancelled":
            found = found or where != "landing"
        elif event.kind == "retried":
            where, found = "", False
        elif event.kind in _BETWEEN:
            where = event.kind
    return found


def landed_notes(hub: Path | None) -> dict[str, dict[str, str]]:
    """``refs/agentctl/landed``: by task, commit → what it landed as, or was to."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for ref, landed in (all_refs(str(hub)) if hub is not None else {}).items():
        if match := _NOTE.match(ref):
            found[match["task"]][match["commit"]] = landed
    return found


# -- the target -----------------------------------------------------------------------------------


def target_of(
    stage: Stage, hub: Path | None, pieces: Iterable[Piece], *, cleaned: bool = False
) -> Target:
    """The target after the last stop, each commit of its own line put to the check."""
    if hub is None or read_ref(str(hub), f"refs/heads/{TARGET}") is None:
        return Target((), {}, {}, ())
    ref = f"refs/heads/{TARGET}"
    wanted = [(ref, path) for piece in pieces for path, _ in piece.files]
    held = files_of(hub, [*wanted, (ref, SHARED)])
    line = _lines(hub, "rev-list", "--first-parent", "--reverse", TARGET)
    return Target(
        commits=frozenset(_lines(hub, "rev-list", TARGET)),
        arrived=_arrived(hub),
        files={path: content for (_, path), content in held.items()},
        lines=frozenset((held[ref, SHARED] or "").splitlines()),
        cleaned=cleaned,
        refused=_refused(stage, hub, line),
    )


def _arrived(hub: Path) -> dict[str, list[Arrived]]:
    """The commits of the target's own line that name a task, with what they change."""
    words = ("log", "--first-parent", "-m", "-z", "--name-only", "--format=%x01%H %ct%n%B%x02")
    found: dict[str, list[Arrived]] = defaultdict(list)
    for record in _out(hub, *words, TARGET).split("\x01")[1:]:
        head, _, names = record.partition("\x02")
        first, _, message = head.partition("\n")
        commit, at = first.split()
        paths = frozenset(name.strip("\n") for name in names.split("\0")) - {""}
        for task in dict.fromkeys(_TASK.findall(message)):
            found[task].append(Arrived(commit, float(at), paths))
    return found


def _refused(stage: Stage, hub: Path, commits: Sequence[str]) -> dict[str, str]:
    """Which of these the check refuses, each in the same checkout after the other."""
    where = stage.root / "checkout"
    shutil.rmtree(where, ignore_errors=True)
    made = git(hub, "clone", "-q", "--shared", "--no-checkout", str(hub), str(where))
    if made.returncode != 0:
        raise GitError(made.stderr.decode(errors="replace"), "")
    found = {}
    for commit in commits:
        words = ("git", "-C", str(where), "-c", "advice.detachedHead=false", "checkout", "-q")
        subprocess.run((*words, commit), check=True, timeout=60, env=stage.environment())
        said = subprocess.run(
            CHECK.split(), cwd=where, capture_output=True, timeout=60, check=False
        )
        if said.returncode != 0:
            found[commit] = said.stdout.decode(errors="replace").strip()[:300]
    shutil.rmtree(where)
    return found


def _lines(hub: Path, *words: str) -> list[str]:
    return _out(hub, *words).split()


def _out(hub: Path, *words: str) -> str:
    ran = git(hub, *words)
    if ran.returncode != 0:
        raise GitError(f"{hub} cannot be read: {ran.stderr.decode(errors='replace')}", "")
    return ran.stdout.decode(errors="replace")


# -- plans and drops ------------------------------------------------------------------------------


def plan_steps(ledger: Ledger, notes: Notes) -> list[tuple[str, list[Step], bool]]:
    """Every plan's tasks at their end, and whether the ledger calls it over."""
    found = []
    over = {plan.id: plan.ended_at is not None for plan in ledger.plans(limit=1_000_000)}
    for plan in notes.plans:
        steps = []
        for one in plan.planned:
            task = ledger.task(plan.tasks.get(one.key, ""))
            if task is not None:
                starts = [a.started_at for a in ledger.attempts(task.id) if a.started_at]
                began = min(starts, default=None)
                way = (one.after, one.on_failed)
                ends = (e.at for e in ledger.events(task=task.id) if e.kind in _ENDS)
                ended = min(ends, default=task.ended_at)
                steps.append(Step(task.id, one.key, *way, task.state, began, ended))
        found.append((plan.name, steps, over.get(plan.id, False)))
    return found


def find_dropped(stage: Stage, ledger: Ledger, notes: Notes) -> list[Violation]:
    """Which task each drop became; they are pieces from then on.

    By what they ask for, as no two ask for the same and their folders may be gone.
    """
    names = {piece.prompt.strip(): name for name, piece in notes.drops.items()}
    found: dict[str, list[str]] = defaultdict(list)
    for task in ledger.tasks(limit=1_000_000):
        if task.folder and (name := names.get(ledger.prompt(task.id).strip())) is not None:
            found[name].append(task.id)
    wrong = [
        Violation(DROPS, f"{name} has become {len(found.get(name, ()))} tasks: {found.get(name)}")
        for name in notes.drops
        if len(found.get(name, ())) != 1
    ]
    for name in found.keys() & notes.drops.keys():
        notes.pieces.update(dict.fromkeys(found[name], notes.drops[name]))
    places = stage.places
    for folder in (places.inbox, places.inbox / ".taken", places.inbox / ".quarantine",
                   places.tasks / ".incoming"):  # fmt: skip
        left = [p.name for p in folder.glob("*") if p.name[:1] != "."] if folder.is_dir() else []
        wrong += [Violation(DROPS, f"{folder.name}/{name} is left") for name in left]
    return wrong


def find_taken(ledger: Ledger, notes: Notes) -> list[Violation]:
    """Whether each task that was handed in by HTTP is in the ledger as often as was said.

    What the storm has heard no answer about may be there, once; it is a piece from then on.
    """
    asked = {*notes.accepted, *(one.prompt for one in notes.unanswered)}
    found: dict[str, list[str]] = defaultdict(list)
    for task in ledger.tasks(limit=1_000_000):
        if not task.folder and task.plan is None and (prompt := ledger.prompt(task.id)) in asked:
            found[prompt].append(task.id)
    for one in notes.unanswered:
        notes.pieces.update(dict.fromkeys(found[one.prompt][:1], one))
    return judge_taken(notes.accepted, [one.prompt for one in notes.unanswered], found)

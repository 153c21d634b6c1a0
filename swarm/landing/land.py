"""One landing, from the job to its verdict: merge, check, move the target, publish.

Whatever moment it is killed at, the target is as it was or has all of it, and the same job asked
again lands once: what has landed is noted under ``refs/agentctl/landed/<task>/<commit>`` before
the target moves, and counts once the target holds it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, MutableMapping

from swarm.core.model import Merge, RemarkKind
from swarm.errors import GitError, SwarmError
from swarm.landing.checks import Failed, NotRun, plain, run_checks
from swarm.landing.merging import Nothing, merge_job
from swarm.landing.model import Job, Landed, NotLanded, SentBack, Verdict
from swarm.landing.publishing import publish
from swarm.spawner.git import commit_id, is_commit_id, is_safe_ref, safe_ref
from swarm.spawner.hub import branch_tip, has_moved, is_url, refresh
from swarm.spawner.merger import Conflict, is_ancestor, open_merger, take_in
from swarm.spawner.moving import move
from swarm.spawner.refs import read_ref
from swarm.spawner.workbench import work_folder

FOLDER = "landing"
"""Name of the work folder in the hub."""
FRESH_SECONDS = 30.0
"""How long a fetch of a source that cannot be looked at (an address) is good for."""
MOST_FILES = 50
"""Files in conflict that are named."""
_WAIT_SECONDS = 30.0
_TRIES = 8
"""Each is a whole merge and check; somebody else has moved the target that often."""


def land(
    job: Job,
    home_id: str,
    fetched: MutableMapping[str, float],
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """Land it, or say why not; blocks as long as the checks take.  Raises nothing expected.

    ``fetched`` remembers when each source was fetched last, in seconds of ``clock``.  The calling
    process must be single-threaded.
    """
    try:
        wrong = _what_is_wrong(job)
        if wrong:
            return NotLanded(wrong, retry=False)
        with work_folder(job.hub, FOLDER, _WAIT_SECONDS) as folder:
            note = _follow_source(job, fetched, clock)
            for number in range(_TRIES):
                verdict = _try(job, os.path.join(folder, str(number)), home_id, note)
                if verdict is not None:
                    return verdict
    except SwarmError as error:
        return NotLanded(str(error))
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        return NotLanded(f"{what}{error.strerror or error}")
    return NotLanded(f"{job.target} was moved by somebody else {_TRIES} times")


def publish_target(hub: str, source: str | None, target: str, branch: str) -> Landed | NotLanded:
    """Only publish what is on the target."""
    try:
        tip = branch_tip(hub, safe_ref(target))
    except GitError as error:
        return NotLanded(str(error))
    if tip is None:
        return NotLanded(f"{hub} has no branch {target}", retry=False)
    came = publish(hub, source, target, branch)
    return Landed(tip, merged=False, published=came.branch, unpublished=came.why_not)


def landed_ref(task: str, commit: str) -> str:
    """The reference to what ``commit`` of ``task`` has landed as."""
    return safe_ref(f"refs/agentctl/landed/{task}/{commit_id(commit)}")


def _what_is_wrong(job: Job) -> str:
    """Why this can never land; empty when nothing is wrong."""
    if job.merge is Merge.NONE:
        return f"{job.task} is not to be merged"
    for what in (job.target, job.branch, f"x/{job.task}", *((job.publish,) * bool(job.publish))):
        if not is_safe_ref(what):
            return f"{what[:80]!r} cannot be a branch"
    if not is_commit_id(job.commit):
        return f"{job.commit[:80]!r} is no commit id"
    if not os.path.isdir(job.hub):
        return f"there is no hub {job.hub}"
    return ""


def _follow_source(
    job: Job, fetched: MutableMapping[str, float], clock: Callable[[], float]
) -> str:
    """Bring the hub's target up to date; a source that cannot be had stops no landing."""
    source = job.source
    if source is None or not (has_moved(job.hub, source, job.target) or _has_left(job)):
        return ""
    last = fetched.get(source)
    if is_url(source) and last is not None and clock() - last < FRESH_SECONDS:
        return ""
    try:
        return refresh(job.hub, source, job.target).note
    except GitError as error:
        return str(error)
    finally:
        fetched[source] = clock()


def _has_left(job: Job) -> bool:
    """Whether what was fetched could not be followed: that is tried, and told, again."""
    seen = read_ref(job.hub, f"refs/source/heads/{job.target}")
    tip = branch_tip(job.hub, job.target)
    return seen is not None and tip is not None and not is_ancestor(job.hub, seen, tip)


def _try(job: Job, folder: str, home_id: str, note: str) -> Verdict | None:
    """Land it on the tip of now; ``None`` when the target has moved meanwhile."""
    target, branch = f"refs/heads/{job.target}", f"refs/heads/{job.branch}"
    tip = read_ref(job.hub, target)
    if tip is None:
        return NotLanded(f"{job.hub} has no branch {job.target}")
    landed = read_ref(job.hub, landed_ref(job.task, job.commit))
    if landed is not None and is_ancestor(job.hub, landed, tip):
        return _finish(job, note, merged=True)  # before whoever asked could hear of it
    stands = read_ref(job.hub, branch)
    if stands != job.commit:
        now = f"at {stands[:12]}" if stands else "gone"
        return NotLanded(f"{job.branch} is {now}, not at {job.commit[:12]} any more", retry=False)
    os.mkdir(folder, 0o700)
    merger = open_merger(os.path.join(folder, "merger"), job.hub)
    result = merge_job(merger, job, tip)
    if isinstance(result, Conflict):
        return SentBack(RemarkKind.CONFLICT, _conflict_text(job, result), tip)
    if isinstance(result, Nothing):
        return _finish(job, note, merged=False)
    if job.checks:
        checked = run_checks(merger, folder, job, result.commit, tip, home_id)
        if isinstance(checked, Failed):
            return SentBack(RemarkKind.CHECK, checked.text, tip)
        if isinstance(checked, NotRun):
            return NotLanded(checked.reason)
    take_in(merger, result.commit, (tip, job.commit))
    move(job.hub, landed_ref(job.task, job.commit), result.commit, None)
    if move(job.hub, target, result.commit, tip, {branch: job.commit}):
        return _finish(job, note, merged=True)
    return None


def _finish(job: Job, note: str, *, merged: bool) -> Landed:
    """It is on the target: publish it, whatever became of earlier tries to."""
    came = publish(job.hub, job.source, job.target, job.publish)
    tip = branch_tip(job.hub, job.target) or job.commit
    return Landed(tip, merged, came.branch, came.why_not, note)


def _conflict_text(job: Job, conflict: Conflict) -> str:
    if not conflict.files:
        said = "; ".join(conflict.said) or "they do not merge"
        return f"The branch cannot be merged into {job.target}: {plain(said)}."
    names = "\n".join(f"- {plain(name)[:300]}" for name in conflict.files[:MOST_FILES])
    more = len(conflict.files) - MOST_FILES
    rest = f"\n- and {more} more" if more > 0 else ""
    said = "\n".join(plain(line)[:300] for line in conflict.said[:MOST_FILES])
    return f"{job.target} has changed the same in:\n{names}{rest}\n\n{said}".strip()

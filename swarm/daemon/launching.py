"""From a job to a running tree: prompt, adapter, environment, sandbox, and the launch itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from swarm.daemon import memory
from swarm.daemon.session import UNLIMITED, RawLog, Session, keep_prompt
from swarm.daemon.state import Job
from swarm.errors import WorkspaceError
from swarm.sandbox import kernel, oom
from swarm.sandbox.cgroups import Limits
from swarm.sandbox.environment import prepare_state, session_environment
from swarm.sandbox.grants import session_rules
from swarm.sandbox.landlock import MINIMUM_ABI, NETWORK_ABI, LandlockRules
from swarm.sandbox.launch import Command, Confinement
from swarm.sandbox.limited import Place, launch_limited
from swarm.sandbox.trees import marker
from swarm.sessions.model import Launch, LaunchRequest
from swarm.sessions.prompt import ANSWER_FILES, QUESTION_FILE, Assignment, compose
from swarm.sessions.registry import adapter
from swarm.spawner.author import git_identity
from swarm.spawner.clone import (
    borrowed_paths,
    checkout_prelude,
    freshen,
    is_in_use,
    step_off,
    take_branch,
)
from swarm.spawner.context import begin_task
from swarm.spawner.git import is_safe_ref
from swarm.spawner.refs import read_ref
from swarm.spawner.results import forget_files
from swarm.spawner.workspace import Workspace, prepare_task
from swarm.wire.lifeline import RepoWork, Tuning, Work
from swarm.wire.spawn import DaemonSpec


@dataclass(frozen=True, slots=True)
class Means:
    """What this daemon runs sessions with."""

    spec: DaemonSpec
    workspace: Workspace
    sandboxed: bool
    """A file-system sandbox will be in force."""

    @property
    def any_port(self) -> bool:
        """Whether sessions reach ports that the role does not list, as this kernel knows none."""
        return self.spec.network is not None and kernel.landlock_abi() < NETWORK_ABI

    @property
    def refuses(self) -> str:
        """Why no session may run at all: the role requires a sandbox the kernel has not."""
        if self.spec.sandbox != "required":
            return ""
        if not self.sandboxed:
            return f"role {self.spec.role} requires a sandbox, and this kernel has no Landlock"
        if self.any_port:
            return (
                f"role {self.spec.role} requires a sandbox with a network list, and this kernel's "
                f"Landlock knows no ports (it needs ABI {NETWORK_ABI}: Linux 6.7)"
            )
        return ""

    @property
    def bypass(self) -> bool:
        """Whether the CLI's own permission prompts are off (rules, "The sandbox")."""
        return self.spec.bypass_permissions and self.sandboxed

    @property
    def trouble(self) -> str:
        """What a person should know about it; empty when all is as the role wants it."""
        if self.refuses:
            return self.refuses
        if self.spec.bypass_permissions and not self.sandboxed:
            return "no sandbox in force: the CLI's permission prompts stay on"
        if self.any_port or (self.spec.network is not None and not self.sandboxed):
            return "the role's network list is not in force: sessions reach any port"
        return ""


def can_confine(spec: DaemonSpec) -> bool:
    """Whether sessions of ``spec`` get a file-system sandbox: the role wants it, the kernel can."""
    return spec.sandbox != "off" and kernel.landlock_abi() >= MINIMUM_ABI


def limits_of(tuning: Tuning) -> Limits:
    """What the next session's cgroup keeps, as the supervisor told it last."""
    return Limits(tuning.memory_mb, tuning.max_processes, tuning.cpu_percent)


def start(means: Means, job: Job, limits: Limits = UNLIMITED) -> Session:
    """Launch the session of ``job``; its raw output goes to ``logs/sessions/`` of the home.

    ``limits`` are kept by a cgroup where there can be one; what cannot is for sampling to keep.
    Raises :class:`~swarm.errors.SwarmError` when it cannot be started at all, ``OSError`` when the
    disk will not take what it needs.
    """
    spec, workspace, work = means.spec, means.workspace, job.work
    out = prepare_task(workspace, "probe" if job.probe else work.task)
    where = out if job.probe else workspace.repo
    repo = work.repo
    context = ""
    if not job.probe:
        current = memory.Current(work.task, job.fence, work.title, repo, work.attempt, work.folder)
        memory.save_current(workspace, current)
        context = begin_task(workspace, work)
        if work.resume_session is None or work.feedback:  # else it goes on with what it left
            forget_files(out, (QUESTION_FILE, *ANSWER_FILES.values()))
    if repo is None:
        os.makedirs(where, mode=0o700, exist_ok=True)
    cli = adapter(spec.runtime.adapter)
    request = _request(means, job, out, context)
    if job.probe:
        request = replace(request, prompt=work.prompt, workspace=where)
    else:
        keep_prompt(f"{_record(spec, work)}.prompt.md", request.prompt)
    how = cli.launch(request)
    prepare_state(workspace.state, how.directories, how.files, how.links)
    env = _environment(spec, workspace, work, how, out)
    rules = _rules(means, work, how, out, env, where) if means.sandboxed else None
    confinement = Confinement(
        landlock=rules,
        marker=marker(spec.home_id, work.task, job.fence),
        tmp=workspace.tmp,
        oom_score=oom.SESSION,
    )
    prelude: tuple[Command, ...] = ()
    if repo is not None and job.merged is None:
        if is_in_use(workspace):
            raise WorkspaceError(f"{workspace.repo} holds work that could not be saved")
        freshen(workspace, new_task=True)
        prelude = _prelude(workspace, repo, env)
    if not job.probe:
        memory.mark_used(workspace)
    tree, trouble = launch_limited(
        Command(how.argv, where, env),
        prelude,
        confinement,
        Place(spec.cgroups, work.task, job.fence),
        limits,
    )
    before = memory.used_before(workspace, work.resume_session)
    return Session(
        job,
        tree,
        cli.parser(before),
        tells_result=cli.tells_result,
        log=RawLog(os.devnull if job.probe else f"{_record(spec, work)}.jsonl"),
        limits=limits,
        trouble=trouble,
    )


def _record(spec: DaemonSpec, work: Work) -> str:
    """Path of what is kept of this attempt, without its ending."""
    return f"{spec.home}/logs/sessions/{work.task}.{work.attempt}"


def _prelude(workspace: Workspace, repo: RepoWork, env: Mapping[str, str]) -> tuple[Command, ...]:
    """What git has to do first; each step left out starts the session 5 ms sooner."""
    ref = f"refs/remotes/origin/{repo.target}"
    current = is_safe_ref(ref) and read_ref(f"{workspace.repo}/.git", ref) == repo.base
    rests = current and memory.resting_at(workspace) == repo.start
    if rests and take_branch(workspace.repo, repo.branch, repo.start):
        return ()
    step_off(workspace.repo)
    return checkout_prelude(
        workspace.repo,
        repo.branch,
        repo.start,
        env,
        "" if current else repo.target,
        repo.base,
        clean=not memory.is_clean(workspace),
    )


def _request(means: Means, job: Job, out: str, context: str) -> LaunchRequest:
    spec, workspace, work = means.spec, means.workspace, job.work
    prompt = compose(
        Assignment(
            task_id=work.task,
            prompt=work.prompt,
            agent=spec.name,
            role_prompt=spec.role_prompt,
            workspace=workspace.repo,
            out_dir=out,
            branch=work.repo.branch if work.repo is not None else "",
            component=work.component,
            earlier=work.earlier,
            thread=work.thread,
            context=context,
            resumed=work.resume_session is not None,
            feedback=work.feedback,
            kind=work.kind,
            input_dir=_input(work),
            target=work.repo.target if work.repo is not None else "",
            conflicts=job.merged.conflicts if job.merged is not None else (),
        )
    )
    return LaunchRequest(
        runtime=spec.runtime,
        prompt=prompt,
        prompt_file=os.path.join(workspace.state, "prompt.md"),
        workspace=workspace.repo,
        out_dir=out,
        state_dir=workspace.state,
        task_id=work.task,
        model=spec.model,
        resume_session=work.resume_session,
        bypass_permissions=means.bypass,
        input_dir=_input(work),
        environ=spec.environ,
    )


def _input(work: Work) -> str:
    """What was handed in with the task; empty when there is nothing."""
    place = os.path.join(work.folder, "input") if work.folder else ""
    return place if place and os.path.isdir(place) and not os.path.islink(place) else ""


def _environment(
    spec: DaemonSpec, workspace: Workspace, work: Work, how: Launch, out: str
) -> dict[str, str]:
    extra = dict(how.env)
    if work.repo is not None:
        extra |= git_identity(work.repo.author_name, work.repo.author_email, spec.name)
    return session_environment(
        spec.environ,
        home=workspace.state,
        tmp=workspace.tmp,
        runtime_env=spec.runtime.env,
        pass_env=spec.runtime.pass_env,
        secrets=spec.secrets,
        extra=extra,
        task=work.task,
        out=out,
    )


def _rules(
    means: Means, work: Work, how: Launch, out: str, env: Mapping[str, str], where: str
) -> LandlockRules:
    spec, workspace, repo = means.spec, means.workspace, work.repo
    person = spec.environ.get("HOME", "")
    given = (_input(work),) if _input(work) else ()
    return session_rules(
        repo=where,
        out=out,
        tmp=workspace.tmp,
        state=workspace.state,
        notes=workspace.notes,
        programs=how.argv,
        env=env,
        borrowed=borrowed_paths(repo.hub, repo.clone) if repo is not None else (),
        read=(*how.read_paths, *(_expanded(path, person) for path in spec.read), *given),
        write=(*how.write_paths, *(_expanded(path, person) for path in spec.write)),
        hidden=(spec.home, workspace.path, *((person,) if person else ())),
        ports=spec.network,
    )


def _expanded(path: str, person: str) -> str:
    """``~`` is the person's home, not the session's."""
    if path == "~" or path.startswith("~/"):
        return person + path[1:]
    return path

"""A real daemon process: signed in, promoted, its session run, its work in the hub, its report."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
from daemon_bench import Bench, Channel, channel, daemon, git, start_work
from tests_support import HELD, eventually_async

from swarm.chat.client import ChatClient
from swarm.core.model import Outcome
from swarm.daemon import memory, outbox
from swarm.spawner.identity import Identity
from swarm.spawner.workspace import Workspace
from swarm.wire import lifeline, work
from swarm.wire.agentchat.limits import ServerLimits
from swarm.wire.spawn import RuntimeSpec


async def test_from_assignment_to_a_commit_in_the_hub(place: Bench) -> None:
    async with channel(place) as seat, daemon(place.spec()) as boss:
        hello = await boss.next(lifeline.Hello)
        assert hello.name == "swarm-builder-001"
        job = place.work("write note.txt hello\ncommit a note\nusage 10 5 0.25\nanswer all done")
        agent = await start_work(boss, seat, job)

        started = await boss.next(lifeline.Started)
        assert started.tree_pid
        ended = (await boss.next(lifeline.Ended)).finished
        assert (ended.outcome, ended.commits, ended.fence) == (Outcome.SUCCEEDED, 1, 1)
        assert ended.commit == place.branch()
        assert ended.result == "all done"
        assert ended.usage.input_tokens == 10
        assert ended.cost_usd == 0.25
        assert ended.session_id
        assert git(place.hub, "show", f"{ended.commit}:note.txt") == "hello"
        assert (await seat.next(work.Status)).phase == "started"
        done = await seat.next(work.TaskDone)
        assert (done.commit, done.agentId) == (ended.commit, agent)

        kept = place.workspace / ".agentctl" / "outbox.jsonl"
        assert outbox.read_outbox(kept) == (ended,)
        await seat.settle(ended, agent)
        await eventually_async(lambda: not kept.exists())

        log = place.home / "logs" / "sessions" / "t-1.1.jsonl"
        assert any(json.loads(line)["type"] == "result" for line in log.read_text().splitlines())
        assert "all done" in (place.workspace / "context.md").read_text()
        assert not (place.workspace / ".agentctl" / "current.json").exists()
        spent = await boss.next(lifeline.Spent)
        assert spent.session_id == ended.session_id

        boss.tell(lifeline.Leave(2.0))
        assert await boss.exit() == 0


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


async def test_it_is_warm_once_its_clone_is_made(place: Bench) -> None:
    async with channel(place), daemon(place.spec()) as boss:
        first = await boss.next(lifeline.Idle)
        assert not first.warm
        boss.tell(lifeline.Prepare(place.hub))
        await boss.next(lifeline.Idle, lambda line: line.warm)
        assert (place.workspace / "repo" / ".git").is_dir()


async def test_an_offered_task_is_claimed(place: Bench) -> None:
    async with channel(place) as seat, daemon(place.spec()) as boss:
        ready = await boss.next(lifeline.Ready)
        await boss.next(lifeline.Idle)
        task = work.TaskRef("t-7", component="api", role="builder")
        await seat.say(work.TaskAvailable(task=task, offer=("swarm-builder-001",), idle=1))
        claim = await seat.next(work.Claim)
        assert (claim.agentId, claim.task.id) == (ready.agent_id, "t-7")


async def test_what_it_says_concerns_its_coordinator_and_needs_no_key(place: Bench) -> None:
    """On a server of ours: no other agent is woken, and the key stays on the disk."""
    bystander = Identity.create("swarm-builder-002")
    async with channel(place) as seat, daemon(place.spec()) as boss:
        await boss.next(lifeline.Idle)
        (place.workspace / ".agentchat" / "identities" / "swarm-builder-001.json").unlink()
        async with ChatClient(
            place.chat_url, bystander, "#agents", quiet=True, addressed=True
        ) as other:
            await other.joined()
            heard = Channel(other)
            listening = asyncio.ensure_future(heard.listen())
            task = work.TaskRef("t-7", component="api", role="builder")
            await seat.say(work.TaskAvailable(task=task, offer=("swarm-builder-001",), idle=1))
            await seat.next(work.Claim)
            await seat.say(work.Rejected(agentId="f" * 16, task=task))
            await heard.next(work.Rejected)
            assert not heard.heard(work.Claim)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def test_a_missing_program_is_a_failed_attempt_that_names_it(place: Bench) -> None:
    runtime = RuntimeSpec("claude", "claude", ("no-such-agent-cli",))
    async with channel(place) as seat, daemon(place.spec(runtime=runtime)) as boss:
        await start_work(boss, seat, place.work("anything"))
        ended = (await boss.next(lifeline.Ended)).finished
        assert ended.outcome is Outcome.FAILED
        assert "no-such-agent-cli" in ended.reason
        assert (await seat.next(work.TaskFail)).reason == ended.reason
        assert not boss.heard(lifeline.Started)
        await boss.next(lifeline.Idle)


async def test_a_question_blocks_the_task(place: Bench) -> None:
    async with channel(place) as seat, daemon(place.spec()) as boss:
        await start_work(boss, seat, place.work("ask Which colour?"))
        blocked = await seat.next(work.Blocked)
        assert blocked.needs_human
        assert "Which colour?" in blocked.reason


async def test_a_session_over_its_time_is_ended_and_its_work_kept(place: Bench) -> None:
    async with channel(place) as seat, daemon(place.spec(), tune=False) as boss:
        job = place.work("ignore-term\nwrite half.txt half done\nsetsid 600\nhang")
        await start_work(boss, seat, job)
        started = await boss.next(lifeline.Started)
        await eventually_async((place.workspace / "repo" / "half.txt").exists)
        boss.tell(
            lifeline.Tuning(
                30.0, (place.coordinator.agent_id,), max_task_seconds=0.1, grace_seconds=0.3
            )
        )
        ended = (await boss.next(lifeline.Ended)).finished
        assert ended.outcome is Outcome.TIMED_OUT
        assert ended.exit_status != 0
        assert not alive(started.tree_pid)
        assert ended.commits == 1, "what was not committed is saved on the branch"
        assert git(place.hub, "show", f"{place.branch()}:half.txt") == "half done"


async def test_the_supervisor_cancels(place: Bench) -> None:
    async with channel(place) as seat, daemon(place.spec(heartbeat_seconds=0.2)) as boss:
        await start_work(boss, seat, place.work("hang"))
        await boss.next(lifeline.Started)
        await boss.next(lifeline.Beat, lambda beat: beat.task == "t-1" and beat.fence == 1)
        boss.tell(lifeline.EndSession("t-1", 1, Outcome.CANCELLED, "task cancel", 5.0))
        ended = (await boss.next(lifeline.Ended)).finished
        assert (ended.outcome, ended.reason) == (Outcome.CANCELLED, "task cancel")


async def test_a_cli_that_retries_a_quota_for_ever_is_ended(place: Bench) -> None:
    async with channel(place) as seat, daemon(place.spec()) as boss:
        await start_work(boss, seat, place.work("retrying 429"))
        ended = (await boss.next(lifeline.Ended)).finished
        assert ended.outcome is Outcome.QUOTA


async def test_leaving_queues_the_task_again_and_leaves_nothing(place: Bench) -> None:
    async with channel(place) as seat, daemon(place.spec()) as boss:
        await start_work(boss, seat, place.work("write x.txt x\nignore-term\nfork 3 600\nhang"))
        started = await boss.next(lifeline.Started)
        await eventually_async(lambda: (place.workspace / "repo" / "x.txt").exists())
        boss.tell(lifeline.Leave(0.3))
        ended = (await boss.next(lifeline.Ended)).finished
        assert (ended.outcome, ended.commits) == (Outcome.LOST, 1)
        assert "stopped" in ended.reason
        assert ended.session_id, "so that the next attempt resumes it"
        assert await boss.exit() == 0
        assert not alive(started.tree_pid)
        assert outbox.read_outbox(place.workspace / ".agentctl" / "outbox.jsonl") == (ended,)


async def test_without_its_supervisor_nothing_of_it_is_left(place: Bench) -> None:
    async with channel(place) as seat, daemon(place.spec()) as boss:
        await start_work(boss, seat, place.work("ignore-term\ndaemonize 600\nhang"))
        started = await boss.next(lifeline.Started)
        boss.writer.close()
        assert await boss.exit(within=2.0) == 0
        await eventually_async(lambda: not alive(started.tree_pid), within=2.0)


async def test_a_killed_daemon_takes_its_session_along_and_its_next_life_saves_the_work(
    place: Bench,
) -> None:
    async with channel(place) as seat:
        async with daemon(place.spec()) as boss:
            agent = await start_work(boss, seat, place.work("write x.txt kept\nhang"))
            started = await boss.next(lifeline.Started)
            await eventually_async(lambda: (place.workspace / "repo" / "x.txt").exists())
            boss.process.kill()
            await eventually_async(lambda: not alive(started.tree_pid), within=2.0)
        async with daemon(place.spec()) as boss:
            assert (await boss.next(lifeline.Ready)).agent_id == agent, "it keeps its identity"
            assert (await boss.next(lifeline.Idle)).warm
            assert git(place.hub, "show", f"{place.branch()}:x.txt") == "kept"
            assert "Interrupted" in (place.workspace / "context.md").read_text()
            await seat.assign(agent, "t-1", 1)
            await seat.assign(agent, "t-1", 2)
            promote = await boss.next(lifeline.Promote)
            assert promote.fence == 2, "the fence is remembered over its death"


async def test_a_daemon_killed_before_its_checkout_brings_no_earlier_task_home(
    place: Bench,
) -> None:
    """The clone then still stands where the task before left it: none of it is the new one's."""
    async with channel(place) as seat, daemon(place.spec()) as boss:
        await start_work(boss, seat, place.work("write one.txt x\ncommit one"))
        await boss.next(lifeline.Ended)
        boss.process.kill()
    job = place.work("write two.txt x").repo
    assert job is not None
    nextone = msgspec.structs.replace(job, branch="swarm/swarm-builder-001/t-2")
    workspace = Workspace(str(place.workspace))
    git(place.workspace / "repo", "checkout", "-q", "--detach", place.branch())
    (place.workspace / "repo" / "one.txt").unlink()
    memory.save_current(workspace, memory.Current("t-2", 1, "two", nextone))
    async with channel(place), daemon(place.spec()) as boss:
        await boss.next(lifeline.Idle)
        assert not Path(workspace.current).exists()
    assert "t-2" not in git(place.hub, "for-each-ref")


async def test_an_unsettled_report_is_said_again_by_the_next_life(place: Bench) -> None:
    async with channel(place) as seat:
        async with daemon(place.spec()) as boss:
            await start_work(boss, seat, place.work("answer one"))
            await boss.next(lifeline.Ended)
            await seat.next(work.TaskDone)
            boss.process.kill()
        seat.said.clear()
        async with daemon(place.spec()) as boss:
            await boss.next(lifeline.Idle)
            again = await seat.next(work.TaskDone)
            assert again.result == "one"
            await seat.settle(lifeline.Finished("t-1", 1, Outcome.SUCCEEDED), again.agentId)
            kept = place.workspace / ".agentctl" / "outbox.jsonl"
            await eventually_async(lambda: not kept.exists())


async def test_a_session_works_on_while_the_chat_is_away(place: Bench) -> None:
    async with channel(place) as seat:
        port = int(place.chat_url.rpartition(":")[2])
        boss_spec = place.spec()
        running = daemon(boss_spec)
        boss = await running.__aenter__()
        await start_work(boss, seat, place.work(f"{HELD}\nanswer meanwhile"))
        await boss.next(lifeline.Started)
    try:
        await boss.next(lifeline.ChatState, lambda state: not state.connected)
        (place.workspace / "repo" / "go").touch()
        ended = (await boss.next(lifeline.Ended)).finished
        assert ended.result == "meanwhile"
        async with channel(place, port=port) as seat:
            assert (await seat.next(work.TaskDone)).result == "meanwhile"
    finally:
        await running.__aexit__(None, None, None)


async def test_a_spoiled_clone_is_made_anew(place: Bench) -> None:
    async with channel(place) as seat, daemon(place.spec()) as boss:
        boss.tell(lifeline.Prepare(place.hub))
        await boss.next(lifeline.Idle, lambda line: line.warm)
        for name in ("HEAD", "index"):
            (place.workspace / "repo" / ".git" / name).unlink(missing_ok=True)
        await start_work(boss, seat, place.work("write a.txt a\ncommit a"))
        ended = (await boss.next(lifeline.Ended)).finished
        assert (ended.outcome, ended.commits) == (Outcome.SUCCEEDED, 1), ended.reason


async def test_a_second_task_starts_from_a_clean_tree(place: Bench) -> None:
    async with channel(place) as seat, daemon(place.spec()) as boss:
        agent = await start_work(
            boss, seat, place.work("write .gitignore *.o\ncommit one\nwrite junk.o junk")
        )
        await boss.next(lifeline.Ended)
        second = place.work("run ls -A\nanswer done", task="t-2", attempt=1)
        await seat.assign(agent, "t-2", 1)
        await boss.next(lifeline.Promote, lambda line: line.task == "t-2")
        boss.tell(lifeline.Granted("t-2", 1, second))
        await boss.next(lifeline.Ended, lambda line: line.finished.task == "t-2")
        assert not (place.workspace / "repo" / "junk.o").exists()


async def test_without_a_sandbox_the_prompts_stay_on_and_it_says_so(place: Bench) -> None:
    async with channel(place), daemon(place.spec(sandbox="off")) as boss:
        trouble = await boss.next(lifeline.Trouble)
        assert "prompts stay on" in trouble.text


async def test_a_workspace_of_somebody_else_is_not_touched(place: Bench) -> None:
    place.workspace.mkdir(parents=True)
    (place.workspace / "mine.txt").write_text("mine")
    async with channel(place), daemon(place.spec()) as boss:
        error = (await boss.next(lifeline.CannotStart)).error
        assert "somebody else" in error
        assert await boss.exit() == 1
        assert [path.name for path in place.workspace.iterdir()] == ["mine.txt"]


async def test_a_server_that_takes_a_message_a_second(place: Bench) -> None:
    async with channel(place, limits=ServerLimits()) as seat, daemon(place.spec()) as boss:
        await start_work(boss, seat, place.work("print 50\nanswer slowly"))
        assert (await seat.next(work.TaskDone)).result == "slowly"


async def test_a_foreign_coordinators_task_comes_by_chat(place: Bench) -> None:
    async with channel(place) as seat, daemon(place.spec()) as boss:
        ready = await boss.next(lifeline.Ready)
        await boss.next(lifeline.Idle)
        await seat.assign(ready.agent_id, "x-1", 3, prompt="answer from afar")
        await boss.next(lifeline.Promote)
        boss.tell(lifeline.Granted("x-1", 3))
        ended = (await boss.next(lifeline.Ended)).finished
        assert (ended.result, ended.commit) == ("from afar", None)

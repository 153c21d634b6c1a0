"""What waits for a person is shown; doctor says where the inbox is and which hooks cannot run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cli_fake import STATUS, FakeSupervisor, Ran

from swarm.cli.hook_checks import check_hooks, check_inbox
from swarm.config.places import Places
from swarm.config.settings import Inbox, Notify, Settings
from swarm.core.model import Outcome, Review
from swarm.ledger import Ledger, NewTask, open_ledger
from swarm.ledger.records import Way
from swarm.wire import control
from swarm.wire.lifeline import Finished

Cli = Callable[..., Ran]
COMMIT = "c0ffee" * 6 + "cafe"


def asks(ledger: Ledger, question: str) -> str:
    """A task whose session left a question."""
    task = ledger.submit(NewTask("x"))
    claimed = ledger.claim(task, "swarm-builder-001", "a" * 16, 90)
    assert claimed is not None
    ledger.finish(
        Finished(
            task=task,
            fence=claimed.fence,
            outcome=Outcome.SUCCEEDED,
            needs_human=True,
            reason=question,
        ),
        "swarm-builder-001",
    )
    return task


def waits_for_approval(ledger: Ledger) -> str:
    task = ledger.submit(NewTask("y"))
    claimed = ledger.claim(task, "swarm-builder-001", "a" * 16, 90)
    assert claimed is not None
    finished = Finished(
        task=task, fence=claimed.fence, outcome=Outcome.SUCCEEDED, commits=1, commit=COMMIT
    )
    ledger.finish(finished, "swarm-builder-001", way=Way(review=Review.HUMAN))
    return task


def test_status_lists_questions_and_reviews_with_their_commands(
    supervisor: FakeSupervisor, cli: Cli
) -> None:
    with open_ledger(supervisor.places.ledger) as ledger:
        first = asks(ledger, "Tabs or\nspaces? \x1b[2J")
        second = waits_for_approval(ledger)
        ledger.submit(NewTask("only waits"))
    told = json.loads(cli("swarm", "status", "--json").out)
    assert [(one["task"], one["kind"]) for one in told["attention"]] == [
        (first, "needs_human"),
        (second, "review"),
    ]
    assert "spaces?" in told["attention"][0]["text"]
    assert told["attention"][0]["since"].endswith("Z")
    assert told["attention"][0]["command"] == f"agentctl task answer {first} TEXT"
    assert told["attention"][1]["command"] == f"agentctl task approve {second}"
    assert told["attention_total"] == 2
    page = cli("swarm", "status").out
    assert f"asks    {first} (" in page
    assert "Tabs or spaces?" in page
    assert f"agentctl task answer {first} TEXT" in page
    assert f"commit {COMMIT[:12]} waits for approval" in page
    assert "\x1b" not in page


def test_all_that_is_wrong_with_a_service_is_told(supervisor: FakeSupervisor, cli: Cli) -> None:
    reason = "inbox: 9 drops are in quarantine, see /h/inbox/.quarantine; notify: sh was not told"
    services = [
        {"name": "coordinator", "state": "running", "reason": reason},
        {"name": "chat", "state": "running", "reason": "short"},
    ]
    supervisor.replies[control.Status] = [control.Done(data={**STATUS, "services": services})]
    page = cli("swarm", "status").out
    assert f"warning coordinator: {reason}\n" in page
    assert "warning chat" not in page


def test_many_are_counted(supervisor: FakeSupervisor, cli: Cli) -> None:
    with open_ledger(supervisor.places.ledger) as ledger:
        for number in range(25):
            asks(ledger, f"Question {number}?")
    told = json.loads(cli("swarm", "status", "--json").out)
    assert (len(told["attention"]), told["attention_total"]) == (20, 25)
    page = cli("swarm", "status").out
    assert page.count("asks    ") == 5
    assert "20 more wait for a person: agentctl task list --state needs_human" in page


def test_without_a_ledger_nobody_waits(supervisor: FakeSupervisor, cli: Cli) -> None:
    told = json.loads(cli("swarm", "status", "--json").out)
    assert (told["attention"], told["attention_total"]) == ([], 0)


def test_task_show_names_the_folder(places: Places, cli: Cli) -> None:
    with open_ledger(places.ledger) as ledger:
        task = ledger.submit(NewTask("x", folder="/somewhere/tasks/{id}"))
    assert (
        json.loads(cli("task", "show", task, "--json").out)["folder"] == f"/somewhere/tasks/{task}"
    )
    assert f"folder    /somewhere/tasks/{task}" in cli("task", "show", task).out


def test_doctor_says_where_the_inbox_is(places: Places, tmp_path: Path) -> None:
    found = check_inbox(places, Settings())
    assert (found.level, found.found) == ("ok", f"{places.inbox}; tasks for role builder")
    assert "off" in check_inbox(places, Settings(inbox=Inbox(enabled=False))).found
    (tmp_path / "file").write_text("x")
    assert check_inbox(places, Settings(inbox=Inbox(path=str(tmp_path / "file")))).level == "warn"
    assert "role 'nobody'" in check_inbox(places, Settings(inbox=Inbox(role="nobody"))).found
    (places.inbox / ".quarantine").mkdir(parents=True)
    (places.inbox / ".quarantine" / "20260101T000000-abc").mkdir()
    (places.inbox / ".quarantine" / "20260101T000000-abc.reason").write_text("x")
    assert "1 in quarantine" in check_inbox(places, Settings()).found


def test_doctor_says_which_hooks_cannot_run() -> None:
    rules = (
        Notify(command=("sh", "-c", "true")),
        Notify(command=("no-such-program-at-all",)),
        Notify(on=("*",), webhook="https://example.org/secret"),
    )
    found = list(check_hooks(Settings(notify=rules)))
    assert [one.level for one in found] == ["ok", "warn", "ok"]
    assert "no-such-program-at-all cannot be run" in found[1].found
    assert "secret" not in found[2].found

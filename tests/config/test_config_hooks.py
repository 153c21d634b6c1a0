"""What ``notify`` and ``inbox`` may say."""

from __future__ import annotations

import pytest

from swarm.config.load import parse_settings


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("notify: [{on: [done]}]", "f:1: notify[0]: must have a command or a webhook"),
        ("notify: [{command: [a], webhook: 'http://x/'}]", "notify[0]: must have a command or a"),
        ("notify: [{on: [dune], command: [a]}]", "notify[0].on[0]: must be one of"),
        ("notify: [{on: [], command: [a]}]", "notify[0].on: names no kind"),
        ("notify:\n- {command: []}", "f:2: notify[0].command: must begin with a program"),
        ('notify: [{command: [a, "\\0"]}]', "notify[0].command[1]: no argument can hold a NUL"),
        ("notify: [{webhook: 'file:///etc/passwd'}]", "must begin with http:// or https://"),
        ("notify: [{webhook: 'https:///x'}]", "names no host"),
        ("notify: [{webhook: 'http://h:99999/'}]", "is no address"),
        ("notify: [{command: [a], timeout_seconds: 0}]", "above 0"),
        ("notify: {command: [a]}", "notify: must be a list"),
        ("inbox: {path: drops}", "inbox.path: must be an absolute path"),
        ("inbox: {path: /}", "must be a folder of its own"),
        ("inbox: {path: ~/}", "must be a folder of its own"),
        ("inbox: {role: Big Boss}", "cannot name a role"),
        ("inbox: {component: ../x}", "cannot name a component"),
        ("inbox: {lane: A B}", "cannot name a lane"),
        ("inbox: {settle_seconds: -1}", "inbox.settle_seconds"),
    ],
)
def test_each_mistake_is_named(text: str, problem: str) -> None:
    found = [str(one) for one in parse_settings(text, "f").problems]
    assert len(found) == 1, found
    assert problem in found[0]


def test_good_ones_are_taken() -> None:
    loaded = parse_settings(
        "notify:\n"
        "- {command: [notify-send, agentctl]}\n"
        "- {on: ['*'], webhook: 'https://example.org:8443/hook?key=1', timeout_seconds: 5}\n"
        "inbox: {path: ~/drops, settle_seconds: 0, role: qa, lane: night, review: human}\n"
    )
    settings = loaded.require()
    assert settings.notify[0].command == ("notify-send", "agentctl")
    assert settings.notify[1].on == ("*",)
    assert settings.inbox.settle_seconds == 0

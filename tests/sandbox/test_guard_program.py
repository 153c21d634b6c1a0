"""The guard for processes with threads: nothing runs before somebody is there to end it."""

from __future__ import annotations

import subprocess
import sys

from swarm.sandbox import guard

KILLED_EARLY = """
import os, runpy, signal, sys, time
fork, forks = os.fork, []
def forked():
    if len(forks) == {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    forks.append(1)
    here = os.getpid()
    pid = fork()
    while pid == 0 and {late} and os.getppid() == here:
        time.sleep(0.005)
    return pid
os.fork = forked
sys.argv[1:1] = [str(os.getppid()), "60"]
runpy.run_path({program!r}, run_name="__main__")
"""


def said_by(script: str) -> str:
    """What a program said under a guard of this script, until all of them were gone."""
    words = (sys.executable, "-I", "-S", "-c", script, "/bin/sh", "-c", "echo it ran")
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=60).stdout


def test_one_that_is_killed_before_all_is_in_place_starts_nothing() -> None:
    program = guard._PROGRAM
    for late in (True, False):
        assert not said_by(KILLED_EARLY.format(before=1, late=late, program=program))
    assert said_by(KILLED_EARLY.format(before=9, late=False, program=program)) == "it ran\n"

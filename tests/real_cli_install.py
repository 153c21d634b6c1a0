"""Real agent CLIs from the npm registry, installed once into a cache folder of the project."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache" / "real_cli"
INSTALL_SECONDS = 400
"""They are 230–400 MB each: seconds near a registry, minutes far from it."""


@dataclass(frozen=True)
class Package:
    """One CLI, at the version its adapter was tried with."""

    name: str
    version: str
    program: str


PACKAGES = {
    "claude": Package("@anthropic-ai/claude-code", "2.1.197", "claude"),
    "codex": Package("@openai/codex", "0.169.0", "codex"),
    "opencode": Package("opencode-ai", "1.18.33", "opencode"),
}


QUIET = {
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
}
"""No CLI updates itself or phones home in a test."""


class CannotInstall(Exception):
    """Why the CLI is not to be had on this machine."""


def program(cli: str, cache: Path = CACHE) -> Path:
    """The absolute path of ``cli``'s program, installed if it was not.

    Raises :class:`CannotInstall` without npm, or when npm fails.  Test processes that ask at the
    same time wait for one of them to install.
    """
    package = PACKAGES[cli]
    place = cache / f"{cli}-{package.version}"
    found = place / "node_modules" / ".bin" / package.program
    if found.exists():
        return found
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise CannotInstall("node and npm are not on PATH")
    cache.mkdir(parents=True, exist_ok=True)
    lock = os.open(cache / f"{cli}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            _install(npm, package, place)
    finally:
        os.close(lock)
    if not found.exists():
        raise CannotInstall(f"{package.name} brings no program {package.program}")
    return found


def quiet(cli: str, program: Path) -> dict[str, str]:
    """What a session of ``cli``, installed at ``program``, is to have in its environment.

    opencode's catalogue of every provider's models is left empty, as reading it is a third of
    what a session costs; it lies where a sandboxed session may read.
    """
    if cli != "opencode":
        return QUIET
    models = program.parents[1] / "no-models.json"
    if not models.exists():
        making = models.with_suffix(f".{os.getpid()}")
        making.write_text("{}")
        making.replace(models)
    return {**QUIET, "OPENCODE_MODELS_PATH": str(models)}


def _install(npm: str, package: Package, place: Path) -> None:
    making = place.with_name(f"{place.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    argv = [npm, "install", "--prefix", str(making), "--no-audit", "--no-fund", "--no-save"]
    try:
        done = subprocess.run(
            [*argv, "--no-update-notifier", f"{package.name}@{package.version}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        shutil.rmtree(making, ignore_errors=True)
        raise CannotInstall(f"npm took over {INSTALL_SECONDS} s for {package.name}") from error
    if done.returncode != 0:
        shutil.rmtree(making, ignore_errors=True)
        last = (done.stderr.strip() or "no word").splitlines()[-1]
        raise CannotInstall(f"npm install {package.name} failed: {last[:200]}")
    making.rename(place)

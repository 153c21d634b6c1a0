"""The environment a session is born with: what the role or runtime passes, and nothing else.

Product, "Safety": scrubbed.  Rules, "Fleet commands": proxy, certificate and locale variables
reach it.  And the files of a CLI's own state, laid where a session may have been before.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from swarm.errors import WorkspaceError

PASSED = frozenset(
    {
        "PATH", "LANG", "LANGUAGE", "TZ", "TERM", "COLORTERM", "USER", "LOGNAME", "SHELL",
        "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
        "http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "AWS_CA_BUNDLE",
        "PIP_CERT", "NIX_SSL_CERT_FILE", "CARGO_HTTP_CAINFO",
    }
)  # fmt: skip
"""Variables of the person's environment that every session gets, beside ``LC_*``."""

CERTIFICATES = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "AWS_CA_BUNDLE", "PIP_CERT", "NIX_SSL_CERT_FILE",
    "CARGO_HTTP_CAINFO",
)  # fmt: skip
"""Those whose value is a file or directory that has to be readable."""

TASK = "AGENTCTL_TASK"
"""Variable with the task's id."""
OUT = "AGENTCTL_OUT"
"""Variable with the directory results and questions are left in."""

_GIT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_EDITOR": "true",
    "GIT_SEQUENCE_EDITOR": "true",
    "GIT_PAGER": "cat",
}
"""A session has no terminal: git in it neither asks nor opens an editor."""


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """What of ``environ`` every session gets: path, locale, terminal, proxies, certificates."""
    return {k: v for k, v in environ.items() if k in PASSED or k.startswith("LC_")}


def session_environment(
    environ: Mapping[str, str],
    *,
    home: str,
    tmp: str,
    runtime_env: Mapping[str, str],
    pass_env: Iterable[str],
    secrets: Mapping[str, str],
    extra: Mapping[str, str],
    task: str = "",
    out: str = "",
) -> dict[str, str]:
    """The whole environment of one session; later ones win.

    ``environ`` (scrubbed) < ``HOME``, ``TMPDIR`` and git's manners < ``pass_env`` from ``environ``
    < ``extra`` (the adapter's) < ``runtime_env`` < ``secrets`` < task and results.  ``home`` is the
    agent's own state directory.
    """
    env = scrubbed(environ)
    env.setdefault("PATH", os.defpath)
    env |= _GIT
    env |= {"HOME": home, "TMPDIR": tmp}
    env |= {name: environ[name] for name in pass_env if name in environ}
    env |= extra
    env |= runtime_env
    env |= secrets
    if task:
        env[TASK] = task
    if out:
        env[OUT] = out
    return {k: v for k, v in env.items() if k and "=" not in k and "\0" not in k + v}


def prepare_state(
    root: str,
    directories: Iterable[str] = (),
    files: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> None:
    """Make a CLI's directories (0700), files (0600) and links to the person's logins.

    All lie beneath ``root``, a directory that earlier sessions could write: whatever stands in the
    way is replaced, and no link of theirs is followed.  A link whose target does not exist is left
    out; a login that the CLI has renewed by itself (a newer plain file in the link's place) stays.

    Raises :class:`~swarm.errors.WorkspaceError` for a path outside ``root`` or one that cannot be
    made.
    """
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        for path in directories:
            _folder(root, path)
        for path, text in (files or {}).items():
            _folder(root, os.path.dirname(path))
            _write(path, text)
        for path, target in (links or {}).items():
            _folder(root, os.path.dirname(path))
            _link(path, target)
    except OSError as error:
        raise WorkspaceError(
            f"the agent's state in {root} cannot be made: {error.strerror}",
            "make room, or make the folder writable",
        ) from None


def _folder(root: str, path: str) -> None:
    """``path`` as a real directory, every component below ``root`` made or put right."""
    relative = os.path.relpath(path, root)
    if relative.startswith(".."):
        raise WorkspaceError(f"{path} lies outside of the agent's own {root}")
    here = root
    for name in relative.split("/"):
        here = os.path.normpath(os.path.join(here, name))
        if os.path.islink(here) or (os.path.lexists(here) and not os.path.isdir(here)):
            os.unlink(here)
        if not os.path.isdir(here):
            os.mkdir(here, 0o700)


def _write(path: str, text: str) -> None:
    part = f"{path}.{os.getpid()}.part"
    if os.path.lexists(part):
        os.unlink(part)
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(text.encode("utf-8", "replace"))
    os.replace(part, path)


def _link(path: str, target: str) -> None:
    try:
        theirs = os.stat(target)
    except OSError:
        return
    try:
        ours = os.lstat(path)
    except OSError:
        os.symlink(target, path)
        return
    if os.path.islink(path):
        if os.readlink(path) == target:
            return
    elif ours.st_mtime > theirs.st_mtime:
        return  # the CLI refreshed its token here, the person has not logged in since
    if os.path.isdir(path) and not os.path.islink(path):
        return  # a directory of its own is no login
    os.unlink(path)
    os.symlink(target, path)

"""Writing a file whole, and removing a folder that a session may have filled.

Instead of ``shutil.rmtree``: ``shutil`` brings compression libraries into every daemon.
"""

from __future__ import annotations

import os
import stat

_LONG = 2000
"""A path longer than this is moved up before it is emptied: PATH_MAX is 4,096."""


def write_whole(path: str, text: str, mode: int = 0o600) -> None:
    """Replace ``path`` by a file with ``text``, so that a reader sees the old or the new one.

    Raises ``OSError``, as on a full disk; then nothing of it is left.
    """
    part = f"{path}.{os.getpid()}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(fd, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        os.replace(part, path)
    except OSError:
        os.unlink(part)
        raise


def remove_tree(path: str) -> None:
    """Remove ``path`` and all below it; links are removed, never followed.

    Folders without permission are opened up first, and no depth is too deep.  A path that is not
    there is fine.  Raises ``OSError`` for what cannot be removed.
    """
    if not os.path.lexists(path):
        return
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    folders = [path]
    moved = 0
    for folder in folders:  # grows while it is walked
        os.chmod(folder, stat.S_IRWXU, follow_symlinks=True)
        with os.scandir(folder) as entries:
            listed = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry, is_dir in listed:
            if not is_dir:
                os.unlink(entry)
            elif len(entry) > _LONG:
                moved += 1
                higher = os.path.join(path, f".deep-{moved}")
                os.chmod(entry, stat.S_IRWXU)  # a folder's own write bit decides on its moving
                os.rename(entry, higher)
                folders.append(higher)
            else:
                folders.append(entry)
    for folder in reversed(folders):
        os.rmdir(folder)

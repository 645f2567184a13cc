"""Stoker's home folder, which only its user can access."""

import os
import stat
from contextlib import suppress
from pathlib import Path

__all__ = ["protect_home"]


def protect_home(home: Path) -> None:
    """Create the folder for this user only, or take the access of other users away.

    Afterwards this process and its children create files and folders that only this user can access. A folder
    that is not Stoker's alone keeps its mode: a folder of another user, a mount point, a folder with the
    sticky bit such as `/tmp`, and the user's own home.
    """
    os.umask(0o077)
    with suppress(OSError):  # a process that needs the folder reports the error when it uses it
        home.mkdir(parents=True, exist_ok=True)
        found = home.stat()
        shared = found.st_mode & stat.S_ISVTX or home.is_mount() or str(home) == os.path.expanduser("~")
        if found.st_mode & 0o077 and found.st_uid == os.geteuid() and not shared:
            home.chmod(0o700)

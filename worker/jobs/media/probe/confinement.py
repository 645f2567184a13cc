"""Confinement of the processes that parse clients' files: no secrets, little memory, and few files.

The kernel's Landlock (`man 7 landlock`) confines a process to some files. The numbers are those of
`linux/landlock.h` and `linux/prctl.h`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["bare_environment", "confine", "landlock_version", "limit_resources"]

#: System calls. They have the same numbers on all architectures.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
GET_VERSION, PATH_BENEATH, SET_NO_NEW_PRIVS = 1, 1, 38
READ_FILE, READ_DIR = 1 << 2, 1 << 3
#: The number of rights about files, of rights about TCP, and of scopes, from the version on that is the key.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
TCP_RIGHTS = {4: 2}
SCOPES = {6: 2}


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("file", ctypes.c_int32))


def bare_environment() -> dict[str, str]:
    """Return an environment in which Python finds its modules, without this process's secrets."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def limit_resources(limits: dict[int, int]) -> None:
    """Set limits (`resource.RLIMIT_…`: value) of this process, and let it write no core dump.

    A core dump would fill the disk, and contain the client's file.
    """
    for kind, limit in (limits | {resource.RLIMIT_CORE: 0}).items():
        with suppress(ValueError):  # macOS has RLIMIT_AS but refuses to set it
            resource.setrlimit(kind, (limit, limit))


def landlock_version() -> int:
    """Return the version of the kernel's Landlock, or 0 if it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(_libc().syscall(CREATE_RULESET, None, 0, GET_VERSION)))


def confine(*readable: Path) -> None:
    """Let this process open these files and the files of these folders for reading, and no others.

    The process can no longer write files, use TCP, or examine other processes, as far as the kernel's version
    of Landlock has such rights. Files that are open stay open.

    Does nothing where there is no Landlock. Raises OSError.
    """
    version = landlock_version()
    if not version:
        return
    rights = _Ruleset(*(_bits(table, version) for table in (FILE_RIGHTS, TCP_RIGHTS, SCOPES)))
    size = ctypes.c_size_t(ctypes.sizeof(rights))
    ruleset = _checked(_libc().syscall(CREATE_RULESET, ctypes.byref(rights), size, 0))
    try:
        for path in readable:
            _allow(ruleset, path)
        _checked(_libc().prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_libc().syscall(RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path) -> None:
    """Add the right to read the file, or all files of the folder, to the ruleset."""
    file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _Rule(READ_FILE | READ_DIR if path.is_dir() else READ_FILE, file)
        _checked(_libc().syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(file)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _bits(table: dict[int, int], version: int) -> int:
    """Return a mask of the bits that this version has."""
    return (1 << max((count for since, count in table.items() if since <= version), default=0)) - 1


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

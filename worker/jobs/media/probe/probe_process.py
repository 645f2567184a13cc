"""The probe of an upload in a child process, whose memory, time and view of this host are limited.

A file of a few hundred bytes can make libav build an index of gigabytes, or decode a picture of gigabytes,
before its size is known. And libav has had errors with which a file can run code of its own. So no process
of the API parses media itself.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from worker.jobs.errors import InvalidInput
from worker.jobs.limits import Limits
from worker.jobs.media.probe.clip_info import ClipInfo
from worker.jobs.media.probe.confinement import bare_environment

__all__ = ["probe_in_process", "too_costly"]

#: Longer than the CPU time of the child process, because the machine may be busy.
MAX_WALL_S = 60.0

#: The command of the child process. Its last argument, the request as JSON, is appended.
COMMAND = (sys.executable, "-m", "worker.jobs.media.probe.probe_child")


def probe_in_process(
    field: str,
    path: Path,
    limits: Limits,
    *,
    picture: bool = False,
    keep_open: Sequence[int] = (),
    max_wall_s: float = MAX_WALL_S,
    command: Sequence[str] = COMMAND,
) -> ClipInfo:
    """Return the properties of the clip at `path`, or of the `picture`, that the form has as `field`.

    The child process may take `max_wall_s` seconds. It has none of this process's environment, which holds
    secrets. Of this process's open files it keeps those in `keep_open`, such as locked files: if this process
    is killed, they stay locked until the child process has ended.

    Raises `InvalidInput(field, ...)` if the upload could never become part of a job, and RuntimeError if the
    child process crashes.
    """
    request = json.dumps({"picture": picture, "path": str(path), "limits": asdict(limits)})
    try:
        run = subprocess.run(  # noqa: S603  # the command is not the client's
            [*command, request],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=bare_environment(),
            pass_fds=keep_open,
            timeout=max_wall_s,
        )
    except subprocess.TimeoutExpired:
        raise too_costly(field) from None
    if run.returncode < 0:  # killed, most likely because of its CPU time
        raise too_costly(field)
    if run.returncode:
        raise RuntimeError(f"the probe ended with exit code {run.returncode}; its stderr has the reason")
    answer = json.loads(run.stdout)
    if "refused" in answer:
        raise InvalidInput(field, answer["refused"])
    return ClipInfo.from_json(answer["found"])


def too_costly(field: str = "file") -> InvalidInput:
    """Return the error for an upload that takes more than the child process has."""
    reason = "The file has too many streams, or takes too much time or memory to be looked at."
    return InvalidInput(field, reason)

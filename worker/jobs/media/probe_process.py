"""The probe of an upload in a child process, whose memory and time are limited.

A file of a few hundred bytes can make libav build an index of gigabytes, or decode a picture of gigabytes,
before its size is known. The child process runs `python -m worker.jobs.media.probe_process`.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from worker.jobs.errors import InvalidInput
from worker.jobs.limits import Limits

__all__ = ["Field", "probe_in_process"]

Field = Literal["file", "background"]

#: The most address space of the child process: several times the need of a clip at the default limits.
MAX_BYTES = 2**30
MAX_CPU_S = 10
#: Longer than the CPU time, because the machine may be busy.
MAX_WALL_S = 60.0

#: The command of the child process. Its last argument, the request as JSON, is appended.
COMMAND = (sys.executable, "-m", "worker.jobs.media.probe_process")


def probe_in_process(
    field: Field,
    path: Path,
    limits: Limits,
    *,
    max_wall_s: float = MAX_WALL_S,
    command: Sequence[str] = COMMAND,
) -> None:
    """Raise `InvalidInput(field, ...)` if the upload at `path` could never become part of a job.

    The child process may take `max_wall_s` seconds. Raises RuntimeError if it crashes.
    """
    request = json.dumps({"field": field, "path": str(path), "limits": asdict(limits)})
    try:
        run = subprocess.run(  # noqa: S603  # the command is not the client's
            [*command, request], stdout=subprocess.PIPE, timeout=max_wall_s
        )
    except subprocess.TimeoutExpired:
        raise _too_costly(field) from None
    if run.returncode < 0:  # killed, most likely because of its CPU time
        raise _too_costly(field)
    if run.returncode:
        raise RuntimeError(f"the probe ended with exit code {run.returncode}; its stderr has the reason")
    message = json.loads(run.stdout)
    if message is not None:
        raise InvalidInput(field, message)


def _too_costly(field: Field) -> InvalidInput:
    reason = "The file has too many streams, or takes too much time or memory to be looked at."
    return InvalidInput(field, reason)


def _main(request_json: str) -> str | None:
    """Return in one sentence why the upload is refused, or None if it is accepted."""
    request = json.loads(request_json)
    field, path, limits = request["field"], Path(request["path"]), Limits(**request["limits"])
    from worker.jobs.media.probe import probe, probe_image

    for kind, limit in ((resource.RLIMIT_AS, MAX_BYTES), (resource.RLIMIT_CPU, MAX_CPU_S)):
        with suppress(ValueError):  # macOS has RLIMIT_AS but refuses to set it
            resource.setrlimit(kind, (limit, limit))
    probes: Mapping[Field, Callable[[Path, Limits], object]] = {"file": probe, "background": probe_image}
    try:
        probes[field](path, limits)
    except MemoryError:
        return str(_too_costly(field))
    except InvalidInput as error:
        return str(error)
    return None


if __name__ == "__main__":
    json.dump(_main(sys.argv[1]), sys.stdout)

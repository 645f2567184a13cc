"""Looks at an upload in a process of its own, whose memory and time are limited.

A file of a few hundred bytes can have libav build an index of gigabytes, or decode a picture of them, before
anyone could ask how large it is. `python -m worker.jobs.media.probe_process` is that process.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from worker.jobs.errors import InvalidInput
from worker.jobs.limits import Limits

__all__ = ["Field", "probe_in_process"]

Field = Literal["file", "background"]

#: Of address space: several times what a clip at the default limits needs.
MAX_BYTES = 2**30
MAX_CPU_S = 10
#: On a busy machine the CPU time takes longer.
MAX_WALL_S = 60


def probe_in_process(field: Field, path: Path, limits: Limits) -> None:
    """Raise `InvalidInput(field, ...)` if the upload at `path` could never become part of a job."""
    asked = json.dumps({"field": field, "path": str(path), "limits": asdict(limits)})
    command = [sys.executable, "-m", __name__, asked]
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, timeout=MAX_WALL_S)  # noqa: S603  # ours
    except subprocess.TimeoutExpired:
        raise _too_costly(field) from None
    if run.returncode < 0:  # killed: most likely for its CPU time
        raise _too_costly(field)
    if run.returncode:
        raise RuntimeError(f"the inspection ended with exit code {run.returncode}; the log says why")
    answer = json.loads(run.stdout)
    if answer is not None:
        raise InvalidInput(field, answer)


def _too_costly(field: Field) -> InvalidInput:
    reason = "The file has too many streams, or takes too much time or memory to be looked at."
    return InvalidInput(field, reason)


def _main(asked: str) -> str | None:
    """What is wrong with the upload, in a sentence."""
    request = json.loads(asked)
    field, path, limits = request["field"], Path(request["path"]), Limits(**request["limits"])
    from worker.jobs.media.probe import probe, probe_image

    for kind, most in ((resource.RLIMIT_AS, MAX_BYTES), (resource.RLIMIT_CPU, MAX_CPU_S)):
        with suppress(ValueError):  # macOS knows the first but does not let it be set
            resource.setrlimit(kind, (most, most))
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

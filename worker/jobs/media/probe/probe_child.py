"""The child process of a probe: `python -m worker.jobs.media.probe.probe_child REQUEST`.

It parses a file that an attacker may have made. It may read that file only, and has little memory and time.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import av

from worker.jobs.errors import InvalidInput
from worker.jobs.limits import Limits
from worker.jobs.media.probe.clip_info import ClipInfo
from worker.jobs.media.probe.confinement import confine, limit_resources
from worker.jobs.media.probe.probe import probe, probe_image
from worker.jobs.media.probe.probe_process import too_costly

__all__ = ["main"]

#: The most address space of this process: several times the need of a clip at the default limits.
MAX_BYTES = 2**29
MAX_CPU_S = 10


def main(request_json: str) -> dict[str, Any]:
    """Return what was `found` in the upload, or in one sentence why it is `refused`."""
    request = json.loads(request_json)
    path, limits = Path(request["path"]), Limits(**request["limits"])
    limit_resources({resource.RLIMIT_AS: MAX_BYTES, resource.RLIMIT_CPU: MAX_CPU_S})
    # Besides the file, Python and PyAV read their own modules when they need them.
    confine(path, Path(os.__file__).parent, Path(av.__file__).parent)
    try:
        return {"found": _probe(path, limits, request["picture"]).to_json()}
    except MemoryError:
        return {"refused": str(too_costly())}
    except InvalidInput as error:
        return {"refused": str(error)}


def _probe(path: Path, limits: Limits, picture: bool) -> ClipInfo:
    if not picture:
        return probe(path, limits)
    width, height = probe_image(path, limits)
    return ClipInfo(width=width, height=height)


if __name__ == "__main__":
    json.dump(main(sys.argv[1]), sys.stdout)

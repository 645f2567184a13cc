"""Starts a part of a scripted stack: `python -m tests.support.launch web fd://3`, or `chat`, or `video`.

The upgrade test runs this file of its own release and of the last one. Only the command line must stay.
"""

import os
import sys

from webapi.local.commands import web_argv, worker_argv
from worker.jobs.settings import Settings

__all__ = ["argv_of"]


def argv_of(part: str, *bind: str) -> list[str]:
    """Return the command line of the API on the socket `bind`, or of a worker with scripted models."""
    settings = Settings.from_env()
    if part == "web":  # clients resume the streams that its end cuts off
        return [*web_argv(settings, *bind), "--graceful-timeout", "1"]
    app = "tests.support.workers.fake"
    return [app if word == "worker.app" else word for word in worker_argv(part, settings)]


if __name__ == "__main__":
    argv = argv_of(*sys.argv[1:])
    os.execv(argv[0], argv)

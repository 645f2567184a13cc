"""Fixtures that start each chat engine once per session."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.assets import asset
from tests.support.chat.engines import (
    MODEL,
    MODEL_ENGINES,
    StartedEngine,
    start_fake,
    start_transformers,
    start_vllm,
)

if TYPE_CHECKING:
    from worker.chat.checkpoint import LoadedModel


@pytest.fixture(scope="session")
def loaded() -> "LoadedModel":
    from worker.chat.checkpoint import load_model

    return load_model(asset(MODEL), "cpu")


@pytest.fixture(scope="session")
def serve(request: pytest.FixtureRequest) -> Callable[..., StartedEngine]:
    """A function that starts an engine by its name. The end of the session stops the engine."""

    def start(name: str, slots: int, context_length: int) -> StartedEngine:
        if name == "fake":
            started = start_fake(slots, context_length)
        elif name == "vllm":
            started = start_vllm(slots, context_length)
        else:
            started = start_transformers(slots, context_length, request.getfixturevalue("loaded"))
        request.addfinalizer(started.engine.stop)
        return started

    return start


@pytest.fixture(scope="session", params=["fake", *MODEL_ENGINES])
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def started_engines() -> dict[str, StartedEngine]:
    """The engines that `shared` has started, by name."""
    return {}


@pytest.fixture(scope="session")
def shared(
    engine_name: str, serve: Callable[..., StartedEngine], started_engines: dict[str, StartedEngine]
) -> StartedEngine:
    """One engine of each kind, for all tests that leave it in working order."""
    if engine_name not in started_engines:
        started_engines[engine_name] = serve(engine_name, slots=8, context_length=512)
    return started_engines[engine_name]


@pytest.fixture
def started(shared: StartedEngine) -> Iterator[StartedEngine]:
    shared.recorder.steps.clear()
    yield shared
    shared.recorder.hook = None

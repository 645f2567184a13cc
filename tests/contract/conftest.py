"""The engines under test: each loaded once a session, however many of it are started."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.assets import asset
from tests.contract.fake_engine import FakeEngine
from tests.contract.recorder import Recorder
from worker.chat.engine import ChatEngine, ChatRequest
from worker.chat.transformers_engine import TransformersEngine

if TYPE_CHECKING:
    from worker.chat.loading import LoadedModel

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
LONG = "Write a long story about a dragon who learns to bake bread."
#: An answer of a few words.
BRIEF = "What is the capital of Japan?"


@dataclass(frozen=True)
class Served:
    """A started engine, what it told, and a way to kill its thread."""

    engine: ChatEngine
    recorder: Recorder
    break_down: Callable[[BaseException], None]


def chat(served: Served, id_: str, text: str = LONG, max_tokens: int = 16, **options: object) -> ChatRequest:
    prompt = served.engine.prompt_template.encode([{"role": "user", "content": text}])
    return ChatRequest(id_, prompt, max_tokens, **{"temperature": 0.0, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def loaded() -> "LoadedModel":
    from worker.chat.loading import load_model

    return load_model(asset(MODEL), "cpu")


@pytest.fixture(scope="session")
def serve(request: pytest.FixtureRequest) -> Callable[..., Served]:
    """Start an engine by name; the session's end stops it."""

    def start(name: str, slots: int, context_length: int) -> Served:
        served = {"fake": _fake, "transformers": _transformers}[name](request, slots, context_length)
        request.addfinalizer(served.engine.stop)
        return served

    return start


def _fake(request: pytest.FixtureRequest, slots: int, context_length: int) -> Served:
    words = [f"word{n} " if n % 5 else "日本🎉 " for n in range(300)]
    brief = len(FakeEngine().prompt_template.encode([{"role": "user", "content": BRIEF}]))

    def script(request: ChatRequest) -> Sequence[str]:
        return words[: 6 if len(request.prompt) == brief else None]

    engine = FakeEngine(slots=slots, step_s=0.002, context_length=context_length, script=script)
    recorder = Recorder()
    engine.start(recorder.on_step, recorder.on_broken)
    return Served(engine, recorder, engine.break_down)


def _transformers(request: pytest.FixtureRequest, slots: int, context_length: int) -> Served:
    engine = TransformersEngine(asset(MODEL), "cpu", slots, context_length)
    recorder = Recorder()
    model = request.getfixturevalue("loaded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.chat.loading.load_model", lambda path, device: model)
        engine.start(recorder.on_step, recorder.on_broken)

    def break_down(error: BaseException) -> None:
        def fail(model: object) -> None:
            raise error

        engine._manager.batch_processor._generation_step = fail  # type: ignore[union-attr, method-assign]

    return Served(engine, recorder, break_down)


@pytest.fixture(scope="session", params=["fake", "transformers"])
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def shared(engine_name: str, serve: Callable[..., Served]) -> Served:
    """One engine of each kind for all tests that leave it as it was."""
    return serve(engine_name, slots=8, context_length=512)


@pytest.fixture
def served(shared: Served) -> Iterator[Served]:
    shared.recorder.steps.clear()
    yield shared
    shared.recorder.hook = None

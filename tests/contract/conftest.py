"""The engines under test: each loaded once a session, however many of it are started."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.support.assets import asset
from tests.support.fake_engine import FakeEngine
from tests.support.recorder import Recorder
from worker.chat.engine import ChatEngine, ChatRequest
from worker.chat.transformers_engine.engine import TransformersEngine
from worker.chat.vllm_engine.engine import VllmEngine

if TYPE_CHECKING:
    from worker.chat.checkpoint import LoadedModel

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
LONG = "Write a long story about a dragon who learns to bake bread."
#: An answer of a few words.
BRIEF = "What is the capital of Japan?"

#: Those that run a model.
REAL = ["transformers", "vllm"] if find_spec("vllm") else ["transformers"]
#: vLLM on a CPU as small as can be; in float32 it says what `generate` says.
SMALL_VLLM = {"enforce_eager": True, "kv_cache_memory_bytes": 2**28}


@dataclass(frozen=True)
class Served:
    """A started engine, what it told, and a way to kill it, which gives what its error says then.

    `keeps_draws` is whether a resumed request draws what it would have drawn.
    """

    engine: ChatEngine
    recorder: Recorder
    break_down: Callable[[], str]
    keeps_draws: bool = True


def chat(served: Served, id_: str, text: str = LONG, max_tokens: int = 16, **options: object) -> ChatRequest:
    prompt = served.engine.prompt_template.encode([{"role": "user", "content": text}])
    return ChatRequest(id_, prompt, max_tokens, **{"temperature": 0.0, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def loaded() -> "LoadedModel":
    from worker.chat.checkpoint import load_model

    return load_model(asset(MODEL), "cpu")


@pytest.fixture(scope="session")
def serve(request: pytest.FixtureRequest) -> Callable[..., Served]:
    """Start an engine by name; the session's end stops it."""

    def start(name: str, slots: int, context_length: int) -> Served:
        ways = {"fake": _fake, "transformers": _transformers, "vllm": _vllm}
        served = ways[name](request, slots, context_length)
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

    def break_down() -> str:
        engine.break_down(RuntimeError("the GPU fell off the bus"))
        return "fell off the bus"

    return Served(engine, recorder, break_down)


def _transformers(request: pytest.FixtureRequest, slots: int, context_length: int) -> Served:
    engine = TransformersEngine(asset(MODEL), "cpu", slots, context_length)
    recorder = Recorder()
    model = request.getfixturevalue("loaded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.chat.checkpoint.load_model", lambda path, device: model)
        engine.start(recorder.on_step, recorder.on_broken)

    def break_down() -> str:
        def fail(model: object) -> None:
            raise RuntimeError("the GPU fell off the bus")

        engine._manager.batch_processor._generation_step = fail  # type: ignore[union-attr, method-assign]
        return "fell off the bus"

    return Served(engine, recorder, break_down)


def _vllm(request: pytest.FixtureRequest, slots: int, context_length: int) -> Served:
    engine = VllmEngine(asset(MODEL), "cpu", slots, context_length, args=SMALL_VLLM)
    recorder = Recorder()
    engine.start(recorder.on_step, recorder.on_broken)

    def break_down() -> str:
        [process] = engine._llm.engine_core.resources.engine_manager.processes
        os.kill(process.pid, signal.SIGKILL)
        return "the chat engine died"

    keeps_draws = engine._llm.vllm_config.use_v2_model_runner
    return Served(engine, recorder, break_down, keeps_draws)


@pytest.fixture(scope="session", params=["fake", *REAL])
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def started() -> dict[str, Served]:
    """By name, what `shared` has started."""
    return {}


@pytest.fixture(scope="session")
def shared(engine_name: str, serve: Callable[..., Served], started: dict[str, Served]) -> Served:
    """One engine of each kind for all tests that leave it as it was."""
    if engine_name not in started:
        started[engine_name] = serve(engine_name, slots=8, context_length=512)
    return started[engine_name]


@pytest.fixture
def served(shared: Served) -> Iterator[Served]:
    shared.recorder.steps.clear()
    yield shared
    shared.recorder.hook = None

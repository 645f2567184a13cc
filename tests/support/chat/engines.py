"""Chat engines for tests: how to start each of them, and the questions that tests ask them."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.assets import asset
from tests.support.chat.fake_engine import FakeEngine
from tests.support.chat.recorder import Recorder
from tests.support.chat.requests import chat_request
from worker.chat.engine import ChatEngine, ChatRequest, Delta
from worker.chat.transformers_engine.engine import TransformersEngine
from worker.chat.vllm_engine.engine import VllmEngine

if TYPE_CHECKING:
    from worker.chat.checkpoint import LoadedModel

#: The GGUF file of the model that all engines run.
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
#: A question with a long answer, and one with an answer of a few words.
LONG_QUESTION = "Write a long story about a dragon who learns to bake bread."
SHORT_QUESTION = "What is the capital of Japan?"

#: The names of the installed engines that run a model.
MODEL_ENGINES = ["transformers", "vllm"] if find_spec("vllm") else ["transformers"]
#: Arguments that make vLLM on a CPU as small as possible. In float32 its text equals that of `generate`.
SMALL_VLLM_ARGS = {"enforce_eager": True, "kv_cache_memory_bytes": 2**28}


@dataclass(frozen=True)
class StartedEngine:
    """A started engine and the recorder that listens to it.

    `break_down` kills the engine and returns a part of the error message to expect. `keeps_draws` is True if
    a resumed request draws the same tokens as it would have without the interruption.
    """

    engine: ChatEngine
    recorder: Recorder
    break_down: Callable[[], str]
    keeps_draws: bool = True

    def run_requests(self, *requests: ChatRequest) -> dict[str, list[Delta]]:
        """Submit all requests, wait for the end of each, and return the deltas of each request."""
        return self.recorder.run_requests(self.engine, *requests)


def chat(
    started: StartedEngine, id_: str, text: str = LONG_QUESTION, max_tokens: int = 16, **options: Any
) -> ChatRequest:
    """Make a request that asks `text`: greedy, unless the options have a temperature."""
    prompt = encode(started, text)
    return chat_request(id_, prompt, max_tokens, **{"temperature": 0.0, **options})


def skip_unsupported(started: StartedEngine, *names: str) -> None:
    """Skip the test if the engine does not support one of these sampling parameters."""
    if lacking := set(names) - started.engine.supports:
        pytest.skip(f"the engine does not support {', '.join(sorted(lacking))}")


def encode(started: StartedEngine, text: str) -> list[int]:
    """Return the prompt of a chat with one message of the user."""
    return started.engine.prompt_template.encode([{"role": "user", "content": text}])


def start_fake(slots: int, context_length: int) -> StartedEngine:
    """Start a `FakeEngine` that answers `SHORT_QUESTION` with 6 words, and everything else with 300."""
    words = [f"word{n} " if n % 5 else "日本🎉 " for n in range(300)]
    template = FakeEngine().prompt_template
    short = len(template.encode([{"role": "user", "content": SHORT_QUESTION}]))

    def script(request: ChatRequest) -> Sequence[str]:
        return words[: 6 if len(request.prompt) == short else None]

    engine = FakeEngine(slots=slots, step_s=0.002, context_length=context_length, script=script)
    recorder = Recorder()
    engine.start(recorder.on_step, recorder.on_broken)

    def break_down() -> str:
        engine.break_down(RuntimeError("the GPU fell off the bus"))
        return "fell off the bus"

    return StartedEngine(engine, recorder, break_down)


def start_transformers(slots: int, context_length: int, loaded: "LoadedModel") -> StartedEngine:
    """Start a `TransformersEngine` on the CPU with a model that is loaded already."""
    engine = TransformersEngine(asset(MODEL), "cpu", slots, context_length)
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.chat.checkpoint.load_model", lambda path, device: loaded)
        engine.start(recorder.on_step, recorder.on_broken)

    def break_down() -> str:
        def fail(model: object) -> None:
            raise RuntimeError("the GPU fell off the bus")

        engine._manager.batch_processor._generation_step = fail  # type: ignore[union-attr, method-assign]
        return "fell off the bus"

    return StartedEngine(engine, recorder, break_down)


def start_vllm(
    slots: int,
    context_length: int,
    device: str = "cpu",
    gpus: int = 1,
    args: Mapping[str, Any] = SMALL_VLLM_ARGS,
    model: Path | None = None,
    adapters: Mapping[str, Path] | None = None,
) -> StartedEngine:
    """Start a `VllmEngine`: by default a small one on the CPU, with the model that all engines run."""
    engine = VllmEngine(model or asset(MODEL), device, slots, context_length, gpus, args, adapters)
    recorder = Recorder()
    engine.start(recorder.on_step, recorder.on_broken)

    def break_down() -> str:
        processes = engine._llm.engine_core.resources.engine_manager.processes
        assert len(processes) == 1
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
        return "the chat engine died"

    keeps_draws = engine._llm.vllm_config.use_v2_model_runner
    return StartedEngine(engine, recorder, break_down, keeps_draws)

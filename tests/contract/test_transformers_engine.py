"""What only the transformers engine has to show: the model's own words, seeds, and its cache."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.conftest import Served
from tests.contract.reference import NEW_TOKENS, QUESTIONS, assert_as_generated
from worker.chat.engine import ChatRequest
from worker.chat.transformers_engine import TransformersEngine
from worker.jobs.errors import ModelMissing

if TYPE_CHECKING:
    from worker.chat.loading import LoadedModel


@pytest.fixture
def engine_name() -> str:
    return "transformers"


@pytest.fixture(scope="module")
def shared(serve: Callable[..., Served]) -> Served:
    return serve("transformers", slots=8, context_length=512)


def prompt(served: Served, text: str) -> list[int]:
    return served.engine.prompt_template.encode([{"role": "user", "content": text}])


def test_it_knows_the_capital_of_japan(served: Served) -> None:
    ids = prompt(served, QUESTIONS[0])
    served.recorder.run(served.engine, ChatRequest("a", ids, 40, temperature=0.0))
    assert "Tokyo" in served.recorder.text("a")
    assert served.recorder.ends("a")[0].finish_reason == "stop"


@pytest.fixture(scope="module")
def said_in_a_crowd(shared: Served) -> dict[str, str]:
    shared.recorder.run(shared.engine, *[greedy(shared, text) for text in QUESTIONS])
    return {text: shared.recorder.text(text) for text in QUESTIONS}


def greedy(served: Served, text: str) -> ChatRequest:
    return ChatRequest(text, prompt(served, text), NEW_TOKENS, temperature=0.0)


@pytest.mark.parametrize("text", QUESTIONS[:4])
def test_greedy_is_what_generate_says(
    served: Served, loaded: "LoadedModel", said_in_a_crowd: dict[str, str], text: str
) -> None:
    request = greedy(served, text)
    served.recorder.run(served.engine, request)
    assert_as_generated(loaded, request.prompt, [served.recorder.text(text), said_in_a_crowd[text]])


def test_a_seed_says_the_same_alone_and_in_a_crowd(served: Served) -> None:
    requests = [
        ChatRequest(text, prompt(served, text), 24, temperature=0.9, top_p=0.95, seed=n)
        for n, text in enumerate(QUESTIONS)
    ]
    served.recorder.run(served.engine, *requests)
    together = {text: served.recorder.text(text) for text in QUESTIONS}
    for request in requests[:3]:
        served.recorder.run(served.engine, request)
        assert served.recorder.text(request.id) == together[request.id]


def test_seeds_and_their_absence_differ(served: Served) -> None:
    ids = prompt(served, QUESTIONS[1])
    requests = [ChatRequest(str(n), ids, 16, seed=n if n < 4 else None) for n in range(8)]
    served.recorder.run(served.engine, *requests)
    assert len({served.recorder.text(str(n)) for n in range(8)}) == 8


def test_top_p_of_nearly_nothing_is_greedy(served: Served) -> None:
    ids = prompt(served, QUESTIONS[2])
    served.recorder.run(
        served.engine,
        ChatRequest("greedy", ids, 24, temperature=0.0),
        ChatRequest("narrow", ids, 24, temperature=1.5, top_p=1e-6, seed=5),
        ChatRequest("wide", ids, 24, temperature=1.5, seed=5),
    )
    assert served.recorder.text("narrow") == served.recorder.text("greedy") != served.recorder.text("wide")


def test_a_small_cache_serves_many_different_prompts(serve: Callable[..., Served]) -> None:
    """Blocks kept for sharing give way: prompts long enough to fill the cache many times over."""
    served = serve("transformers", slots=2, context_length=96)
    names = [f"{word} " * 60 for word in ("red", "green", "blue", "old", "new", "warm", "cold", "wet")]
    requests = [ChatRequest(name, prompt(served, name)[:80], 16, temperature=0.0) for name in names]
    runs = served.recorder.run(served.engine, *requests)
    assert all(deltas[-1].finish_reason in ("length", "stop") for deltas in runs.values())
    manager = served.engine._manager  # type: ignore[attr-defined]
    assert manager.batch_processor.cache.num_blocks < 16


def test_no_model_no_start() -> None:
    with pytest.raises(ModelMissing):
        TransformersEngine(Path("/nowhere/model.gguf")).start(lambda deltas: None, lambda error: None)


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, worker.chat.transformers_engine; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

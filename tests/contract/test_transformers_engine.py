"""What only the transformers engine has to show: its cache."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.conftest import Served
from worker.chat.engine import ChatRequest
from worker.chat.transformers_engine import TransformersEngine
from worker.jobs.errors import ModelMissing


def prompt(served: Served, text: str) -> list[int]:
    return served.engine.prompt_template.encode([{"role": "user", "content": text}])


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

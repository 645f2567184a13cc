"""What only the transformers engine has to show: its cache, and the models that it runs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.conftest import Served
from tests.support.tiny_models import tokenized
from worker.chat.engine import ChatRequest
from worker.chat.transformers_engine.engine import TransformersEngine
from worker.jobs.errors import EngineFailed, ModelMissing


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


def test_a_model_that_transformers_cannot_batch_is_refused(tmp_path: Path) -> None:
    """Its attention would not see what steps before have left in the cache, and its answers be nonsense."""
    from transformers import AutoModelForCausalLM, GPTJConfig

    config = GPTJConfig(vocab_size=49_152, n_embd=16, n_layer=1, n_head=2, rotary_dim=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    engine = TransformersEngine(tokenized(tmp_path), slots=2, context_length=64)
    with pytest.raises(EngineFailed, match="does not batch GPTJForCausalLM continuously: try"):
        engine.start(lambda deltas: None, lambda error: None)


def test_a_model_need_not_have_a_limit_of_its_own(tmp_path: Path) -> None:
    from transformers import BloomConfig

    from worker.chat.checkpoint import read_model

    BloomConfig().save_pretrained(tmp_path)
    assert read_model(tokenized(tmp_path)).context_length == sys.maxsize


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, worker.chat.transformers_engine.engine; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Tests of the transformers engine alone: its cache, and the models that it can run."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.chat.engines import StartedEngine, encode
from tests.support.chat.requests import chat_request
from tests.support.chat.tiny_models import tokenized
from worker.chat.transformers_engine.engine import TransformersEngine
from worker.jobs.errors import EngineFailed, ModelMissing


@pytest.mark.long
def test_transformers_engine_small_cache_serves_many_prompts(serve: Callable[..., StartedEngine]) -> None:
    """Run prompts that fill the cache many times over. Blocks that are kept for sharing must give way."""
    started = serve("transformers", slots=2, context_length=96)
    names = [f"{word} " * 60 for word in ("red", "green", "blue", "old", "new", "warm", "cold", "wet")]
    requests = [chat_request(name, encode(started, name)[:80], 16, temperature=0.0) for name in names]
    runs = started.run_requests(*requests)
    assert all(deltas[-1].finish_reason in ("length", "stop") for deltas in runs.values())
    manager = started.engine._manager  # type: ignore[attr-defined]
    assert manager.batch_processor.cache.num_blocks < 16


def test_transformers_engine_start_without_model_fails() -> None:
    with pytest.raises(ModelMissing):
        TransformersEngine(Path("/nowhere/model.gguf")).start(lambda deltas: None, lambda error: None)


def test_transformers_engine_refuses_model_that_cannot_be_batched(tmp_path: Path) -> None:
    """Such a model's attention would not see the cache of earlier steps, so its answers would be nonsense."""
    from transformers import AutoModelForCausalLM, GPTJConfig

    config = GPTJConfig(vocab_size=49_152, n_embd=16, n_layer=1, n_head=2, rotary_dim=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    engine = TransformersEngine(tokenized(tmp_path), slots=2, context_length=64)
    with pytest.raises(EngineFailed, match="does not batch GPTJForCausalLM continuously: try"):
        engine.start(lambda deltas: None, lambda error: None)


def test_read_model_without_own_context_limit(tmp_path: Path) -> None:
    from transformers import BloomConfig

    from worker.chat.checkpoint import read_model

    BloomConfig().save_pretrained(tmp_path)
    assert read_model(tokenized(tmp_path)).context_length == sys.maxsize


def test_transformers_engine_import_imports_no_torch() -> None:
    code = "import sys, worker.chat.transformers_engine.engine; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Tests of the vLLM engine alone: its imports and its arguments."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.assets import asset
from tests.support.chat.engines import MODEL, SMALL_VLLM_ARGS, chat, start_vllm
from tests.support.stack import eventually
from worker.chat.vllm_engine.engine import VllmEngine
from worker.jobs.errors import ConfigurationError, ModelMissing


def start(path: Path, /, **args: Any) -> None:
    VllmEngine(path, args=args).start(lambda deltas: None, lambda error: None)


def test_vllm_engine_import_imports_neither_vllm_nor_torch() -> None:
    code = "import sys, worker.chat.vllm_engine.engine; sys.exit(bool({'torch', 'vllm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def model() -> Path:
    pytest.importorskip("vllm", exc_type=ImportError)
    return asset(MODEL)


def test_vllm_engine_start_without_model_fails(model: Path) -> None:
    with pytest.raises(ModelMissing):
        start(Path("/nowhere"))


def test_vllm_args_unknown_name_is_refused_with_suggestion(model: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="gpu_memory_utilisation; did you mean gpu_memory_utilization"
    ):
        start(model, gpu_memory_utilisation=0.5)
    with pytest.raises(ConfigurationError, match=r"no engine argument qqq$"):
        start(model, qqq=1)


@pytest.mark.parametrize(
    ("name", "setting"), [("model", "STOKER_CHAT_MODEL"), ("max_num_seqs", "STOKER_SLOTS")]
)
def test_vllm_args_reserved_name_is_refused(model: Path, name: str, setting: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is set by {setting}"):
        start(model, **{name: 4})


def test_vllm_engine_without_device_fails_with_one_line(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imitate vLLM's build for CUDA on a machine without CUDA."""
    from vllm.platforms import current_platform

    monkeypatch.setattr(type(current_platform), "device_type", "")
    with pytest.raises(ConfigurationError, match="vLLM does not take its arguments: Device"):
        start(model)


@pytest.mark.parametrize(
    "args",
    [
        {"dtype": "float17"},
        {"max_model_len": 10**7},
        {"dtype": 5},
        {"compilation_config": {"cudagraph_mode": "FUL"}},
        {"speculative_config": '{"method": "ngram", "num_speculative_tokens": 3}'},
    ],
)
def test_vllm_args_refused_value_is_reported_in_one_line(model: Path, args: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="vLLM does not take its arguments: ") as refused:
        start(model, **args)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("v2", [False, True])
def test_vllm_scheduler_moves_generated_tokens_to_output_with_runner_v2(model: Path, v2: bool) -> None:
    from vllm import SamplingParams
    from vllm.v1.request import Request

    from worker.chat.vllm_engine.resuming_scheduler import GENERATED, ResumingScheduler

    scheduler = object.__new__(ResumingScheduler)  # the real one needs a running engine
    scheduler.vllm_config = SimpleNamespace(use_v2_model_runner=v2)
    requests = [
        Request("a", [5, 6, 7, 8], SamplingParams(max_tokens=9, extra_args=args), None)
        for args in (None, {GENERATED: 3})
    ]
    for request in requests:
        scheduler.resume(request)
    fresh, resumed = ((list(each.prompt_token_ids), list(each.output_token_ids)) for each in requests)
    assert fresh == ([5, 6, 7, 8], [])
    assert resumed == (([5], [6, 7, 8]) if v2 else fresh)
    for request in requests:
        assert (request.num_tokens, list(request.all_token_ids)) == (4, [5, 6, 7, 8])
        assert request.num_prompt_tokens + request.num_output_tokens == 4


@pytest.mark.long
def test_vllm_engine_stats_count_preemptions(model: Path) -> None:
    """Run three answers in a cache that has room for two of them."""
    args = {**SMALL_VLLM_ARGS, "num_gpu_blocks_override": 5}
    started = start_vllm(slots=3, context_length=512, args=args)
    try:
        requests = [chat(started, name, max_tokens=220, ignore_eos=True) for name in ("a", "b", "c")]
        runs = started.run_requests(*requests)
        assert {deltas[-1].finish_reason for deltas in runs.values()} == {"length"}
        eventually(lambda: started.engine.stats().preemptions > 0, "a preemption")
        eventually(lambda: started.engine.stats().kv_cache_usage == 0, "an empty cache")
    finally:
        started.engine.stop()


@pytest.mark.parametrize("trusted", [False, True])
def test_vllm_args_run_code_of_model_folder_only_if_told(model: Path, trusted: bool) -> None:
    from worker.chat.gguf import unpack_gguf
    from worker.chat.vllm_engine.args import engine_config

    args = {"trust_remote_code": True} if trusted else {}
    config = engine_config(args, unpack_gguf(model), "cpu", slots=1, context_length=64, gpus=1)
    assert config.model_config.trust_remote_code is trusted

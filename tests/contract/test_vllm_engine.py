"""What only the vLLM engine has to show: its arguments, and that nothing of it is left."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import MODEL
from tests.support.assets import asset
from worker.chat.vllm_engine.engine import VllmEngine
from worker.jobs.errors import ConfigurationError, ModelMissing


def start(path: Path, /, **args: Any) -> None:
    VllmEngine(path, args=args).start(lambda deltas: None, lambda error: None)


def test_importing_it_imports_neither_vllm_nor_torch() -> None:
    code = "import sys, worker.chat.vllm_engine.engine; sys.exit(bool({'torch', 'vllm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def model() -> Path:
    pytest.importorskip("vllm", exc_type=ImportError)
    return asset(MODEL)


def test_no_model_no_start(model: Path) -> None:
    with pytest.raises(ModelMissing):
        start(Path("/nowhere"))


def test_an_argument_that_vllm_does_not_know_is_named_with_the_one_that_is_meant(model: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="gpu_memory_utilisation; did you mean gpu_memory_utilization"
    ):
        start(model, gpu_memory_utilisation=0.5)
    with pytest.raises(ConfigurationError, match=r"no engine argument qqq$"):
        start(model, qqq=1)


@pytest.mark.parametrize(
    ("name", "where"), [("model", "STOKER_CHAT_MODEL"), ("max_num_seqs", "STOKER_SLOTS")]
)
def test_what_a_setting_says_is_not_said_again(model: Path, name: str, where: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is set by {where}"):
        start(model, **{name: 4})


def test_a_vllm_without_its_device_says_so_in_one_sentence(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the build for CUDA does on a machine without."""
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
def test_what_vllm_says_of_a_value_is_one_sentence(model: Path, args: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="vLLM does not take its arguments: ") as refused:
        start(model, **args)
    assert "\n" not in str(refused.value)

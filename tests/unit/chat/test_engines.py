"""Tests of the choice of a chat engine, and of the settings for vLLM's arguments."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from worker.chat.engines import choose_engine, make_engine
from worker.jobs.errors import ConfigurationError
from worker.jobs.settings import Settings


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> bool:
    """Pretend that vLLM is installed, or not, as the parameter says."""
    installed = bool(request.param)

    def find_spec(name: str) -> ModuleSpec | None:
        assert name == "vllm"
        return ModuleSpec(name, None) if installed else None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    return installed


@pytest.mark.parametrize("vllm", [True, False], indirect=True)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_choose_engine_auto_is_vllm_if_installed_on_cuda(vllm: bool, device: str) -> None:
    assert choose_engine("auto", device) == ("vllm" if vllm and device == "cuda" else "transformers")
    assert choose_engine("transformers", device) == "transformers"


@pytest.mark.parametrize("vllm", [False], indirect=True)
def test_choose_engine_refuses_engine_that_is_not_installed(vllm: bool) -> None:
    with pytest.raises(ConfigurationError, match="vllm is not installed"):
        choose_engine("vllm", "cuda")


@pytest.mark.parametrize("vllm", [True], indirect=True)
@pytest.mark.parametrize("engine", ["auto", "transformers", "vllm"])
def test_make_engine_returns_name_of_chosen_engine(vllm: bool, tmp_path: Path, engine: str) -> None:
    settings = Settings(chat_model=str(tmp_path), vllm_args={"dtype": "float16"}, slots=3)
    named = make_engine(settings.replace(engine=engine), "cuda", gpus=1)
    assert named.name == ("transformers" if engine == "transformers" else "vllm")
    assert named.engine.slots == 3


def test_make_engine_refuses_adapters_that_cannot_be_served(tmp_path: Path) -> None:
    settings = Settings.from_env({"STOKER_LORA": f"sql={tmp_path}"}).replace(chat_model=str(tmp_path))
    with pytest.raises(ConfigurationError, match="transformers serves no adapters: try vllm"):
        make_engine(settings.replace(engine="transformers"), "cpu", gpus=0)
    with pytest.raises(ConfigurationError, match="is the name of the model"):
        make_engine(settings.replace(lora={settings.model_name("chat"): tmp_path}), "cpu", gpus=0)


@pytest.mark.parametrize("vllm", [False], indirect=True)
def test_make_engine_refuses_transformers_on_several_gpus(vllm: bool, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="one GPU, not on 2"):
        make_engine(Settings(chat_model=str(tmp_path)), "cuda", gpus=2)


@pytest.mark.parametrize("text", ["{", "[1]", "dtype=float16"])
def test_vllm_args_must_be_a_json_object(text: str) -> None:
    with pytest.raises(ConfigurationError, match="STOKER_VLLM_ARGS"):
        Settings.from_env({"STOKER_VLLM_ARGS": text})


def test_vllm_args_survive_to_env() -> None:
    settings = Settings.from_env({"STOKER_VLLM_ARGS": '{"enforce_eager": true, "dtype": "float16"}'})
    again = Settings.from_env(settings.to_env())
    assert again.vllm_args == {"enforce_eager": True, "dtype": "float16"}

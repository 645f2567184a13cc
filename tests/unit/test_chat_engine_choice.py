"""Which chat engine runs where."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from worker.chat.engines import choose, make_engine
from worker.jobs.errors import ConfigurationError
from worker.jobs.settings import Settings


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> bool:
    """Whether vLLM can be found."""
    there = bool(request.param)

    def find_spec(name: str) -> ModuleSpec | None:
        assert name == "vllm"
        return ModuleSpec(name, None) if there else None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    return there


@pytest.mark.parametrize("vllm", [True, False], indirect=True)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_auto_is_vllm_where_it_is_installed_and_a_gpu_is_there(vllm: bool, device: str) -> None:
    assert choose("auto", device) == ("vllm" if vllm and device == "cuda" else "transformers")
    assert choose("transformers", device) == "transformers"


@pytest.mark.parametrize("vllm", [False], indirect=True)
def test_an_engine_that_is_not_installed_is_refused(vllm: bool) -> None:
    with pytest.raises(ConfigurationError, match="vllm is not installed"):
        choose("vllm", "cuda")


@pytest.mark.parametrize("vllm", [True], indirect=True)
@pytest.mark.parametrize("engine", ["auto", "transformers", "vllm"])
def test_the_name_is_that_of_the_engine_that_runs(vllm: bool, tmp_path: Path, engine: str) -> None:
    settings = Settings(chat_model=str(tmp_path), vllm_args='{"dtype": "float16"}', slots=3)
    named = make_engine(settings.replace(engine=engine), "cuda", gpus=1)
    assert named.name == ("transformers" if engine == "transformers" else "vllm")
    assert named.engine.slots == 3


@pytest.mark.parametrize("vllm", [False], indirect=True)
def test_transformers_refuses_several_gpus(vllm: bool, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="one GPU, not on 2"):
        make_engine(Settings(chat_model=str(tmp_path)), "cuda", gpus=2)


@pytest.mark.parametrize("text", ["{", "[1]", "dtype=float16"])
def test_vllm_args_are_a_json_object(text: str) -> None:
    with pytest.raises(ConfigurationError, match="STOKER_VLLM_ARGS"):
        Settings.from_env({"STOKER_VLLM_ARGS": text})


def test_vllm_args_come_through_the_environment_of_a_child() -> None:
    settings = Settings.from_env({"STOKER_VLLM_ARGS": '{"enforce_eager": true, "dtype": "float16"}'})
    again = Settings.from_env(settings.to_env())
    assert again.vllm_options == {"enforce_eager": True, "dtype": "float16"}

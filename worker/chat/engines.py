"""Chooses and makes the chat engine of a worker."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from worker import assets
from worker.chat.engine import ChatEngine
from worker.jobs.errors import ConfigurationError
from worker.jobs.settings import Settings, set_env_default
from worker.jobs.specs import ChatJob

__all__ = ["NamedEngine", "choose_engine", "make_engine"]

EngineName = Literal["transformers", "vllm"]


@dataclass(frozen=True, slots=True)
class NamedEngine:
    """An engine that is not started yet, with the name that the worker publishes for it."""

    name: EngineName
    engine: ChatEngine


def make_engine(settings: Settings, torch_device: str, gpus: int) -> NamedEngine:
    """Make the engine that the settings name, for `torch_device` ("cpu" or "cuda") and `gpus` GPUs.

    Raises `ConfigurationError` if the engine is not installed, or cannot run so.
    """
    if settings.model_name(ChatJob.kind) in settings.lora:
        raise ConfigurationError(f"STOKER_LORA: {settings.model_name(ChatJob.kind)} is the name of the model")
    name = choose_engine(settings.engine, torch_device)
    model = assets.resolve(settings.models_dir, settings.chat_model)
    if name == "transformers":
        if gpus > 1:
            raise ConfigurationError(f"the engine transformers runs on one GPU, not on {gpus}: try vllm")
        if settings.lora:
            raise ConfigurationError("STOKER_LORA: the engine transformers serves no adapters: try vllm")
        from worker.chat.transformers_engine.engine import TransformersEngine

        engine = TransformersEngine(model, torch_device, settings.slots, settings.context_length)
        return NamedEngine(name, engine)
    from worker.chat.vllm_engine.engine import VllmEngine

    # vLLM writes many lines to the same log at INFO, so they are shown only if Stoker logs at DEBUG.
    set_env_default(VLLM_LOGGING_LEVEL="INFO" if settings.log_level == "DEBUG" else "WARNING")
    vllm = VllmEngine(
        model,
        torch_device,
        slots=settings.slots,
        context_length=settings.context_length,
        gpus=max(gpus, 1),
        args=settings.vllm_args,
        adapters=settings.lora,
    )
    return NamedEngine(name, vllm)


def choose_engine(engine: str, torch_device: str) -> EngineName:
    """Return the name of the engine to run; imports neither engine.

    "auto" means vLLM on CUDA where vLLM is installed, and transformers everywhere else. Raises
    `ConfigurationError` if `engine` is "vllm" and vLLM is not installed.
    """
    installed = importlib.util.find_spec("vllm") is not None
    if engine == "vllm" and not installed:
        raise ConfigurationError(
            "the engine vllm is not installed here: pip install vllm, or use another engine"
        )
    if engine == "vllm" or (engine == "auto" and installed and torch_device == "cuda"):
        return "vllm"
    return "transformers"

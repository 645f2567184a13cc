"""Which chat engine runs: what the settings say, or what is there."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from worker import assets
from worker.chat.engine import ChatEngine
from worker.jobs.errors import ConfigurationError
from worker.jobs.settings import Settings, set_env_default

__all__ = ["NamedEngine", "make_engine"]


@dataclass(frozen=True, slots=True)
class NamedEngine:
    """An engine that is not started yet, and the name that is shown for it."""

    name: Literal["transformers", "vllm"]
    engine: ChatEngine


def make_engine(settings: Settings, torch_device: str, gpus: int) -> NamedEngine:
    """The engine for "cpu" or "cuda", there on so many GPUs. ConfigurationError if it cannot be."""
    name = choose(settings.engine, torch_device)
    model = assets.resolve(settings.models_dir, settings.chat_model)
    if name == "transformers":
        if gpus > 1:
            raise ConfigurationError(f"the engine transformers runs on one GPU, not on {gpus}: try vllm")
        from worker.chat.transformers_engine.engine import TransformersEngine

        engine = TransformersEngine(model, torch_device, settings.slots, settings.context_length)
        return NamedEngine(name, engine)
    from worker.chat.vllm_engine.engine import VllmEngine

    # It logs beside us and at length: what INFO is to it is DEBUG to us.
    set_env_default(VLLM_LOGGING_LEVEL="INFO" if settings.log_level == "DEBUG" else "WARNING")
    vllm = VllmEngine(
        model,
        torch_device,
        slots=settings.slots,
        context_length=settings.context_length,
        gpus=max(gpus, 1),
        args=settings.vllm_options,
    )
    return NamedEngine(name, vllm)


def choose(engine: str, torch_device: str) -> Literal["transformers", "vllm"]:
    """What "auto" means here, without an import of either."""
    installed = importlib.util.find_spec("vllm") is not None
    if engine == "vllm" and not installed:
        raise ConfigurationError(
            "the engine vllm is not installed here: pip install vllm, or use another engine"
        )
    if engine == "vllm" or (engine == "auto" and installed and torch_device == "cuda"):
        return "vllm"
    return "transformers"

"""The LoRA adapters of a vLLM engine: their arguments, and what names one in a request."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from vllm.config.lora import MaxLoRARanks
from vllm.lora.request import LoRARequest

from worker.jobs.errors import ConfigurationError


def adapter_args(adapters: Mapping[str, Path], device: str) -> dict[str, Any]:
    """Return the engine arguments for adapters, which are paths by name. Batches may mix all of them.

    Raises `ConfigurationError` if a path is not an adapter.
    """
    if not adapters:
        return {}
    largest = max(_rank(name, path) for name, path in adapters.items())
    rank = min((each for each in get_args(MaxLoRARanks) if each >= largest), default=largest)
    # If a part of a batch has adapters, vLLM on the CPU takes the one in the last place for the other part.
    # So that place stays empty there. An empty adapter changes nothing.
    places = len(adapters) + (1 if device == "cpu" else 0)
    return {"enable_lora": True, "max_loras": places, "max_lora_rank": rank}


def adapter_requests(adapters: Mapping[str, Path]) -> dict[str, LoRARequest]:
    """Return what names each adapter in a request to vLLM, by the adapter's name."""
    return {
        name: LoRARequest(name, number, str(path)) for number, (name, path) in enumerate(adapters.items(), 1)
    }


def _rank(name: str, path: Path) -> int:
    file = path / "adapter_config.json"
    try:
        return int(json.loads(file.read_text("utf-8"))["r"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = getattr(error, "strerror", None) or f"it has no rank r ({error})"
        raise ConfigurationError(f"STOKER_LORA: {name}: {file} cannot be read: {reason}") from error

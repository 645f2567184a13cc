"""The arguments of vLLM's engine: ours, and those of `STOKER_VLLM_ARGS` on top."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext

from worker.jobs.errors import ConfigurationError

#: What Stoker decides, and where: a second opinion in `STOKER_VLLM_ARGS` would contradict it.
OURS = {
    "model": "STOKER_CHAT_MODEL",
    "tokenizer": "STOKER_CHAT_MODEL",
    "max_num_seqs": "STOKER_SLOTS",
    "tensor_parallel_size": "STOKER_DEVICES",
    "skip_tokenizer_init": "Stoker, which sends and takes token ids",
}


def check(args: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for a name that vLLM does not know or that Stoker sets itself."""
    known = {field.name for field in fields(AsyncEngineArgs)}
    for name in args:
        if name in OURS:
            raise ConfigurationError(f"STOKER_VLLM_ARGS: {name} is set by {OURS[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"STOKER_VLLM_ARGS: vLLM has no engine argument {name}{hint}")


def engine_config(
    args: Mapping[str, Any], folder: Path, device: str, slots: int, context_length: int, gpus: int
) -> VllmConfig:
    """What vLLM makes of all arguments; `ConfigurationError` with its own words if it does not take them.

    On the CPU the weights are float32, as bfloat16 is about ten times slower there.
    """
    check(args)
    ours = {
        "model": str(folder),
        "max_num_seqs": slots,
        "tensor_parallel_size": gpus,
        "skip_tokenizer_init": True,
        "disable_log_stats": True,
        "max_model_len": context_length,
        "dtype": "float32" if device == "cpu" else "auto",
    }
    try:
        return AsyncEngineArgs(**(ours | dict(args))).create_engine_config(UsageContext.ENGINE_CONTEXT)
    except Exception as error:  # it takes some values apart before it checks them: KeyError, AttributeError
        raise ConfigurationError(f"vLLM does not take its arguments: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    """The error in one line."""
    text, name = " ".join(str(error).split()), type(error).__name__
    return f"{name}: {text}" if isinstance(error, KeyError | AttributeError) else text or name

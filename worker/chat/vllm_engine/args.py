"""Makes vLLM's engine configuration from Stoker's own arguments and those of `STOKER_VLLM_ARGS`."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext

from worker.chat.vllm_engine.adapters import adapter_args
from worker.jobs.errors import ConfigurationError

#: Arguments that Stoker sets, with the setting that decides each. `STOKER_VLLM_ARGS` may not contain them.
RESERVED = {
    "model": "STOKER_CHAT_MODEL",
    "tokenizer": "STOKER_CHAT_MODEL",
    "max_num_seqs": "STOKER_SLOTS",
    "tensor_parallel_size": "STOKER_DEVICES",
    "skip_tokenizer_init": "Stoker, which needs the tokenizer for structured answers",
    "structured_outputs_config": "Stoker, which resumes structured answers",
    "scheduler_cls": "Stoker, which resumes answers",
    "enable_lora": "STOKER_LORA",
}


def check_names(args: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for a name that vLLM does not know or that Stoker sets itself."""
    known = {field.name for field in fields(AsyncEngineArgs)}
    for name in args:
        if name in RESERVED:
            raise ConfigurationError(f"STOKER_VLLM_ARGS: {name} is set by {RESERVED[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"STOKER_VLLM_ARGS: vLLM has no engine argument {name}{hint}")


def engine_config(
    args: Mapping[str, Any],
    folder: Path,
    device: str,
    slots: int,
    context_length: int,
    gpus: int,
    adapters: Mapping[str, Path] = MappingProxyType({}),
) -> VllmConfig:
    """Return vLLM's configuration for the model in `folder`. Values in `args` override Stoker's defaults.

    `adapters` are the paths of LoRA adapters by name. On the CPU the default type of the weights is float32,
    because bfloat16 is about ten times slower there. Raises `ConfigurationError` with vLLM's own message if
    vLLM refuses the arguments.
    """
    check_names(args)
    defaults = {
        "model": str(folder),
        "max_num_seqs": slots,
        "tensor_parallel_size": gpus,
        "tokenizer_mode": "hf",
        "structured_outputs_config": {"backend": "guidance"},
        "disable_log_stats": True,
        "trust_remote_code": False,
        "max_model_len": context_length,
        "dtype": "float32" if device == "cpu" else "auto",
        **adapter_args(adapters, device),
    }
    try:
        return AsyncEngineArgs(**(defaults | dict(args))).create_engine_config(UsageContext.ENGINE_CONTEXT)
    except Exception as error:  # some values raise KeyError or AttributeError, before vLLM checks them
        raise ConfigurationError(f"vLLM does not take its arguments: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    """Return the error's message as one line."""
    text, name = " ".join(str(error).split()), type(error).__name__
    return f"{name}: {text}" if isinstance(error, KeyError | AttributeError) else text or name

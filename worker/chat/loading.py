"""Loads a chat model, from a GGUF file or a Hugging Face directory, and never from a hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    TokenizersBackend,
)

from worker.jobs.errors import ModelMissing
from worker.jobs.prompt import PromptTemplate


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device with what is needed to talk to it; `context_length` is the model's own limit."""

    model: PreTrainedModel
    prompt_template: PromptTemplate
    eos_tokens: frozenset[int]
    context_length: int


def load_model(path: Path, device: str) -> LoadedModel:
    """Load `path` on `device` ("cpu" or "cuda"); ModelMissing if there is nothing to load.

    float32 on the CPU, where bfloat16 is about ten times slower, and bfloat16 on CUDA. GGUF weights are
    unpacked into a dense model.
    """
    if not path.exists():
        raise ModelMissing(f"no model at {path}")
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(path), "local_files_only": True}
    weights: dict[str, Any] = {}
    if path.is_file():
        source |= {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        weights["quantization_config"] = GgufConfig(dequantize=True)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(**source)
    if not isinstance(tokenizer, TokenizersBackend):
        raise ModelMissing(f"the model at {path} has no tokenizer.json")
    model = cast(PreTrainedModel, AutoModelForCausalLM.from_pretrained(**source, **weights, dtype=dtype))
    return LoadedModel(
        model=model.to(device),  # type: ignore[arg-type]  # mypy takes a wrapped `to` for a function
        prompt_template=_prompt_template(tokenizer),
        eos_tokens=_eos_tokens(model, tokenizer),
        context_length=model.config.get_text_config().max_position_embeddings,
    )


def _prompt_template(tokenizer: TokenizersBackend) -> PromptTemplate:
    return PromptTemplate(
        tokenizer_json=tokenizer.backend_tokenizer.to_str(),
        chat_template=tokenizer.get_chat_template(),
        special_tokens={name: str(token) for name, token in tokenizer.special_tokens_map.items()},
    )


def _eos_tokens(model: PreTrainedModel, tokenizer: TokenizersBackend) -> frozenset[int]:
    """Ids that end an answer: the generation config may name several, the tokenizer names one."""
    named = model.generation_config.eos_token_id
    several = named if isinstance(named, list) else [named]
    return frozenset(token for token in [*several, tokenizer.eos_token_id] if token is not None)

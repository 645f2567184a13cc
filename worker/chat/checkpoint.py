"""Loads a chat model, from a GGUF file or a Hugging Face directory, and never from a hub."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    TokenizersBackend,
)

from worker.chat.gguf import unpacked
from worker.jobs.errors import ModelMissing
from worker.jobs.prompt import PromptTemplate


@dataclass(frozen=True)
class ModelFiles:
    """What a model's files say of how to talk to it; `context_length` is the model's own limit.

    With ALiBi or without attention a model may have none.
    """

    folder: Path
    prompt_template: PromptTemplate
    eos_tokens: frozenset[int]
    context_length: int


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device, and its files."""

    model: PreTrainedModel
    files: ModelFiles

    @property
    def prompt_template(self) -> PromptTemplate:
        """How messages become prompts for this model."""
        return self.files.prompt_template


def read_model(path: Path) -> ModelFiles:
    """Read all but the weights of `path`, a .gguf file or a directory; ModelMissing if it is not whole.

    A .gguf file is unpacked first, if it has not been. Nothing here touches a GPU.
    """
    if not path.exists():
        raise ModelMissing(f"no model at {path}")
    folder = unpacked(path) if path.is_file() else path
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not isinstance(tokenizer, TokenizersBackend):
        raise ModelMissing(f"the model at {path} has no tokenizer.json")
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return ModelFiles(
        folder=folder,
        prompt_template=_prompt_template(tokenizer),
        eos_tokens=_eos_tokens(folder, config, tokenizer),
        context_length=getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize,
    )


def load_model(path: Path, device: str) -> LoadedModel:
    """Load `path` on `device` ("cpu" or "cuda"); ModelMissing if there is nothing to load.

    float32 on the CPU, where bfloat16 is about ten times slower, and bfloat16 on CUDA.
    """
    files = read_model(path)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    loaded = AutoModelForCausalLM.from_pretrained(files.folder, local_files_only=True, dtype=dtype)
    model = cast(PreTrainedModel, loaded)
    return LoadedModel(model.to(device), files)  # type: ignore[arg-type]  # mypy takes a wrapped `to` for a function


def _prompt_template(tokenizer: TokenizersBackend) -> PromptTemplate:
    return PromptTemplate(
        tokenizer_json=tokenizer.backend_tokenizer.to_str(),
        chat_template=tokenizer.get_chat_template(),
        special_tokens={name: str(token) for name, token in tokenizer.special_tokens_map.items()},
    )


def _eos_tokens(folder: Path, config: PretrainedConfig, tokenizer: TokenizersBackend) -> frozenset[int]:
    """Ids that end an answer: the generation config may name several, the tokenizer names one."""
    if (folder / "generation_config.json").exists():
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    else:
        generation = GenerationConfig.from_model_config(config)
    named = generation.eos_token_id
    several = named if isinstance(named, list) else [named]
    return frozenset(token for token in [*several, tokenizer.eos_token_id] if token is not None)

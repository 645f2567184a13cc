"""Loads a chat model from a GGUF file or a Hugging Face directory. It never downloads from a hub."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
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

from worker.chat.gguf import LOCAL_DATA, unpack_gguf
from worker.jobs.errors import ModelMissing, StokerError
from worker.jobs.prompt.template import PromptTemplate

#: What a chat model is, for errors.
CHAT_MODEL = "a chat model is a .gguf file or a folder with config.json, tokenizer.json and *.safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """The contents of a model's files, except the weights.

    - `folder`: the Hugging Face directory of the model.
    - `eos_tokens`: the ids of the tokens that end an answer.
    - `context_length`: the model's own limit in tokens. Models with ALiBi or without attention may have no
      limit; then it is `sys.maxsize`.
    """

    folder: Path
    prompt_template: PromptTemplate
    eos_tokens: frozenset[int]
    context_length: int


@dataclass(frozen=True)
class LoadedModel:
    """A model with its weights on a device, and its files."""

    model: PreTrainedModel
    files: ModelFiles

    @property
    def prompt_template(self) -> PromptTemplate:
        """The template that turns messages into a prompt for this model."""
        return self.files.prompt_template


def read_model(path: Path, *, trust_remote_code: bool = False) -> ModelFiles:
    """Read all files of a model but its weights. Nothing here uses a GPU.

    `path` is a directory or a .gguf file. A .gguf file is unpacked first, unless that was done earlier.
    Python code in the directory runs only with `trust_remote_code`. Raises `ModelMissing` if there is no
    model, or if it lacks one of the files that a chat model has.
    """
    with _reported(path):
        return _read_model(path, trust_remote_code)


def _read_model(path: Path, trust_remote_code: bool) -> ModelFiles:
    if not path.exists():
        raise ModelMissing(f"no model at {path}")
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelMissing(f"{path} has no config.json: {CHAT_MODEL}")
    folder = unpack_gguf(path) if path.is_file() else path
    data = LOCAL_DATA | {"trust_remote_code": trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(folder, **data)
    if not isinstance(tokenizer, TokenizersBackend):
        raise ModelMissing(f"{path} has no tokenizer.json: {CHAT_MODEL}")
    if not tokenizer.chat_template:
        way_out = "take the model's Instruct or Chat version, or add its chat_template.jinja"
        raise ModelMissing(f"{path} has no chat template: {way_out}")
    config = AutoConfig.from_pretrained(folder, **data)
    return ModelFiles(
        folder=folder,
        prompt_template=_prompt_template(tokenizer),
        eos_tokens=_eos_tokens(folder, config, tokenizer),
        context_length=getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize,
    )


def load_model(path: Path, device: str) -> LoadedModel:
    """Load the model at `path` on `device` ("cpu" or "cuda").

    The weights are bfloat16 on CUDA and float32 on the CPU, where bfloat16 is about ten times slower. Raises
    `ModelMissing` if there is nothing to load.
    """
    files = read_model(path)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with _reported(path):
        loaded = AutoModelForCausalLM.from_pretrained(files.folder, dtype=dtype, **LOCAL_DATA)
        model = cast(PreTrainedModel, loaded)
        return LoadedModel(model.to(device), files)  # type: ignore[arg-type]  # mypy takes the wrapped `to` for a function


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Raise transformers' errors about the model as `ModelMissing`, with one line of their text.

    Errors of the operating system, such as a full disk, stay as they are.
    """
    try:
        yield
    except StokerError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # transformers' own have no number
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise ModelMissing(f"the model at {path} cannot be loaded: {reason}") from error


def _prompt_template(tokenizer: TokenizersBackend) -> PromptTemplate:
    named = tokenizer.chat_template if isinstance(tokenizer.chat_template, dict) else {}
    return PromptTemplate(
        tokenizer_json=tokenizer.backend_tokenizer.to_str(),
        chat_template=tokenizer.get_chat_template(),
        tool_template=named.get("tool_use", ""),
        special_tokens={name: str(token) for name, token in tokenizer.special_tokens_map.items()},
    )


def _eos_tokens(folder: Path, config: PretrainedConfig, tokenizer: TokenizersBackend) -> frozenset[int]:
    """Return the ids that end an answer: the generation config may name several, the tokenizer names one."""
    if (folder / "generation_config.json").exists():
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    else:
        generation = GenerationConfig.from_model_config(config)
    named = generation.eos_token_id
    several = named if isinstance(named, list) else [named]
    return frozenset(token for token in [*several, tokenizer.eos_token_id] if token is not None)

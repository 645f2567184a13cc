"""GGUF files: unpacked once into a Hugging Face directory, which loads in a tenth of the time."""

import logging
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

__all__ = ["unpacked"]

log = logging.getLogger(__name__)


def unpacked(gguf: Path) -> Path:
    """The directory beside `gguf` with its weights in float32, its tokenizer and its template.

    Its name holds the file's size and time, so that another file is unpacked anew. It appears whole or
    not at all: two workers may start at once. OSError if the folder cannot be written to.
    """
    stat = gguf.stat()
    target = gguf.with_name(f"{gguf.name}.{stat.st_size:x}-{stat.st_mtime_ns:x}")
    if target.is_dir():
        return target
    log.info("unpacking %s, once", gguf)
    part = gguf.with_name(f".{gguf.name}.{secrets.token_hex(4)}")
    part.mkdir()
    try:
        _unpack(gguf, part)
        for weights in part.glob("*.safetensors"):  # written as this user's alone: others may run workers
            weights.chmod(part.stat().st_mode & 0o666)
        part.rename(target)
        _remove_others(gguf, target)
    except OSError:
        if not target.is_dir():  # else another worker was first
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _remove_others(gguf: Path, target: Path) -> None:
    """Remove what was unpacked of former files of this name; a worker that has it open keeps it."""
    for folder in gguf.parent.glob(f"{gguf.name}.*-*"):
        if folder != target and re.fullmatch("[0-9a-f]+-[0-9a-f]+", folder.name[len(gguf.name) + 1 :]):
            shutil.rmtree(folder, ignore_errors=True)


def _unpack(gguf: Path, folder: Path) -> None:
    source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    AutoTokenizer.from_pretrained(gguf.parent, **source).save_pretrained(folder)
    dense: dict[str, Any] = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, **source, **dense)
    model.save_pretrained(folder)

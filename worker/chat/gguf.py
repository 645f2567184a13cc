"""Unpacks a GGUF file once into a Hugging Face directory, which loads in a tenth of the time."""

import logging
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

__all__ = ["LOCAL_DATA", "unpack_gguf"]

log = logging.getLogger(__name__)

#: Arguments of every `from_pretrained`: transformers fetches nothing, and runs no code of the model's folder.
LOCAL_DATA: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def _convert(gguf: Path, folder: Path) -> None:
    source: dict[str, Any] = {"gguf_file": gguf.name, **LOCAL_DATA}
    AutoTokenizer.from_pretrained(gguf.parent, **source).save_pretrained(folder)
    dense: dict[str, Any] = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, **source, **dense)
    model.save_pretrained(folder)


def unpack_gguf(gguf: Path, convert: Callable[[Path, Path], None] = _convert) -> Path:
    """Return the directory beside `gguf` that holds its weights in float32, its tokenizer and its template.

    The first call creates the directory; `convert(gguf, folder)` writes the files. The name contains the
    size and the modification time of the file, so a changed file is unpacked again. The directory appears
    complete or not at all, so several workers may start at once. Raises `OSError` if the parent folder is
    not writable.
    """
    stat = gguf.stat()
    target = gguf.with_name(f"{gguf.name}.{stat.st_size:x}-{stat.st_mtime_ns:x}")
    if target.is_dir():
        return target
    log.info("unpacking %s, once", gguf)
    part = gguf.with_name(f".{gguf.name}.{secrets.token_hex(4)}")
    part.mkdir()
    try:
        convert(gguf, part)
        # safetensors gives read access to this user only, but workers may run as other users.
        for weights in part.glob("*.safetensors"):
            weights.chmod(part.stat().st_mode & 0o666)
        part.rename(target)
        _remove_older(gguf, target)
    except OSError:
        if not target.is_dir():  # otherwise another worker was faster
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _remove_older(gguf: Path, target: Path) -> None:
    """Remove the directories of earlier files of this name.

    A worker that has such a file open can still read it.
    """
    for folder in gguf.parent.glob(f"{gguf.name}.*-*"):
        if folder != target and re.fullmatch("[0-9a-f]+-[0-9a-f]+", folder.name[len(gguf.name) + 1 :]):
            shutil.rmtree(folder, ignore_errors=True)

"""Reads the weights of a TensorFlow.js layers model: `model.json` and the files that it names."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worker.jobs.errors import ModelMissing

__all__ = ["read_weights"]


def read_weights(folder: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of convolutions in `folder` as a state dict of float32 tensors.

    `like` is the model's state dict. Its names are those of the file, with `.weight` for `/kernel` and
    `.bias` for `/bias`. Raises `ModelMissing` if the folder does not hold exactly these names and shapes.
    """
    try:
        tensors = dict(_tensors(folder))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelMissing(f"{folder} does not hold a TensorFlow.js layers model") from error
    if {name: tensor.shape for name, tensor in tensors.items()} != {
        name: t.shape for name, t in like.items()
    }:
        raise ModelMissing(f"{folder} does not hold the weights of this model")
    return tensors


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the values of each weight, with the axes in torch's order."""
    for group in json.loads((folder / "model.json").read_bytes())["weightsManifest"]:
        # The files of a group are the parts of one sequence of values.
        values = np.frombuffer(b"".join((folder / path).read_bytes() for path in group["paths"]), "<f4")
        sizes = [math.prod(weight["shape"]) for weight in group["weights"]]
        if sum(sizes) != len(values):
            raise ValueError("the files are longer or shorter than the weights")
        for weight, part in zip(group["weights"], np.split(values, np.cumsum(sizes)[:-1]), strict=True):
            name = weight["name"].replace("/kernel", ".weight").replace("/bias", ".bias")
            tensor = torch.from_numpy(part.reshape(weight["shape"]).astype(np.float32))
            yield name, tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor  # (k,k,in,out)

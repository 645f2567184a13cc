"""Reads the convolution weights of a tflite file in the order of its graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tflite
import torch
from torch import Tensor

from worker.jobs.errors import ModelMissing

_CONVOLUTIONS = {
    tflite.BuiltinOperator.CONV_2D: (0, 3, 1, 2),  # (out,k,k,in)
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: (3, 0, 1, 2),  # (1,k,k,channels)
    tflite.BuiltinOperator.CUSTOM: (
        3,
        0,
        1,
        2,
    ),  # MediaPipe's transposed convolution to one channel: (1,k,k,in)
}


def read_weights(path: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the names and shapes of `like`, whose order must be that of the file's convolutions.

    Raises ModelMissing if the file has other tensors than that.
    """
    content = path.read_bytes()
    tensors = list(_tensors(content)) if content[4:8] == b"TFL3" else []
    if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in like.values()]:
        raise ModelMissing(f"{path.name} does not hold the weights of this model")
    return dict(zip(like, tensors, strict=True))


def _tensors(content: bytes) -> Iterator[Tensor]:
    """Weight and bias of each convolution, as torch lays them out."""
    model = tflite.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    half: dict[int, int] = {}  # float32 tensor -> the float16 one that a DEQUANTIZE makes it from
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind == tflite.BuiltinOperator.DEQUANTIZE:
            half[operator.Outputs(0)] = operator.Inputs(0)
        elif kind in _CONVOLUTIONS:
            weight, bias = (operator.Inputs(slot) for slot in (1, 2))
            yield _tensor(model, graph, half.get(weight, weight)).permute(_CONVOLUTIONS[kind]).contiguous()
            yield _tensor(model, graph, half.get(bias, bias))


def _tensor(model: Any, graph: Any, index: int) -> Tensor:
    tensor = graph.Tensors(index)
    kind = np.float16 if tensor.Type() == tflite.TensorType.FLOAT16 else np.float32
    data = np.frombuffer(model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes(), kind)
    return torch.from_numpy(data.reshape(tensor.ShapeAsNumpy()).astype(np.float32))

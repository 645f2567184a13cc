"""Reads the weights of the convolutions and PReLUs of a tflite file in the order of its graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tflite
import torch
from torch import Tensor

from worker.jobs.errors import ModelMissing

__all__ = ["read_weights"]

#: For each kind of convolution: the axes of its tflite weights, in torch's order (out,in,k,k).
_CONVOLUTIONS = {
    tflite.BuiltinOperator.CONV_2D: (0, 3, 1, 2),  # (out,k,k,in)
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: (3, 0, 1, 2),  # (1,k,k,channels)
    # MediaPipe's transposed convolution to one channel: (1,k,k,in)
    tflite.BuiltinOperator.CUSTOM: (3, 0, 1, 2),
}


def read_weights(path: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in the tflite file at `path` as a state dict of float32 tensors.

    `like` is the model's state dict. It gives the names and shapes, in the order of the file's layers.
    Raises `ModelMissing` if the file is not tflite or holds tensors of other shapes.
    """
    content = path.read_bytes()
    tensors = list(_tensors(content)) if content[4:8] == b"TFL3" else []
    if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in like.values()]:
        raise ModelMissing(f"{path.name} does not hold the weights of this model")
    return dict(zip(like, tensors, strict=True))


def _tensors(content: bytes) -> Iterator[Tensor]:
    """Yield the weights of each layer, with their axes in torch's order: of a convolution also the bias."""
    model = tflite.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    half: dict[int, int] = {}  # index of a DEQUANTIZE's float32 output -> index of its float16 input
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
        elif kind == tflite.BuiltinOperator.PRELU:
            slopes = operator.Inputs(1)  # (1,1,channels)
            yield _tensor(model, graph, half.get(slopes, slopes)).flatten()


def _tensor(model: Any, graph: Any, index: int) -> Tensor:
    """Return the tensor as float32. The file stores it as float16 or float32."""
    tensor = graph.Tensors(index)
    kind = np.float16 if tensor.Type() == tflite.TensorType.FLOAT16 else np.float32
    data = np.frombuffer(model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes(), kind)
    return torch.from_numpy(data.reshape(tensor.ShapeAsNumpy()).astype(np.float32))

"""The network on a CPU, run by OpenVINO, which reads MediaPipe's tflite file itself.

OpenVINO joins each convolution with what follows it, and takes half of torch's CPU time for this network.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.devices.cores import usable_cores

__all__ = ["load_openvino"]

Pixels = NDArray[np.float32]

#: MediaPipe's transposed convolution with a kernel of 2x2 and stride 2, which is no operation of tflite.
CUSTOM_LAYER = "Convolution2DTransposeBias"


def load_openvino(weights: Path) -> Callable[[Tensor], Tensor] | None:
    """Return the function of `SelfieNet.forward` for one frame, or None if OpenVINO is not installed.

    Several threads may call it at once. `weights` is the tflite file.
    """
    if find_spec("openvino") is None:
        return None
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # else it reports its import to Google
    import openvino
    from openvino.frontend import ConversionExtension, FrontEndManager

    frontend = FrontEndManager().load_by_framework("tflite")
    frontend.add_extension(ConversionExtension(CUSTOM_LAYER, _double_size))
    model = frontend.convert(frontend.load(weights))
    cores = usable_cores()
    how = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}
    compiled = openvino.Core().compile_model(model, "CPU", how)
    requests: SimpleQueue[tuple[Any, Pixels, Pixels]] = SimpleQueue()
    for _ in range(cores):
        request = compiled.create_infer_request()
        # `data` is read here, in one thread. Its first two calls would wait for each other for ever, because
        # OpenVINO's binding initializes a static variable and needs the GIL for that.
        requests.put((request, request.get_input_tensor().data, request.get_output_tensor().data))

    def run(x: Tensor) -> Tensor:
        request, pixels, alpha = work = requests.get()
        try:
            np.copyto(pixels, x.permute(0, 2, 3, 1).numpy())
            request.start_async()
            request.wait()
            return torch.from_numpy(alpha.copy()).permute(0, 3, 1, 2)
        finally:
            requests.put(work)

    return run


def _double_size(node: Any) -> list[Any]:
    """Convert the custom layer to OpenVINO's operations. Its input is (N,H,W,C), its weight (1,2,2,C)."""
    from openvino import opset14 as operations

    x, weight, bias = (node.get_input(index) for index in range(3))
    pixels = operations.transpose(x, [0, 3, 1, 2])
    doubled = operations.convolution_backprop_data(pixels, operations.transpose(weight, [3, 0, 1, 2]), [2, 2])
    return [operations.add(operations.transpose(doubled, [0, 2, 3, 1]), bias).output(0)]

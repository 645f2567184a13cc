"""ESRGAN Slim in torch: it doubles the width and the height of frames.

Source: https://upscalerjs.com (npm `@upscalerjs/esrgan-slim` 1.0.0, folder `models/x2`). Licence of the model
and its weights: MIT. `net` holds the network.

The package's own definition of this model sets `inputRange` and `outputRange` to [0, 255]. So UpscalerJS
gives the network the values of pixels as they are, and clips its output to 0..255. The network has no custom
layers: `MultiplyBeta` and `PixelShuffle`, which the package also defines, belong to other architectures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from worker.jobs.errors import ModelMissing
from worker.video.model import Clip, FrameModel, Options, Output
from worker.video.models.esrgan_slim.net import EsrganNet
from worker.video.models.esrgan_slim.tfjs_weights import read_weights

__all__ = ["EsrganSlim"]


class EsrganSlim(FrameModel):
    """A `FrameModel` for frames of any size. It has no options.

    It processes one frame at a time, because its intermediate results need about 1.8 kB per pixel, which is
    1.7 GB for a frame of 1280x720. Whole batches are not faster, except for small frames on a GPU.

    On a CPU it computes in float32, and its values (0 to 255) are within 0.001 of the original's. On a GPU
    torch's convolutions use TF32, unless other code of the process has disabled it. TF32 triples the speed
    and moves values by up to 0.1. Half precision is a third faster still, but moves them by up to 0.17.
    """

    Options = Options

    def __init__(self, net: EsrganNet) -> None:
        self._net = net

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> Self:
        """Read the weights from the folder `weights` and move the net to `device`.

        The folder holds the package's `model.json` and `group1-shard1of1.bin`. Raises `ModelMissing` if no
        folder is given, or if the weights are not this model's.
        """
        if weights is None:
            raise ModelMissing("this model needs a folder of weights: run `stoker models esrgan-slim-x2`")
        net = EsrganNet()
        net.load_state_dict(read_weights(weights, net.state_dict()))
        net.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
        return cls(net)

    def output(self, clip: Clip, options: object) -> Output:
        """Return twice the clip's width and height."""
        return Output(width=2 * clip.width, height=2 * clip.height)

    def start(self, clip: Clip, options: object) -> Self:
        """Return the model itself, because a job has no state."""
        return self

    @torch.inference_mode()
    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Return (B,2H,2W,3) uint8 for `frames` (B,H,W,3) uint8 RGB, rounded to the nearest values.

        Each frame's result is independent of the others, so padding needs no special treatment.
        """
        count, height, width, channels = frames.shape
        doubled = frames.new_empty((count, 2 * height, 2 * width, channels))
        for frame, result in zip(torch.split(frames, 1), torch.split(doubled, 1), strict=True):
            # The permuted frame is channels-last in memory, as is the net.
            values = self._net(frame.permute(0, 3, 1, 2).float())
            result.copy_(values.round_().clamp_(0, 255).permute(0, 2, 3, 1))
        return doubled

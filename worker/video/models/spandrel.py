"""Restoration models of many architectures, which spandrel recognises by their weights.

Source: https://github.com/chaiNNer-org/spandrel. It is an extra: `pip install stoker[spandrel]`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor

from worker.jobs.errors import ConfigurationError, ModelMissing
from worker.video.model import Clip, Output
from worker.video.model import Options as NoOptions

__all__ = ["SpandrelModel"]


class SpandrelModel:
    """A `FrameModel` that runs an image model of spandrel on each frame."""

    Options = NoOptions
    before = after = 0
    sequential = False

    def __init__(self, descriptor: Any) -> None:
        self._descriptor = descriptor

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> Self:
        """Load the `.safetensors` file.

        Raises `ConfigurationError` if spandrel is not installed, and `ModelMissing` if the file has another
        form or spandrel knows no architecture for it.
        """
        if weights is None or weights.suffix != ".safetensors":
            raise ModelMissing("spandrel models are read from .safetensors files only: others can run code")
        try:
            from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
        except ImportError as error:
            raise ConfigurationError(f"install the extra `spandrel` for this model ({error})") from error
        try:
            descriptor = ModelLoader(device).load_from_file(weights)
        except UnsupportedModelError as error:
            raise ModelMissing(f"spandrel knows no architecture for {weights.name}") from error
        except SafetensorError as error:
            raise ModelMissing(f"{weights.name} is no file of safetensors ({error})") from error
        if not isinstance(descriptor, ImageModelDescriptor) or descriptor.input_channels != 3:
            raise ModelMissing(f"the model in {weights.name} does not turn one RGB image into another")
        descriptor.eval()
        return cls(descriptor)

    def output(self, clip: Clip, options: NoOptions) -> Output:
        """Return the size of the results, which is a multiple of the clip's."""
        scale = self._descriptor.scale
        return Output(width=clip.width * scale, height=clip.height * scale)

    def start(self, clip: Clip, options: NoOptions) -> Self:
        """Return the model itself, because no job leaves traces in it."""
        return self

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Return the results (B,H',W',3) of `frames` (B,H,W,3), both uint8 RGB.

        spandrel takes one image at a time, pads it to what the architecture needs, and crops the result.
        """
        pictures = frames.permute(0, 3, 1, 2).float() / 255
        results = torch.cat([self._descriptor(picture[None]) for picture in pictures])
        return (results * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1)

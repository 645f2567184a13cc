"""Models that were exported by `torch.export`, in a `.pt2` file. No code of the model is needed.

The file must map frames (B,3,H,W) float RGB in 0..1 to frames (B,3,H',W') of the same form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from worker.jobs.errors import InvalidOptions, ModelFailed, ModelMissing
from worker.video.model import Clip, Output
from worker.video.model import Options as NoOptions
from worker.video.models.exported_program.archive import checked_archive

__all__ = ["ExportedModel"]


class ExportedModel:
    """A `FrameModel` that runs an exported program."""

    Options = NoOptions
    before = after = 0
    sequential = False

    def __init__(self, module: Any, taken: Tensor, device: torch.device) -> None:
        self._module = module
        self._dtype = taken.dtype
        #: The dimensions of the input: a number, or a symbol of torch if any number goes.
        shape: tuple[Any, ...] = tuple(taken.shape)
        self._batch, _, *self._size = shape
        self._device = device
        self._sizes: dict[tuple[int, int], Output] = {}

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> Self:
        """Load the `.pt2` file. Raises `ModelMissing` if it is not safe, or its input is not (B,3,H,W)."""
        if weights is None:
            raise ModelMissing("an exported model needs its .pt2 file")
        archive = checked_archive(weights)
        try:
            program = torch.export.load(archive)
        except Exception as error:
            raise ModelMissing(f"torch cannot load {weights.name} ({_first_line(error)})") from error
        names = program.graph_signature.user_inputs
        inputs = [node.meta.get("val") for node in program.graph.nodes if node.name in names]
        if len(inputs) != 1 or not _is_batch(inputs[0]):
            raise ModelMissing(f"{weights.name} does not take one tensor (B,3,H,W)")
        return cls(move_to_device_pass(program, device).module(), inputs[0], device)

    def output(self, clip: Clip, options: NoOptions) -> Output:
        """Return the size of the results, which a blank frame of the clip's size tells.

        Raises `InvalidOptions` if the program does not take frames of this size.
        """
        size = clip.height, clip.width
        if size not in self._sizes:
            if all(isinstance(taken, int) for taken in self._size) and size != tuple(self._size):
                height, width = self._size
                raise InvalidOptions(f"the model takes frames of {width}x{height} pixels only")
            blank = torch.zeros(2, *size, 3, dtype=torch.uint8, device=self._device)
            try:
                with torch.inference_mode():
                    height, width = self(blank, 0).shape[1:3]
            except AssertionError as error:  # a guard of the program
                taken = f"{clip.width}x{clip.height} pixels ({_first_line(error)})"
                raise InvalidOptions(f"the model does not take frames of {taken}") from error
            self._sizes[size] = Output(width=width, height=height)
        return self._sizes[size]

    def start(self, clip: Clip, options: NoOptions) -> Self:
        """Return the model itself, because no job leaves traces in it."""
        return self

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Return the results (B,H',W',3) of `frames` (B,H,W,3), both uint8 RGB.

        A program of a fixed batch size gets the frames in groups of this size, the last one filled up.
        """
        pictures = frames.permute(0, 3, 1, 2).to(self._dtype) / 255
        if isinstance(self._batch, int):
            filling = pictures[-1:].expand(-len(pictures) % self._batch, -1, -1, -1)
            groups = torch.split(torch.cat((pictures, filling)), self._batch)
            results = torch.cat([self._run(group) for group in groups])[: len(frames)]
        else:
            results = self._run(pictures)
        return (results.float().clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1)

    def _run(self, pictures: Tensor) -> Tensor:
        results: Any = self._module(pictures)
        if not _is_batch(results):
            raise ModelFailed("the exported program does not return one tensor (B,3,H,W)")
        return cast(Tensor, results)


def _is_batch(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 4 and value.shape[1] == 3


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

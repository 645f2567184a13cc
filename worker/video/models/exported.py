"""Models that were exported by `torch.export`, in a `.pt2` file. No code of the model is needed.

The file must map frames (B,3,H,W) float RGB in 0..1 to frames (B,3,H',W') of the same form.
"""

from __future__ import annotations

import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from worker.jobs.errors import InvalidOptions, ModelMissing
from worker.video.model import Clip, Output
from worker.video.model import Options as NoOptions

__all__ = ["ExportedModel"]


class ExportedModel:
    """A `FrameModel` that runs an exported program."""

    Options = NoOptions
    before = after = 0
    sequential = False

    def __init__(self, module: Any, shape: tuple[Any, ...], device: torch.device) -> None:
        self._module = module
        #: The dimensions of the input: a number, or a symbol of torch if any number goes.
        self._shape = shape
        self._device = device
        self._sizes: dict[tuple[int, int], Output] = {}

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> Self:
        """Load the `.pt2` file. Raises `ModelMissing` if it is not safe, or its input is not (B,3,H,W)."""
        if weights is None:
            raise ModelMissing("an exported model needs its .pt2 file")
        check_archive(weights)
        program = torch.export.load(weights)
        names = program.graph_signature.user_inputs
        inputs = [node.meta["val"] for node in program.graph.nodes if node.name in names]
        if len(inputs) != 1 or inputs[0].dim() != 4 or inputs[0].shape[1] != 3:
            raise ModelMissing(f"{weights.name} does not take one tensor (B,3,H,W)")
        module = move_to_device_pass(program, device).module()
        return cls(module, tuple(inputs[0].shape), device)

    def output(self, clip: Clip, options: NoOptions) -> Output:
        """Return the size of the results, which a blank frame of the clip's size tells.

        Raises `InvalidOptions` if the program takes frames of another size only.
        """
        size = clip.height, clip.width
        if size not in self._sizes:
            batch, _, *fixed = self._shape
            for given, taken in zip(size, fixed, strict=True):
                if isinstance(taken, int) and given != taken:
                    raise InvalidOptions(f"this model takes frames of {fixed[1]}x{fixed[0]} pixels only")
            blank = torch.zeros(batch if isinstance(batch, int) else 1, 3, *size, device=self._device)
            with torch.inference_mode():
                height, width = self._module(blank).shape[-2:]
            self._sizes[size] = Output(width=width, height=height)
        return self._sizes[size]

    def start(self, clip: Clip, options: NoOptions) -> Self:
        """Return the model itself, because no job leaves traces in it."""
        return self

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        """Return the results (B,H',W',3) of `frames` (B,H,W,3), both uint8 RGB."""
        results: Tensor = self._module(frames.permute(0, 3, 1, 2).float() / 255)
        return (results.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1)


def check_archive(path: Path) -> None:
    """Raise `ModelMissing` if loading the file could run code that is in it.

    `torch.export.load` unpickles some members of the archive. It tries the safe way first, and then falls
    back to the unsafe one without a word (`torch/_export/serde/serialize.py` in torch 2.13). So the check
    loads each member in the safe way, and refuses the file if that fails.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                data = archive.read(member)
                if data.startswith((b"PK", b"\x80")):  # a file of torch.save, or a bare pickle
                    torch.load(BytesIO(data), weights_only=True, map_location="cpu")
                elif "custom_obj" in member:
                    raise ModelMissing(f"{path.name} is refused: it holds an object of a custom class")
    except zipfile.BadZipFile as error:
        raise ModelMissing(f"{path.name} is not a file of torch.export") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelMissing(f"{path.name} is refused: loading it could run code that is in it") from error

"""The interface of a frame model: what the author of a model for video jobs writes.

Importing this module needs pydantic only. A model gets batches of frames that are already on its device. It
returns frames, or facts about the frames. Stoker does the rest: it reads and writes files, pads the last
batch, warms the model up, measures memory, and continues a job whose worker was lost.
`docs/extending.md` shows how to write a model, and `stoker check` tests one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue, PlainValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:  # an author's model imports torch, after the worker has pinned its device
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Clip", "Colour", "FrameModel", "Options", "Output", "Pass", "Picture", "Upload"]

COLOUR_PATTERN = r"^#[0-9a-fA-F]{6}$"


def _colour(text: str) -> str:
    if not re.match(COLOUR_PATTERN, text):
        raise PydanticCustomError("colour", "must be a colour as #rrggbb, such as #00b140")
    return text


def _picture(value: Any) -> Any:
    if not hasattr(value, "shape"):
        raise PydanticCustomError("picture", "must be an image file")
    return value


#: An option that is a colour. Its value is text `#rrggbb`.
Colour = Annotated[
    str,
    AfterValidator(_colour),
    WithJsonSchema({"type": "string", "format": "color", "pattern": COLOUR_PATTERN}),
]
#: An option that is a second file. Its value is the path of the file, whose content nobody has checked.
Upload = Annotated[Path, Strict(), WithJsonSchema({"type": "string", "format": "binary"})]
if TYPE_CHECKING:
    Picture = NDArray[np.uint8]
else:
    #: An option that is an image file. Its value is the upright image, an array (height, width, 3) uint8 RGB.
    #: Stoker checks the file before it accepts the job, and decodes it in a sandbox.
    Picture = Annotated[
        Any,
        PlainValidator(_picture),
        WithJsonSchema({"type": "string", "format": "binary", "contentMediaType": "image/*"}),
    ]


# A model has a subclass of `Options` with one field for each option. The type of a field is bool, int, float,
# str, a `Literal` of texts, `Colour`, `Upload`, `Picture`, or a union of these. A field may have limits
# (`Field(ge=0, le=1)`) and should have a description. The API shows the options, with the docstring of the
# subclass or else this one, and checks them before it accepts a job.
class Options(BaseModel):
    """The options that a request may set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that comes in.

    `width` and `height` are in pixels. `rate` is in frames per second; the times of single frames may differ
    from it. `frames` is the number of frames that the file states, or None. The file may be wrong.
    """

    width: int
    height: int
    rate: Fraction
    frames: int | None


@dataclass(frozen=True, slots=True)
class Output:
    """The form of the results of one job.

    - `kind`: "video" if the results are frames, "records" if they are facts.
    - `width`, `height`: the size of the resulting frames in pixels, which must be even. None means the
      clip's.
    - `per`: (M, N) for M resulting frames for every N frames of the clip: (2, 1) doubles the frame rate.
    """

    kind: Literal["video", "records"] = "video"
    width: int | None = None
    height: int | None = None
    per: tuple[int, int] = (1, 1)

    def count(self, frames: int) -> int:
        """Return how many results there are for the clip's first `frames` frames.

        Result k belongs to the time at which k * N / M frames have passed, so a started group of N counts.
        """
        out, into = self.per
        return -(-frames * out // into)


class Pass(Protocol):
    """A job's way through the model, batch by batch.

    If the results depend on earlier batches, the pass also has `state` and `restore` (`StatefulPass`), or its
    model is `sequential`.
    """

    def __call__(self, frames: Tensor, valid: int) -> Tensor | Sequence[Mapping[str, JsonValue]]:
        """Return the results of one batch. Called under `torch.inference_mode`.

        - `frames`: uint8 (before + B + after, H, W, 3) RGB on the device. B is the same for the whole job. At
          the clip's ends, its first or last frame stands for the neighbours that do not exist.
          The pass must not write into them. Only a pass with state, or of a `sequential` model, may keep them
          for its next call.
        - `valid`: how many of the B frames are real. The others are padding. In a warm-up it is 0.

        Results of the kind "video" are uint8 (B * M / N, H', W', 3) RGB on the device, including those of the
        padding. Results of the kind "records" are one mapping for each of the `valid` frames, of values that
        JSON has. The pass must not change results that it has returned.
        """
        ...


class StatefulPass(Pass, Protocol):
    """A pass that another worker can continue."""

    def state(self) -> Mapping[str, Tensor]:
        """Return what the next batch needs of the batches so far. The tensors may be on any device."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue after the batch after which `state` was called. The tensors are in the CPU's memory."""
        ...


class FrameModel(Protocol):
    """A model that stays loaded for many jobs. All calls come from one thread.

    The batches of several jobs may take turns. So what belongs to a job belongs into its pass.
    """

    #: The class of the options: a subclass of `Options`.
    Options: type[Any]
    #: The numbers of neighbouring frames that each batch also gets, in front of it and behind it.
    before: int = 0
    after: int = 0
    #: Whether results depend on earlier batches although the pass has no `state`. A job that has lost its
    #: worker then starts over.
    sequential: bool = False

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> Self:
        """Load the model onto the device. `weights` is the file that the worker was started with, if any."""
        ...

    def output(self, clip: Clip, options: Any) -> Output:
        """Return the form of the results. `options` is an object of the class `Options`."""
        ...

    def start(self, clip: Clip, options: Any) -> Pass:
        """Begin one job. What has the size of the job's frames is allocated here."""
        ...

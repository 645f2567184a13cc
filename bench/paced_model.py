"""A frame model that takes the same time for each batch and no CPU, as a GPU would."""

from threading import Event

from torch import Tensor

from tests.support.video.frame_models import Identity

__all__ = ["BATCH_S", "PacedModel"]

#: Seconds for a batch.
BATCH_S = 0.05


class PacedModel(Identity):
    """Returns the frames as they are."""

    def __call__(self, frames: Tensor, valid: int) -> Tensor:
        Event().wait(BATCH_S)
        return super().__call__(frames, valid)

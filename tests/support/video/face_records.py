"""What the model `face_landmarks` finds in pictures, and what MediaPipe finds in them."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worker.video.model import Clip
from worker.video.models.face_landmarks import FaceLandmarks

__all__ = ["REFERENCE", "landmarks", "records"]

#: The landmarks that MediaPipe finds (see make_face_reference.py).
REFERENCE = {
    name: points / 100
    for name, points in np.load(Path(__file__).parents[2] / "fixtures" / "face_reference.npz").items()
}


@torch.inference_mode()
def records(
    model: FaceLandmarks,
    pictures: Iterable[NDArray[np.uint8]],
    valid: int | None = None,
    device: str = "cpu",
    **options: Any,
) -> list[Any]:
    """Return what the model finds in pictures of one size. With `valid`, the ones behind it are padding."""
    frames = torch.from_numpy(np.stack([*pictures])).to(device)
    count, height, width, _ = frames.shape
    run = model.start(Clip(width, height, Fraction(25), count), model.Options(**options))
    return [*run(frames, count if valid is None else valid)]


def landmarks(record: Any) -> NDArray[np.float64]:
    """Return the landmarks (faces,468,3) of a record."""
    return np.array([face["landmarks"] for face in record["faces"]]).reshape(-1, 468, 3)

"""ESRGAN Slim on a CUDA device, where torch's convolutions use TF32."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.support.assets import asset
from worker.devices.gpus import list_gpus

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not list_gpus(), reason="no CUDA device here"),
    pytest.mark.filterwarnings("default"),  # torch warns of TF32, and of its own code
]

REFERENCE = Path(__file__).parents[1] / "fixtures" / "esrgan_reference.npz"


def test_esrgan_is_within_a_thousandth_of_the_range_on_a_gpu() -> None:
    import torch

    from worker.video.model import Clip
    from worker.video.models.esrgan_slim import EsrganSlim

    reference, device = np.load(REFERENCE), torch.device("cuda")
    frame = torch.from_numpy(reference["frame"]).to(device)
    height, width, _ = frame.shape
    model = EsrganSlim.load(asset("esrgan-slim-x2"), device)
    doubled = model.start(Clip(width, height, Fraction(25), 1), model.Options())(frame[None], 1)[0]
    # Rounding to bytes adds half a level to the error.
    error = np.abs(doubled.cpu().numpy() - reference["doubled"].clip(0, 255)).max()
    print(f"largest error {error:.3f} of 255, with rounding")
    assert error < 255e-3 + 0.5

"""Colours are converted on a CUDA device as libav's scaler does it."""

import numpy as np
import pytest

from tests.support.video.scaler import largest_difference, scaled_to_planes, scaled_to_rgb
from worker.devices.gpus import list_gpus
from worker.video.colour.pixel_form import PixelForm

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not list_gpus(), reason="no CUDA device here"),
    pytest.mark.filterwarnings("default"),
]

SIZES = [(720, 1280), (146, 178)]


@pytest.mark.parametrize("form", [PixelForm.PLANES, PixelForm.FULL_PLANES])
@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_cuda_converts_planes_to_the_rgb_of_libav(
    height: int, width: int, matrix: int, form: PixelForm
) -> None:
    import torch

    from worker.video.inference.plane_converter import PlaneConverter

    planes = np.random.default_rng(0).integers(0, 256, (2, *form.shape(width, height)), np.uint8)
    rgb = PlaneConverter(matrix, form).to_rgb(torch.from_numpy(planes).cuda()).cpu().numpy()
    assert largest_difference(rgb, np.stack([scaled_to_rgb(frame, form, matrix) for frame in planes])) == 0


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_cuda_converts_rgb_to_the_planes_of_libav(height: int, width: int, matrix: int) -> None:
    import torch

    from worker.video.inference.plane_converter import PlaneConverter

    rgb = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    converter = PlaneConverter(matrix, PixelForm.RGB)
    planes = converter.to_planes(torch.from_numpy(rgb).cuda()).cpu().numpy()
    assert largest_difference(planes, np.stack([scaled_to_planes(picture, matrix) for picture in rgb])) <= 1

import numpy as np
import pytest
import torch

from tests.support.video.clips import gradient
from worker.video.models.selfie_segmentation.composite import blur, compositor, cover

FRAMES = torch.from_numpy(np.stack([gradient(index) for index in range(3)]))
CPU = torch.device("cpu")
HEIGHT, WIDTH = FRAMES.shape[1:3]
#: 0 in the left half, 1 in the right half.
ALPHA = (torch.arange(WIDTH) >= WIDTH // 2).float().expand(3, 1, HEIGHT, WIDTH)
LEFT, RIGHT = slice(None, WIDTH // 2), slice(WIDTH // 2, None)


def test_compositor_keeps_colour_and_foreground_exact() -> None:
    result = compositor("background", (10, 200, 255), HEIGHT, WIDTH, CPU)(FRAMES, ALPHA)
    assert (result.dtype, result.shape) == (torch.uint8, FRAMES.shape)
    assert (result[:, :, LEFT] == torch.tensor([10, 200, 255])).all()
    assert (result[:, :, RIGHT] == FRAMES[:, :, RIGHT]).all()


def test_compositor_blends_half_alpha_evenly() -> None:
    grey = torch.full((1, HEIGHT, WIDTH, 3), 100, dtype=torch.uint8)
    half = torch.full((1, 1, HEIGHT, WIDTH), 0.5)
    assert (compositor("background", (201, 201, 201), HEIGHT, WIDTH, CPU)(grey, half) == 151).all()


@pytest.mark.parametrize("size", [(2, 2), (48, 64), (100, 1000)])
def test_compositor_blends_as_one_formula_does(size: tuple[int, int]) -> None:
    """A CPU blends in bands of rows. The last one may be short."""
    frames = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    alpha = torch.rand((2, 1, *size))
    shares = alpha.permute(0, 2, 3, 1)
    expected = shares * frames + (1 - shares) * torch.tensor([7, 130, 250]) + 0.5
    result = compositor("background", (7, 130, 250), *size, CPU)(frames, alpha)
    assert (result.float() - expected.floor()).abs().max() <= 1
    assert (result.float() - expected + 0.5).abs().max() < 0.51


def test_compositor_matte_is_alpha_in_grey() -> None:
    result = compositor("matte", (0, 0, 0), HEIGHT, WIDTH, CPU)(FRAMES, ALPHA)
    assert (result[:, :, LEFT] == 0).all()
    assert (result[:, :, RIGHT] == 255).all()


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (720, 96)])
def test_blur_smooths_and_keeps_brightness(size: tuple[int, int]) -> None:
    noise = torch.randint(
        0, 256, (1, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    smooth = blur(noise)
    assert smooth.shape == noise.shape
    assert smooth.std() < noise.float().std() / (1 if size == (16, 16) else 2)
    assert (smooth.mean() - noise.float().mean()).abs() < 4
    plain = torch.full((1, *size, 3), 77, dtype=torch.uint8)
    torch.testing.assert_close(blur(plain), plain.float())


def test_blur_is_gaussian() -> None:
    point = torch.zeros((1, 81, 81, 3), dtype=torch.uint8)
    point[0, 40, 40] = 255
    spread = blur(point)[0, :, :, 0]
    place = torch.arange(81) - 40
    sigma = ((spread.sum(0) * place**2).sum() / spread.sum()).sqrt()
    assert float(sigma) == pytest.approx(81 / 40, rel=0.05)


def test_compositor_blur_keeps_foreground() -> None:
    result = compositor("blur", (0, 0, 0), HEIGHT, WIDTH, CPU)(FRAMES, ALPHA)
    assert (result[:, :, RIGHT] == FRAMES[:, :, RIGHT]).all()


def test_compositor_crops_image_evenly() -> None:
    """Of a wide picture of three bands, only the middle band covers the clip."""
    wide = np.zeros((48, 192, 3), np.uint8)
    wide[:, :64], wide[:, 64:128], wide[:, 128:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    result = compositor("background", wide, HEIGHT, WIDTH, CPU)(FRAMES, torch.zeros_like(ALPHA))
    assert (result == torch.tensor([0, 255, 0])).all()


@pytest.mark.parametrize("shape", [(7, 1000), (1000, 7), (1, 1), (48, 64), (500, 500)])
def test_cover_accepts_any_shape(shape: tuple[int, int]) -> None:
    image = torch.full((*shape, 3), 50, dtype=torch.uint8)
    assert cover(image, HEIGHT, WIDTH).shape == (HEIGHT, WIDTH, 3)
    torch.testing.assert_close(cover(image, HEIGHT, WIDTH), torch.full((HEIGHT, WIDTH, 3), 50.0))

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.support.clips import gradient
from worker.jobs.errors import BadVideo
from worker.video.inference.composite import blurred, compositor, cover, load_image

FRAMES = torch.from_numpy(np.stack([gradient(index) for index in range(3)]))
HEIGHT, WIDTH = FRAMES.shape[1:3]
#: 0 on the left half, 1 on the right half
ALPHA = (torch.arange(WIDTH) >= WIDTH // 2).float().expand(3, 1, HEIGHT, WIDTH)
LEFT, RIGHT = slice(None, WIDTH // 2), slice(WIDTH // 2, None)


def test_a_colour_is_exact_behind_and_the_frame_is_exact_in_front() -> None:
    result = compositor("background", (10, 200, 255), HEIGHT, WIDTH, "cpu")(FRAMES, ALPHA)
    assert (result.dtype, result.shape) == (torch.uint8, FRAMES.shape)
    assert (result[:, :, LEFT] == torch.tensor([10, 200, 255])).all()
    assert (result[:, :, RIGHT] == FRAMES[:, :, RIGHT]).all()


def test_half_an_alpha_is_half_of_each() -> None:
    grey = torch.full((1, HEIGHT, WIDTH, 3), 100, dtype=torch.uint8)
    half = torch.full((1, 1, HEIGHT, WIDTH), 0.5)
    assert (compositor("background", (201, 201, 201), HEIGHT, WIDTH, "cpu")(grey, half) == 151).all()


def test_the_matte_is_the_alpha_in_grey() -> None:
    result = compositor("matte", (0, 0, 0), HEIGHT, WIDTH, "cpu")(FRAMES, ALPHA)
    assert (result[:, :, LEFT] == 0).all()
    assert (result[:, :, RIGHT] == 255).all()


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (720, 96)])
def test_the_blur_smooths_and_keeps_the_brightness(size: tuple[int, int]) -> None:
    noise = torch.randint(
        0, 256, (1, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    smooth = blurred(noise)
    assert smooth.shape == noise.shape
    assert smooth.std() < noise.float().std() / (1 if size == (16, 16) else 2)
    assert (smooth.mean() - noise.float().mean()).abs() < 4
    plain = torch.full((1, *size, 3), 77, dtype=torch.uint8)
    torch.testing.assert_close(blurred(plain), plain.float())


def test_the_blur_is_a_gaussian() -> None:
    point = torch.zeros((1, 81, 81, 3), dtype=torch.uint8)
    point[0, 40, 40] = 255
    spread = blurred(point)[0, :, :, 0]
    place = torch.arange(81) - 40
    sigma = ((spread.sum(0) * place**2).sum() / spread.sum()).sqrt()
    assert float(sigma) == pytest.approx(81 / 40, rel=0.05)


def test_the_blur_keeps_the_foreground() -> None:
    result = compositor("blur", (0, 0, 0), HEIGHT, WIDTH, "cpu")(FRAMES, ALPHA)
    assert (result[:, :, RIGHT] == FRAMES[:, :, RIGHT]).all()


def save_png(path: Path, picture: "np.typing.NDArray[np.uint8]") -> Path:
    av.VideoFrame.from_ndarray(picture).save(path)
    return path


def test_an_image_covers_the_clip_and_loses_its_edges_evenly(tmp_path: Path) -> None:
    """A wide picture of three bands: of the outer ones as much is left on either side."""
    wide = np.zeros((48, 192, 3), np.uint8)
    wide[:, :64], wide[:, 64:128], wide[:, 128:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image = save_png(tmp_path / "wide.png", wide)
    result = compositor("background", image, HEIGHT, WIDTH, "cpu")(FRAMES, torch.zeros_like(ALPHA))
    assert (result == torch.tensor([0, 255, 0])).all()
    assert (load_image(image) == wide).all()


@pytest.mark.parametrize("shape", [(7, 1000), (1000, 7), (1, 1), (48, 64), (500, 500)])
def test_any_shape_covers(shape: tuple[int, int]) -> None:
    image = torch.full((*shape, 3), 50, dtype=torch.uint8)
    assert cover(image, HEIGHT, WIDTH).shape == (HEIGHT, WIDTH, 3)
    torch.testing.assert_close(cover(image, HEIGHT, WIDTH), torch.full((HEIGHT, WIDTH, 3), 50.0))


@pytest.mark.parametrize("content", [b"", b"no image", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(BadVideo, match="background image"):
        compositor("background", path, HEIGHT, WIDTH, "cpu")

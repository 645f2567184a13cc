"""Background images, which a sandbox decodes."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.video.clips import save_png
from tests.support.video.sandboxes import shared_sandboxes
from worker.jobs.errors import BadVideo
from worker.jobs.limits import DEFAULTS, Limits
from worker.video.decoding.image import read_background


def test_read_background_returns_pixels_of_image(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (48, 191, 3), np.uint8)
    path = save_png(tmp_path / "image.png", noise)
    with shared_sandboxes().sandbox(DEFAULTS, lambda: None) as sandbox:
        assert read_background(sandbox, (1, 2, 3)) == (1, 2, 3)
        image = read_background(sandbox, path)
    assert isinstance(image, np.ndarray)
    assert (image == noise).all()


@pytest.mark.parametrize("content", [b"", b"no image", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"])
def test_read_background_refuses_broken_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with (
        shared_sandboxes().sandbox(DEFAULTS, lambda: None) as sandbox,
        pytest.raises(BadVideo, match="background image"),
    ):
        read_background(sandbox, path)


def test_read_background_refuses_too_many_pixels(tmp_path: Path) -> None:
    path = save_png(tmp_path / "image.png", np.zeros((48, 64, 3), np.uint8))
    limits = Limits(max_pixels=48 * 64 - 1)
    with shared_sandboxes().sandbox(limits, lambda: None) as sandbox, pytest.raises(BadVideo):
        read_background(sandbox, path)

"""The encoder takes RGB and planes, and has copied them when `encode` returns."""

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.video.clips import Picture
from worker.video.colour.pixel_form import PixelForm
from worker.video.colour.tags import ColourTags, Matrix
from worker.video.decoding.header import ClipHeader
from worker.video.encoding.encoder import Encoder

#: The height is no multiple of 4, so a row of the array of planes has samples of both colour differences.
WIDTH, HEIGHT = 64, 46
HEADER = ClipHeader(
    WIDTH, HEIGHT, None, Fraction(25), Fraction(1, 25), 0, ColourTags(Matrix.BT709, 1, 1), None
)


def coloured(form: PixelForm) -> Picture:
    """Return a frame of the colour (0, 177, 64), whose codes in BT.709 are 129, 96 and 55."""
    frames = np.empty((1, *form.shape(WIDTH, HEIGHT)), np.uint8)
    if form is PixelForm.RGB:
        frames[:] = 0, 177, 64
    else:
        samples = WIDTH * HEIGHT // 4
        frames.reshape(-1)[:] = np.repeat([129, 96, 55], [4 * samples, samples, samples])
    return frames


@pytest.mark.parametrize("form", [PixelForm.RGB, PixelForm.PLANES])
def test_encoder_has_copied_frames_when_it_returns(tmp_path: Path, form: PixelForm) -> None:
    path = tmp_path / "segment.nut"
    with closing(Encoder(path, HEADER)) as encoder:
        for index in range(20):
            frames = coloured(form)
            encoder.encode(frames, [index])
            frames[:] = 255
        encoder.finish()
    with av.open(path) as container:
        codes = [frame.to_ndarray().reshape(-1) for frame in container.decode(video=0)]
    assert len(codes) == 20
    expected = coloured(PixelForm.PLANES).reshape(-1)
    assert max(np.abs(frame.astype(int) - expected).max() for frame in codes) <= 2

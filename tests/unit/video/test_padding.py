import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.video.colour.pixel_form import PixelForm
from worker.video.inference.padding import Pad, cut, fill

BATCH = 16


def numbered(count: int) -> "np.typing.NDArray[np.uint8]":
    return np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2).repeat(3, 3)


@given(valid=st.integers(1, BATCH), pad=st.sampled_from(["last", "zeros"]))
def test_padding_fills_in_place_and_cuts_to_real_frames(valid: int, pad: Pad) -> None:
    frames = numbered(BATCH)
    assert fill(frames, valid, pad) == BATCH - valid
    assert frames.shape == (BATCH, 2, 2, 3)
    assert (frames[:valid] == numbered(BATCH)[:valid]).all()
    assert (frames[valid:] == (valid if pad == "last" else 0)).all()
    assert cut(frames, valid).tolist() == numbered(valid).tolist()


def test_padding_of_planes_is_black() -> None:
    frames = np.full((3, 6, 4), 77, np.uint8)
    assert fill(frames, 1, "zeros", PixelForm.PLANES) == 2
    assert (frames[0] == 77).all()
    assert (frames[1:, :4] == 16).all()
    assert (frames[1:, 4:] == 128).all()


@given(valid=st.integers(1, BATCH))
def test_padding_cut_leaves_list_unchanged(valid: int) -> None:
    """`cut` avoids two errors of a published snippet.

    That snippet pads with `frames += [frames[-1]] * missing` and returns `out[:len(frames)]`. So it changes
    the caller's list, and because that list is longer now, it returns the padding too.
    """
    results = list(range(BATCH))
    assert cut(results, valid) == list(range(valid))
    assert results == list(range(BATCH))


@pytest.mark.parametrize("valid", [0, -1, BATCH + 1])
def test_padding_refuses_impossible_count(valid: int) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        fill(numbered(BATCH), valid, "last")

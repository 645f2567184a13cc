import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.video.inference.padding import Pad, cut, fill

BATCH = 16


def numbered(count: int) -> "np.typing.NDArray[np.uint8]":
    return np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2).repeat(3, 3)


@given(valid=st.integers(1, BATCH), pad=st.sampled_from(["last", "zeros"]))
def test_fills_up_in_place_and_cuts_back_to_exactly_the_real_frames(valid: int, pad: Pad) -> None:
    frames = numbered(BATCH)
    assert fill(frames, valid, pad) == BATCH - valid
    assert frames.shape == (BATCH, 2, 2, 3)
    assert (frames[:valid] == numbered(BATCH)[:valid]).all()
    assert (frames[valid:] == (valid if pad == "last" else 0)).all()
    assert cut(frames, valid).tolist() == numbered(valid).tolist()


@given(valid=st.integers(1, BATCH))
def test_a_list_of_results_is_cut_to_the_real_ones_and_left_as_it_was(valid: int) -> None:
    """The published snippet pads with `frames += [frames[-1]] * missing` and returns `out[:len(frames)]`.

    That changes the caller's list, and, its length having grown, returns the padding as well.
    """
    results = list(range(BATCH))
    assert cut(results, valid) == list(range(valid))
    assert results == list(range(BATCH))


@pytest.mark.parametrize("valid", [0, -1, BATCH + 1])
def test_refuses_a_count_that_the_batch_cannot_hold(valid: int) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        fill(numbered(BATCH), valid, "last")

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.assets import asset
from worker.jobs.errors import ModelMissing
from worker.video.models import MODELS
from worker.video.models.selfie import SelfieSegmentation

REFERENCE = Path(__file__).parents[1] / "fixtures" / "selfie_reference.npz"


@pytest.fixture(scope="module")
def model() -> SelfieSegmentation:
    return SelfieSegmentation.load(asset("selfie_segmentation.tflite"), "cpu")


@pytest.mark.parametrize("name", ["square", "frame"])
def test_the_alpha_is_mediapipes(model: SelfieSegmentation, name: str) -> None:
    """`square` is the bare net, `frame` the whole way: down to 256x256 and up again to the clip's size."""
    reference = np.load(REFERENCE)
    alpha = model(torch.from_numpy(reference[name])[None], 1)[0, 0].numpy()
    expected = reference[f"{name}_alpha"] / 65535
    assert alpha.shape == expected.shape
    assert np.abs(alpha - expected).max() < 1e-3


@pytest.mark.parametrize("fill", [0, 255])
def test_padding_does_not_change_what_the_model_says_of_a_frame(model: SelfieSegmentation, fill: int) -> None:
    frame = torch.from_numpy(np.load(REFERENCE)["frame"])
    batch = torch.full((4, *frame.shape), fill, dtype=torch.uint8)
    batch[0] = frame
    torch.testing.assert_close(model(batch, 1)[0], model(frame[None], 1)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (720, 1280), (1280, 720)])
def test_the_alpha_has_the_clips_size(model: SelfieSegmentation, size: tuple[int, int]) -> None:
    alpha = model(torch.zeros((2, *size, 3), dtype=torch.uint8), 2)
    assert alpha.shape == (2, 1, *size)
    assert 0 <= alpha.min() <= alpha.max() <= 1


def test_a_file_with_other_weights_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "model.tflite"
    wrong.write_bytes(b"not a model")
    with pytest.raises(ModelMissing, match=r"model\.tflite does not hold the weights"):
        MODELS["selfie_segmentation"].load(wrong, "cpu")

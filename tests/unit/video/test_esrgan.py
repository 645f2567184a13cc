import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.support.assets import asset
from worker.jobs.errors import ModelMissing
from worker.video.model import Clip, FrameModel, Options, Output
from worker.video.models.esrgan_slim import EsrganSlim
from worker.video.models.esrgan_slim.net import EsrganNet
from worker.video.models.esrgan_slim.tfjs_weights import read_weights

#: A part of a frame, and what TensorFlow.js computes for it (see make_esrgan_reference.py).
REFERENCE = Path(__file__).parents[2] / "fixtures" / "esrgan_reference.npz"
CPU = torch.device("cpu")
WEIGHTS = "group1-shard1of1.bin"


@pytest.fixture(scope="module")
def weights() -> Path:
    return asset("esrgan-slim-x2")


@pytest.fixture(scope="module")
def model(weights: Path) -> FrameModel:
    return EsrganSlim.load(weights, CPU)


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Path:
    """Return a copy of the weights' folder."""
    for file in weights.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def reference(name: str) -> Tensor:
    array: NDArray[np.generic] = np.load(REFERENCE)[name]
    return torch.from_numpy(array)


def double(model: FrameModel, frames: Tensor, valid: int) -> Tensor:
    """Run the frames as a job with one batch."""
    height, width = frames.shape[1:3]
    results = model.start(Clip(width, height, Fraction(25), None), Options())(frames, valid)
    assert isinstance(results, Tensor)
    return results


@torch.inference_mode()
def test_esrgan_net_equals_tensorflow_js(weights: Path) -> None:
    net = EsrganNet()
    net.load_state_dict(read_weights(weights, net.state_dict()))
    doubled = net(reference("frame").permute(2, 0, 1)[None].float())[0].permute(1, 2, 0)
    expected = reference("doubled")
    assert expected.max() > 255, "the output exceeds the range that the model clips it to"
    torch.testing.assert_close(doubled, expected, atol=1e-3, rtol=0)


def test_esrgan_rounds_and_clips_to_bytes(model: FrameModel) -> None:
    doubled = double(model, reference("frame")[None], 1)[0]
    assert doubled.dtype == torch.uint8
    # Half a level by rounding, and 1e-3 by the net.
    torch.testing.assert_close(doubled.float(), reference("doubled").clamp(0, 255), atol=0.501, rtol=0)


@pytest.mark.parametrize("fill", [0, 255])
def test_esrgan_ignores_padding(model: FrameModel, fill: int) -> None:
    frame = reference("frame")
    batch = torch.full((3, *frame.shape), fill, dtype=torch.uint8)
    batch[1] = frame
    assert torch.equal(double(model, batch, 2)[1], double(model, frame[None], 1)[0])


@pytest.mark.parametrize("size", [(1, 1), (16, 17), (33, 8)])
def test_esrgan_doubles_any_size(model: FrameModel, size: tuple[int, int]) -> None:
    height, width = size
    output = model.output(Clip(width, height, Fraction(25), None), model.Options())
    assert output == Output("video", 2 * width, 2 * height, (1, 1))
    for valid in (0, 2):
        doubled = double(model, torch.zeros((2, height, width, 3), dtype=torch.uint8), valid)
        assert doubled.shape == (2, 2 * height, 2 * width, 3)


def test_esrgan_refuses_weights_of_other_names_or_shapes(folder: Path) -> None:
    for name, shape in (("F_9/kernel", [3, 3, 64, 64]), ("F_0/kernel", [64, 3, 3, 64])):
        content = json.loads((folder / "model.json").read_bytes())
        content["weightsManifest"][0]["weights"][0] |= {"name": name, "shape": shape}
        (folder / "other").mkdir(exist_ok=True)
        (folder / "other" / "model.json").write_text(json.dumps(content))
        (folder / "other" / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
        with pytest.raises(ModelMissing, match="other does not hold the weights of this model"):
            EsrganSlim.load(folder / "other", CPU)


@pytest.mark.parametrize("size", [0, 888_296, 888_299, 888_304])
def test_esrgan_refuses_weights_of_another_length(folder: Path, size: int) -> None:
    content = (folder / WEIGHTS).read_bytes() + bytes(4)
    (folder / WEIGHTS).write_bytes(content[:size])
    with pytest.raises(ModelMissing, match=r"does not hold a TensorFlow\.js layers model"):
        EsrganSlim.load(folder, CPU)


@pytest.mark.parametrize("content", [b"not JSON", b"[]", b"{}", b'{"weightsManifest": [1]}'])
def test_esrgan_refuses_another_model_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.json").write_bytes(content)
    for path in (tmp_path, tmp_path / "model.json", tmp_path / "missing"):
        with pytest.raises(ModelMissing, match=rf"{path.name} does not hold a TensorFlow\.js layers model"):
            EsrganSlim.load(path, CPU)


def test_esrgan_needs_weights() -> None:
    with pytest.raises(ModelMissing, match="run `stoker models esrgan-slim-x2`"):
        EsrganSlim.load(None, CPU)

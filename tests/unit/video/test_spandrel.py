"""Models that spandrel knows. It needs torchvision, so most tests run only where both are installed."""

import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from worker.jobs.errors import ConfigurationError, ModelMissing
from worker.video.model import Clip, Options
from worker.video.models.spandrel import SpandrelModel

CPU = torch.device("cpu")
CLIP = Clip(30, 22, Fraction(25), None)


def test_spandrel_model_is_read_from_safetensors_only(tmp_path: Path) -> None:
    for weights in (None, tmp_path / "net.pth", tmp_path / "net.pt"):
        with pytest.raises(ModelMissing, match=r"from \.safetensors files only: others can run code"):
            SpandrelModel.load(weights, CPU)


def test_spandrel_model_names_the_extra_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ConfigurationError, match="install the extra `spandrel`"):
        SpandrelModel.load(tmp_path / "net.safetensors", CPU)


@torch.inference_mode()
def test_spandrel_model_gives_the_frames_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    compact = pytest.importorskip("spandrel.architectures.Compact.__arch.SRVGG")
    net = compact.SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=2).eval()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    model = SpandrelModel.load(tmp_path / "net.safetensors", CPU)
    output = model.output(CLIP, Options())
    assert (output.width, output.height) == (60, 44)
    frames = torch.randint(256, (3, CLIP.height, CLIP.width, 3), dtype=torch.uint8)
    expected = net(frames.permute(0, 3, 1, 2) / 255).clamp(0, 1).permute(0, 2, 3, 1) * 255
    results = model.start(CLIP, Options())(frames, 3)
    assert results.dtype == torch.uint8
    assert (results.float() - expected).abs().max() < 0.51


def test_spandrel_model_of_other_weights_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    pytest.importorskip("spandrel")
    weights = tmp_path / "net.safetensors"
    save_file({"kernel": torch.zeros(3, 3)}, weights)
    with pytest.raises(ModelMissing, match=r"^spandrel knows no architecture for net\.safetensors$"):
        SpandrelModel.load(weights, CPU)
    weights.write_bytes(b"not weights")
    with pytest.raises(ModelMissing, match=r"^net\.safetensors is no file of safetensors"):
        SpandrelModel.load(weights, CPU)

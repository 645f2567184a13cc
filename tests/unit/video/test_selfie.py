import importlib
import sys
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.assets import asset
from worker.jobs.errors import ModelMissing
from worker.video.model import Clip
from worker.video.models.selfie_segmentation import (
    MattingOptions,
    MattingPass,
    SelfieSegmentation,
    SmoothMattingPass,
    openvino_net,
)
from worker.video.models.selfie_segmentation.net import SelfieNet
from worker.video.models.tflite_weights import read_weights

#: Pictures, and the alpha that MediaPipe computes for them (see make_selfie_reference.py).
CPU = torch.device("cpu")
REFERENCE = Path(__file__).parents[2] / "fixtures" / "selfie_reference.npz"

#: torch's compiler warns about torch's own code when it is imported.
IMPORTS_TORCHSCRIPT = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture(scope="module")
def model() -> SelfieSegmentation:
    return SelfieSegmentation.load(asset("selfie_segmentation.tflite"), CPU)


@pytest.mark.parametrize("name", ["square", "frame"])
def test_selfie_alpha_equals_mediapipe(model: SelfieSegmentation, name: str) -> None:
    """`square` tests the net alone. `frame` also tests the resizing to 256x256 and back."""
    reference = np.load(REFERENCE)
    alpha = model.alpha(torch.from_numpy(reference[name])[None])[0, 0].numpy()
    expected = reference[f"{name}_alpha"] / 65535
    assert alpha.shape == expected.shape
    assert np.abs(alpha - expected).max() < 1e-3


def test_selfie_keeps_openvino_from_reporting_its_use(model: SelfieSegmentation) -> None:
    assert "openvino" in sys.modules
    with pytest.raises(ImportError):
        importlib.import_module("openvino_telemetry")


def test_selfie_works_alike_without_openvino(
    monkeypatch: pytest.MonkeyPatch, model: SelfieSegmentation
) -> None:
    monkeypatch.setattr(openvino_net, "find_spec", lambda name: None)
    plain = SelfieSegmentation.load(asset("selfie_segmentation.tflite"), CPU)
    frame = torch.from_numpy(np.load(REFERENCE)["frame"])[None]
    torch.testing.assert_close(model.alpha(frame), plain.alpha(frame), atol=1e-3, rtol=0)


@pytest.mark.parametrize("fill", [0, 255])
def test_selfie_ignores_padding(model: SelfieSegmentation, fill: int) -> None:
    frame = torch.from_numpy(np.load(REFERENCE)["frame"])
    batch = torch.full((4, *frame.shape), fill, dtype=torch.uint8)
    batch[0] = frame
    torch.testing.assert_close(model.alpha(batch)[0], model.alpha(frame[None])[0], atol=1e-5, rtol=0)


def test_selfie_alpha_of_a_batch_equals_that_of_its_frames(model: SelfieSegmentation) -> None:
    """A CPU takes a batch in parts. The last one may be short."""
    frames = torch.randint(0, 256, (5, 40, 60, 3), dtype=torch.uint8)
    alone = torch.cat([model.alpha(frame[None]) for frame in frames])
    torch.testing.assert_close(model.alpha(frames), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(2, 2), (16, 16), (720, 1280), (1280, 720)])
def test_selfie_alpha_has_frame_size(model: SelfieSegmentation, size: tuple[int, int]) -> None:
    alpha = model.alpha(torch.zeros((2, *size, 3), dtype=torch.uint8))
    assert alpha.shape == (2, 1, *size)
    assert 0 <= alpha.min() <= alpha.max() <= 1


def test_selfie_refuses_other_weights(tmp_path: Path) -> None:
    wrong = tmp_path / "model.tflite"
    wrong.write_bytes(b"not a model")
    with pytest.raises(ModelMissing, match=r"model\.tflite does not hold the weights"):
        SelfieSegmentation.load(wrong, CPU)


@IMPORTS_TORCHSCRIPT
def test_selfie_compiles_for_one_shape_and_all_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch only traces the net here. `tests/gpu` generates code too, which needs a compiler and minutes."""
    weights = asset("selfie_segmentation.tflite")
    plain, compiled = (SelfieSegmentation.load(weights, CPU) for _ in range(2))
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda net, *, mode, **how: compile_(net, backend="eager", **how)
    )
    compiled.compile()
    frames = torch.randint(0, 256, (5, 40, 60, 3), dtype=torch.uint8)
    torch.testing.assert_close(compiled.alpha(frames), plain.alpha(frames), atol=1e-4, rtol=0)
    torch.set_num_threads(torch.get_num_threads())  # for new threads: those of `plain` have set it to 1
    results: list[Tensor | RuntimeError] = []

    def call(frames: Tensor) -> None:
        try:
            results.append(compiled.alpha(frames))
        except RuntimeError as error:
            results.append(error)

    with torch.compiler.set_stance("fail_on_recompile"):
        for batch in (frames, frames[:4]):
            thread = threading.Thread(target=call, args=(batch,))
            thread.start()
            thread.join()
    same_shape, short = results
    assert isinstance(same_shape, Tensor)
    torch.testing.assert_close(same_shape, plain.alpha(frames), atol=1e-4, rtol=0)
    assert isinstance(short, RuntimeError), "a short batch needs another compilation"


def test_selfie_needs_full_float32() -> None:
    """Rounding to 10 bits, as half precision and TF32 do, moves the matte by more than the tolerance."""
    net = SelfieNet()
    net.load_state_dict(read_weights(asset("selfie_segmentation.tflite"), net.state_dict()))
    model = SelfieSegmentation(net.eval(), CPU)
    frame = torch.from_numpy(np.load(REFERENCE)["frame"])[None]
    exact = model.alpha(frame)

    def rounded(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor.half().float() for tensor in inputs)

    hook = net.stem.register_forward_pre_hook(rounded)
    assert (model.alpha(frame) - exact).abs().max() > 2e-3
    hook.remove()
    torch.testing.assert_close(model.alpha(frame), exact)


def start(model: SelfieSegmentation, smooth: float) -> MattingPass:
    return model.start(Clip(64, 48, Fraction(25), None), MattingOptions(effect="matte", smooth=smooth))


def test_selfie_smooth_averages_mattes_over_time_and_continues_with_its_state(
    monkeypatch: pytest.MonkeyPatch, model: SelfieSegmentation
) -> None:
    alphas = torch.rand((7, 1, 48, 64))
    monkeypatch.setattr(model, "alpha", lambda frames: alphas[frames[:, 0, 0, 0].long()].clone())
    frames = torch.arange(7, dtype=torch.uint8)[:, None, None, None].expand(7, 48, 64, 3)
    expected = [alphas[0, 0]]
    for alpha in alphas[1:, 0]:
        expected.append(0.75 * expected[-1] + 0.25 * alpha)
    smooth = start(model, 0.75)
    first = smooth(frames[:4], 3)[:3]  # the fourth frame is padding
    smooth(frames[4:], 0)  # as in a warm-up
    other = start(model, 0.75)
    assert isinstance(smooth, SmoothMattingPass)
    assert isinstance(other, SmoothMattingPass)
    other.restore(smooth.state())
    results = torch.cat([first, other(frames[3:], 4)])[..., 0].float()
    torch.testing.assert_close(results, torch.stack(expected) * 255, atol=0.51, rtol=0)
    torch.testing.assert_close(
        start(model, 0)(frames, 7)[..., 0].float(), alphas[:, 0] * 255, atol=0.51, rtol=0
    )
    assert not hasattr(start(model, 0), "state")

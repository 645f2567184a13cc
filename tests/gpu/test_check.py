"""`stoker check` of Stoker's own models on a CUDA device."""

import pytest
from click.testing import CliRunner

from tests.support.assets import asset
from worker.devices.gpus import list_gpus
from worker.video.check.command import main

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not list_gpus(), reason="no CUDA device here"),
    pytest.mark.filterwarnings("default"),  # torch warns of TF32, and of its own code
]


@pytest.mark.parametrize(
    "model", ["selfie_segmentation --set smooth=0.6", "esrgan-slim-x2", "face_landmarks"]
)
def test_check_passes_stokers_models_on_a_gpu(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the command sets it
    asset(model.split()[0] + ".tflite" * model.startswith("selfie"))
    clip = ["--clip", str(asset("carphone_pristine.mp4")), "--frames", "100", "--device", "cuda"]
    result = CliRunner().invoke(main, [*model.split(), *clip])
    print(result.output)
    assert result.exit_code == 0, result.output
    assert "(cuda)" in result.output

"""Face landmarks on a CUDA device. With -s it prints the figures."""

import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from tests.support.assets import asset
from tests.support.video.face_pictures import face_pictures
from tests.support.video.face_records import REFERENCE, landmarks, records
from worker.devices.gpus import list_gpus
from worker.video.model import Clip
from worker.video.models.face_landmarks import FaceLandmarks

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not list_gpus(), reason="no CUDA device here")]


@pytest.fixture(scope="module")
def model() -> FaceLandmarks:
    return FaceLandmarks.load(asset("face_landmarks"), torch.device("cuda"))


def test_landmarks_on_gpu_equal_mediapipe(model: FaceLandmarks) -> None:
    for name, picture in face_pictures().items():
        (record,) = records(model, [picture], device="cuda")
        np.testing.assert_allclose(landmarks(record), REFERENCE[name], rtol=0, atol=0.1)


@pytest.mark.parametrize("name", ["carphone_pristine.mp4", "bigbuckbunny.mp4"])
def test_bare_loop_on_gpu_reserves_no_more_memory(model: FaceLandmarks, name: str) -> None:
    with av.open(str(asset(name))) as container:
        clip = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    frames = torch.from_numpy(clip).cuda()
    batches = [frames[start : start + 16] for start in range(0, len(frames) - 15, 16)]
    height, width = clip.shape[1:3]
    run = model.start(Clip(width, height, Fraction(30), None), model.Options())
    with torch.inference_mode():
        for _ in range(3):
            run(batches[0], 0)
        reserved, began = torch.cuda.memory_reserved(), time.perf_counter()
        found = [record for batch in batches for record in run(batch, 16)]
    rate = len(found) / (time.perf_counter() - began)
    sys.stdout.write(f"{name}: {rate:.0f} frames/s, {reserved >> 20} MiB reserved\n")
    assert torch.cuda.memory_reserved() == reserved

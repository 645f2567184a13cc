import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.support.assets import asset
from tests.support.video.face_pictures import CLIP_FRAMES, face_pictures
from tests.support.video.face_records import REFERENCE, landmarks, records
from worker.jobs.errors import ModelMissing
from worker.video.model import Clip, Output
from worker.video.models.face_landmarks import FaceLandmarks

CPU = torch.device("cpu")
PICTURES = face_pictures()


@pytest.fixture(scope="module")
def model() -> FaceLandmarks:
    return FaceLandmarks.load(asset("face_landmarks"), CPU)


@pytest.mark.parametrize("name", PICTURES)
def test_landmarks_equal_mediapipe(model: FaceLandmarks, name: str) -> None:
    (record,) = records(model, [PICTURES[name]])
    found = landmarks(record)
    assert found.shape == REFERENCE[name].shape, "the same number of faces"
    np.testing.assert_allclose(found, REFERENCE[name], rtol=0, atol=0.05)


def test_landmarks_of_clip_are_within_a_pixel_of_mediapipe(model: FaceLandmarks) -> None:
    with av.open(str(asset("carphone_pristine.mp4"))) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in container.decode(video=0)]
    for number, record in zip(
        CLIP_FRAMES, records(model, [frames[number] for number in CLIP_FRAMES]), strict=True
    ):
        np.testing.assert_allclose(landmarks(record), REFERENCE[f"frame_{number}"], rtol=0, atol=1)


@pytest.mark.parametrize("filling", ["pair", "black"])
def test_record_of_frame_depends_on_no_other_frame(model: FaceLandmarks, filling: str) -> None:
    """The padding has faces too, and the frames have more faces than the landmarks' net takes at once."""
    pair = PICTURES["pair"]
    blank = np.zeros_like(pair)
    other = pair if filling == "pair" else blank
    (alone,) = records(model, [pair])
    padded = records(model, [pair, pair[:, ::-1], blank, other, other], valid=3)
    assert [len(record["faces"]) for record in padded] == [2, 2, 0]
    np.testing.assert_allclose(landmarks(padded[0]), landmarks(alone), rtol=0, atol=0.011)
    assert padded == records(model, [pair, pair[:, ::-1], blank, blank, blank], valid=3)


def test_frame_without_face_has_empty_record(model: FaceLandmarks) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (72, 128, 3), np.uint8)
    assert records(model, [np.zeros_like(noise), noise]) == [{"faces": []}, {"faces": []}]


def test_warm_up_has_no_records(model: FaceLandmarks) -> None:
    assert records(model, [PICTURES["pair"]] * 2, valid=0) == []


@pytest.mark.parametrize("size", [(16, 16), (2, 2), (720, 1280)])
def test_frames_may_have_any_size(model: FaceLandmarks, size: tuple[int, int]) -> None:
    assert records(model, [np.zeros((*size, 3), np.uint8)] * 2) == [{"faces": []}] * 2


def test_max_faces_keeps_the_most_probable(model: FaceLandmarks) -> None:
    (both,) = records(model, [PICTURES["pair"]])
    (first,) = records(model, [PICTURES["pair"]], max_faces=1)
    assert both["faces"][0]["score"] >= both["faces"][1]["score"]
    assert first["faces"] == both["faces"][:1]


def test_min_confidence_drops_faces(model: FaceLandmarks) -> None:
    score = records(model, [PICTURES["upright"]])[0]["faces"][0]["score"]
    assert records(model, [PICTURES["upright"]], min_confidence=score - 0.01)[0]["faces"]
    assert not records(model, [PICTURES["upright"]], min_confidence=score + 0.01)[0]["faces"]


def test_record_is_small_json(model: FaceLandmarks) -> None:
    (record,) = records(model, [PICTURES["upright"]])
    assert json.loads(json.dumps(record)) == record
    assert len(json.dumps(record)) < 12_000
    (face,) = record["faces"]
    left, top, width, height = face["box"]
    assert 0 < left < left + width < 176
    assert 0 < top < top + height < 144


def test_output_is_records(model: FaceLandmarks) -> None:
    assert model.output(Clip(16, 16, Fraction(25), None), model.Options()) == Output(kind="records")


@pytest.mark.parametrize("file", ["face_landmark.tflite", "face_detection_short_range.tflite"])
def test_other_weights_are_refused(tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(asset("face_landmarks"), tmp_path / "weights")
    shutil.copy(asset("selfie_segmentation.tflite"), folder / file)
    with pytest.raises(ModelMissing, match=f"{file} does not hold the weights of this model"):
        FaceLandmarks.load(folder, CPU)
    (folder / file).unlink()
    with pytest.raises(ModelMissing, match=f"{file} is not in"):
        FaceLandmarks.load(folder, CPU)


def test_weights_are_needed() -> None:
    with pytest.raises(ModelMissing, match="stoker models face_landmarks"):
        FaceLandmarks.load(None, CPU)

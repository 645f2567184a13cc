"""MediaPipe's face landmarks in torch, with the weights of MediaPipe's tflite files.

Source: https://ai.google.dev/edge/mediapipe (the short-range face detector, and the face mesh without
attention; PyPI `mediapipe`). Licence of the models and their weights: Apache-2.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from pydantic import Field, JsonValue
from torch import Tensor

from worker.jobs.errors import ModelMissing
from worker.video.model import Clip, FrameModel, Options, Output
from worker.video.models.face_landmarks.crop import crop, to_frame
from worker.video.models.face_landmarks.detector import Detector
from worker.video.models.face_landmarks.detector_net import DetectorNet
from worker.video.models.face_landmarks.mesh_net import SIDE, MeshNet
from worker.video.models.face_landmarks.suppression import Face
from worker.video.models.tflite_weights import read_weights

__all__ = ["FaceLandmarks"]

#: The files of weights.
_DETECTOR = "face_detection_short_range.tflite"
_MESH = "face_landmark.tflite"


class FaceOptions(Options):
    """The options of one job."""

    max_faces: int = Field(4, ge=1, le=32, description="The most faces of a frame, the most probable ones.")
    min_confidence: float = Field(
        0.5, ge=0, le=1, description="The least probability of a face, both in the frame and in its close-up."
    )


class FaceLandmarks(FrameModel):
    """A `FrameModel` that finds faces and their 468 landmarks, in frames of any size.

    It does what MediaPipe's FaceMesh does with `static_image_mode`: it looks for faces in every frame anew.
    So the result of a frame depends on no other frame, nor on padding.

    The record of a frame is `{"faces": [{"score", "box", "landmarks"}]}`, the most probable face first:

    - `score`: the detector's probability, rounded to 3 places;
    - `box`: the detector's box [left, top, width, height];
    - `landmarks`: 468 points [x, y, z] in MediaPipe's order. A smaller z is nearer to the camera.

    All lengths are in pixels of the frame, rounded to 2 places. A face takes about 10 kB as JSON.
    """

    Options = FaceOptions

    def __init__(self, detector: Detector, net: MeshNet) -> None:
        self._detector = detector
        self._net = net

    @classmethod
    def load(cls, weights: Path | None, device: torch.device) -> Self:
        """Read the weights from the folder `weights` and move both nets to `device`.

        On a GPU this disables TF32 for all convolutions of the process. Raises `ModelMissing` if no folder is
        given, or if a file is missing or holds other weights.
        """
        if weights is None:
            raise ModelMissing("this model needs a folder of weights: run `stoker models face_landmarks`")
        mesh, detector = MeshNet(), DetectorNet()
        mesh.load_state_dict(_read(weights / _MESH, mesh.file_order()))
        detector.load_state_dict(_read(weights / _DETECTOR, detector.state_dict()))
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
        for net in (mesh, detector):
            net.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
        return cls(Detector(detector, device), mesh)

    def output(self, clip: Clip, options: FaceOptions) -> Output:
        """Return that the results are records."""
        return Output(kind="records")

    def start(self, clip: Clip, options: FaceOptions) -> FacePass:
        """Begin one job."""
        return FacePass(self._detector, self._net, options)


class FacePass:
    """A job's way through the model."""

    def __init__(self, detector: Detector, net: MeshNet, options: FaceOptions) -> None:
        self._detector = detector
        self._net = net
        self._options = options

    def __call__(self, frames: Tensor, valid: int) -> list[dict[str, JsonValue]]:
        """Return the records of the first `valid` of `frames` (B,H,W,3) uint8 RGB.

        The landmarks' net always gets B faces, of which some may be padding, so that its shapes stay fixed.
        """
        least = self._options.min_confidence
        found = self._detector(frames, valid, least, self._options.max_faces)
        faces = [(number, face) for number, of_frame in enumerate(found) for face in of_frame]
        if valid == 0:  # blank frames have no faces, but both nets must be warm
            self._landmarks(frames, [])
        records: list[list[JsonValue]] = [[] for _ in range(valid)]
        for start in range(0, len(faces), len(frames)):
            chunk = faces[start : start + len(frames)]
            presence, landmarks = self._landmarks(frames, chunk)
            for (number, face), probability, points in zip(chunk, presence, landmarks, strict=True):
                if probability > least:
                    records[number].append(_record(face, points))
        return [{"faces": of_frame} for of_frame in records]

    def _landmarks(self, frames: Tensor, faces: list[tuple[int, Face]]) -> tuple[Tensor, Tensor]:
        """Return probabilities (N,) and landmarks (N,468,3) of `faces`, up to B (number of the frame, face).

        The landmarks are in pixels of the frame. Both tensors are in the CPU's memory.
        """
        missing = len(frames) - len(faces)
        numbers = torch.tensor([number for number, _ in faces] + [0] * missing, device=frames.device)
        squares = torch.tensor(
            [face.square for _, face in faces] + [(0.0, 0.0, 1.0, 0.0)] * missing, device=frames.device
        )
        logits, points = self._net(crop(frames, numbers, squares, SIDE, black=False) / 255)
        points = points / SIDE
        depth = points[..., 2:] * squares[:, None, 2:3]
        landmarks = torch.cat((to_frame(points[..., :2], squares), depth), 2)
        return torch.sigmoid(logits)[: len(faces)].cpu(), landmarks[: len(faces)].cpu()


def _record(face: Face, landmarks: Tensor) -> JsonValue:
    left, top, right, bottom = (float(edge) for edge in face.box)
    return {
        "score": round(face.score, 3),
        "box": [round(length, 2) for length in (left, top, right - left, bottom - top)],
        "landmarks": landmarks.double().round(decimals=2).tolist(),
    }


def _read(path: Path, like: dict[str, Tensor]) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelMissing(f"{path.name} is not in {path.parent}: run `stoker models face_landmarks`")
    return read_weights(path, like)

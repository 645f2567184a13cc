"""Finds faces in whole frames with the detector's network."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.video.models.face_landmarks.crop import crop
from worker.video.models.face_landmarks.detector_net import SIDE, DetectorNet, anchors
from worker.video.models.face_landmarks.suppression import Face, find_faces

__all__ = ["Detector"]


class Detector:
    """MediaPipe's short-range face detector for frames of any size. It sees faces that are near."""

    def __init__(self, net: DetectorNet, device: torch.device) -> None:
        self._net = net
        self._anchors = anchors(device)

    def __call__(self, frames: Tensor, valid: int, least: float, limit: int) -> list[list[Face]]:
        """Return the faces of each of the first `valid` of `frames` (B,H,W,3) uint8, at most `limit` a frame.

        `least` is the least score of a face.
        """
        height, width = frames.shape[1:3]
        # The net sees a square with the whole frame in its middle.
        side = max(height, width)
        square = torch.tensor((width / 2, height / 2, side, 0.0), device=frames.device)
        numbers = torch.arange(len(frames), device=frames.device)
        pictures = crop(frames, numbers, square.expand(len(frames), 4), SIDE, black=True)
        logits, boxes = self._net(pictures * (2 / 255) - 1)
        corner = square[:2] - side / 2
        # The box's centre and the eyes are relative to the anchor.
        centre, eyes = boxes[..., :2] + self._anchors, boxes[..., 4:8] + self._anchors.repeat(1, 2)
        half = boxes[..., 2:4] / 2
        places = torch.cat((centre - half, centre + half, eyes), 2) * (side / SIDE) + corner.repeat(4)
        scores = torch.sigmoid(logits)[:valid].cpu().numpy()
        return [
            find_faces(*of_frame, least, limit)
            for of_frame in zip(scores, places[:valid].cpu().numpy(), strict=True)
        ]

"""MediaPipe's face landmarks as a frame model: where the faces of each frame are, and 468 points of each."""

from worker.video.models.face_landmarks.model import FaceLandmarks

__all__ = ["FaceLandmarks"]

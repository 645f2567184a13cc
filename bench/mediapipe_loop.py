"""The loop that users of MediaPipe write for a clip: its own selfie segmentation, numpy, and PyAV.

    PYTHON bench/mediapipe_loop.py CLIP TARGET

PYTHON belongs to an environment with MediaPipe (`make .venv-clients/mediapipe/installed`). The program reads
lines. For each line it processes the clip once, and prints the number of frames and the seconds.
"""

import sys
import time
from typing import Any

import av
import mediapipe
import numpy as np

#: The background of `selfie_segmentation` by default, #00b140.
BACKGROUND = np.array([0, 177, 64], np.float32)


def process(segmentation: Any, clip: str, target: str) -> int:
    """Decode the clip, replace the background and encode to `target`. Return the number of frames."""
    frames = 0
    with av.open(clip) as source, av.open(target, "w") as output:
        video = source.streams.video[0]
        options = {"crf": "18", "preset": "veryfast"}
        stream = output.add_stream("libx264", rate=video.average_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        for frame in source.decode(video):
            rgb = frame.to_ndarray(format="rgb24")
            alpha = segmentation.process(rgb).segmentation_mask[:, :, None]
            result = (alpha * rgb + (1 - alpha) * BACKGROUND + 0.5).astype(np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(result)))
            frames += 1
        output.mux(stream.encode(None))
    return frames


def main() -> None:
    clip, target = sys.argv[1:]
    segmentation = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    for _ in sys.stdin:
        began = time.perf_counter()
        frames = process(segmentation, clip, target)
        print(frames, time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()

"""Frames a second of VideoPipeline.run against a bare loop that decodes, computes and encodes in turn.

python -m bench.video_loop CLIP WEIGHTS [--effect background] [--batch 16] [--device cpu] [--rounds 3]
"""

import argparse
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import torch

from worker.video.composite import compositor
from worker.video.models import MODELS
from worker.video.pipeline import VideoPipeline, VideoRequest


@torch.inference_mode()
def bare(clip: Path, weights: Path, target: Path, effect: str, batch: int, device: str) -> int:
    """The obvious program: one thread, a list of frames, np.stack."""
    model = MODELS["selfie_segmentation"].load(weights, device)
    with av.open(clip) as source, av.open(target, "w") as output:
        pictures = source.streams.video[0]
        compose = compositor(effect, (0, 255, 0), pictures.height, pictures.width, device)  # type: ignore[arg-type]
        stream = output.add_stream(
            "libx264", rate=pictures.average_rate, options={"crf": "18", "preset": "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = pictures.width, pictures.height, "yuv420p"
        frames = [frame.to_ndarray(format="rgb24") for frame in source.decode(pictures)]
        for start in range(0, len(frames), batch):
            rgb = torch.from_numpy(np.stack(frames[start : start + batch])).to(device)
            for result in compose(rgb, model(rgb, len(rgb))).contiguous().cpu().numpy():
                output.mux(stream.encode(av.VideoFrame.from_ndarray(result)))
        output.mux(stream.encode(None))
    return len(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--effect", default="background")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    pipeline = VideoPipeline(args.weights, device=args.device, batch_size=args.batch)
    pipeline.load()
    with tempfile.TemporaryDirectory() as folder:
        request = VideoRequest(args.clip, Path(folder) / "out.mp4", args.effect)
        for _ in range(args.rounds):
            result = pipeline.run(request, on_batch=lambda _: None, canceled=lambda: False)
            began = time.perf_counter()
            frames = bare(args.clip, args.weights, request.target, args.effect, args.batch, args.device)
            seconds = time.perf_counter() - began
            print(
                f"pipeline {result.frames / result.seconds:6.1f} fps, bare loop {frames / seconds:6.1f} fps"
            )


if __name__ == "__main__":
    main()

"""A bare process for `bench.idle`: it loads and warms one engine, without Celery and Redis.

    python -m bench.bare_load chat|video

It prints `warm`, and ends when its input does.
"""

import os
import sys
from functools import partial

from worker.jobs.settings import Settings, set_env, set_env_default

__all__: list[str] = []


def load_chat(settings: Settings) -> None:
    """Load the chat engine that the settings choose, on the CPU or the first GPU."""
    from worker.chat.engines import make_engine

    make_engine(settings, _device(settings), 1).engine.start(lambda *_: None, _fail)


def load_video(settings: Settings) -> None:
    """Load the frame model that the settings name, on the CPU or the first GPU."""
    set_env_default(OMP_WAIT_POLICY="PASSIVE")
    from worker.video.pipeline import VideoPipeline
    from worker.video.runner_factory import configured_model

    VideoPipeline(
        partial(configured_model, settings),
        device=_device(settings),
        batch_size=settings.batch_size,
        segment_batches=settings.segment_batches,
        limits=settings.limits,
        sizes=settings.video_sizes,
        compiled=settings.compile,
        encoders=settings.encoders,
    ).load()


def _device(settings: Settings) -> str:
    if settings.devices == "cpu":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _fail(error: BaseException) -> None:
    raise SystemExit(f"the engine is broken: {error!r}")


if __name__ == "__main__":
    set_env(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    {"chat": load_chat, "video": load_video}[sys.argv[1]](Settings.from_env())
    print("warm", flush=True)
    try:
        sys.stdin.read()
    finally:  # also after an interrupt: the threads of an engine would keep the process alive
        os._exit(0)

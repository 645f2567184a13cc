"""A bare process for `bench.idle`: it loads and warms one engine, without Celery and Redis.

    python -m bench.bare_load chat|video

It prints `warm`, and ends when its input does.
"""

import os
import sys

from worker.devices.gpus import list_gpus
from worker.jobs.settings import Settings, set_env

__all__: list[str] = []


def load_chat(settings: Settings) -> None:
    """Load the chat engine that the settings choose, on the CPU or the first GPU."""
    from worker.chat.engines import make_engine

    make_engine(settings, _device(settings), 1).engine.start(lambda *_: None, _fail)


def load_video(settings: Settings) -> None:
    """Load the frame model that the settings name, on the CPU or the first GPU."""
    from worker.video.runner_factory import configured_pipeline

    configured_pipeline(settings, _device(settings)).load()


def _device(settings: Settings) -> str:
    """Return the device of the engine. torch is not imported yet, because the pipeline configures it."""
    return "cpu" if settings.devices == "cpu" or not list_gpus() else "cuda"


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

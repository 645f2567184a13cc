"""Video pipelines with a stub model, and ways to observe them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from tests.support.assets import asset
from tests.support.video.alpha_models import StubVideoModel
from tests.support.video.clips import Picture
from worker.video.encoding.writer import SegmentWriter
from worker.video.models.find import find_model
from worker.video.pipeline import VideoPipeline


def make_stub_pipeline(
    model: StubVideoModel, batch_size: int, segment_batches: int, **options: Any
) -> VideoPipeline:
    """Return a pipeline with the model, which is not loaded yet."""
    return VideoPipeline(
        lambda: model.found, batch_size=batch_size, segment_batches=segment_batches, **options
    )


@contextmanager
def stub_pipeline(
    model: StubVideoModel, batch_size: int, segment_batches: int, **options: Any
) -> Iterator[VideoPipeline]:
    """Yield a loaded pipeline with the model."""
    options = {"encoders": 2} | options  # on any machine
    video = make_stub_pipeline(model, batch_size, segment_batches, **options)
    video.load()
    yield video
    video.close()


def selfie_pipeline(**options: Any) -> VideoPipeline:
    """Return a pipeline with the matting model, which is not loaded yet."""
    name = "selfie_segmentation"
    return VideoPipeline(lambda: find_model(name, name, asset(f"{name}.tflite")), **options)


def recording_writer(written: list[Picture]) -> type[SegmentWriter]:
    """Return a SegmentWriter class that copies each batch to `written`, before the encoder's losses."""

    class RecordingWriter(SegmentWriter):
        def write(self, results: Picture, *arguments: Any) -> None:
            written.append(copy(results))
            super().write(results, *arguments)

    return RecordingWriter


def thread_names() -> str:
    """Return the names of all threads of this process, separated by spaces."""
    return " ".join(thread.name for thread in threading.enumerate())

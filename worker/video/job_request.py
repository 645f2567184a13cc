"""The request of a video job to the pipeline."""

from collections.abc import Callable
from pathlib import Path

from worker.jobs.media.files import JobFiles
from worker.jobs.records import Record
from worker.jobs.specs import VideoJob
from worker.video.decoding.options import ReadOptions
from worker.video.request import VideoRequest
from worker.video.share_plan import ShareBoard
from worker.video.stages import Stages

__all__ = ["job_request"]


def job_request(
    record: Record,
    files: JobFiles,
    publish: Callable[[Path, Path], None],
    stages: Stages,
    board: ShareBoard | None = None,
) -> VideoRequest:
    """Return the request for the job with this record and these files."""
    spec = record.spec
    if not isinstance(spec, VideoJob):
        raise TypeError(f"{record.id} is not a video")
    return VideoRequest(
        source=files.clip,
        target=files.result,
        work=files.work,
        options=spec.options,
        uploads={name: files.upload(name) for name in spec.uploads},
        pad=spec.pad,
        reading=ReadOptions(spec.deinterlace, spec.odd_size),
        done=record.done,
        publish=publish,
        stages=stages,
        board=board,
    )

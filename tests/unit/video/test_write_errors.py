"""Errors of writing a job's files: the job fails with the reason, and leaves no file behind."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from tests.support.job_ids import A, B
from tests.support.video.clips import make_clip_with_sound, read_clip
from tests.support.video.jobs import VideoHarness, video_harness
from tests.support.video.small_disk import BLOCK, fill_disk, small_disk
from worker.jobs.errors import DiskFull, EngineFailed
from worker.jobs.ledger.ledger import Ledger
from worker.video.encoding.write_errors import map_write_errors


@pytest.mark.parametrize(
    ("number", "failure"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EFBIG, DiskFull),
        (errno.EIO, EngineFailed),
        (errno.ENOENT, EngineFailed),
    ],
)
def test_map_write_errors_gives_reason_in_a_sentence(number: int, failure: type[Exception]) -> None:
    for kind in (OSError, av.error.OSError):
        with (
            pytest.raises(failure, match=rf"^The result cannot be written \({os.strerror(number)}\)\.$"),
            map_write_errors(),
        ):
            raise kind(number, os.strerror(number))


def test_map_write_errors_keeps_memory_error() -> None:
    with pytest.raises(MemoryError), map_write_errors():
        raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")


#: The limits, in bytes, are too small for a segment, for the result, and for half of it.
@pytest.mark.parametrize(
    "limit", [500, *(pytest.param(limit, marks=pytest.mark.long) for limit in (2000, 5000))]
)
def test_pipeline_fails_at_file_size_limit(tmp_path: Path, limit: int) -> None:
    source = make_clip_with_sound(tmp_path / "in.mp4", "aac")
    child = subprocess.run(
        [sys.executable, "-c", CHILD, source, tmp_path, str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.splitlines() == ["The result cannot be written (File too large).", "25 frames"]
    assert not list(tmp_path.rglob("*.partial"))
    assert len(read_clip(tmp_path / "out.mp4").times) == 25


#: The limit applies to a whole process and to those that it starts. So the pipeline runs in a child. It must
#: not write byte code: Python 3.11 leaves a file that the limit has cut off, and later imports fail.
CHILD = """
import sys
sys.dont_write_bytecode = True
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit
from tests.support.video.alpha_models import StubVideoModel
from worker.jobs.errors import DiskFull
from worker.video.pipeline import VideoPipeline
from worker.video.request import VideoRequest

source, folder, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
video = VideoPipeline(lambda: StubVideoModel().found, batch_size=3, segment_batches=2)
request = VideoRequest(source, folder / "out.mp4", folder / "work", {"effect": "matte"})
setrlimit(RLIMIT_FSIZE, (limit, RLIM_INFINITY))
video.load()
try:
    video.run_clip(request, on_batch=lambda _: None, canceled=lambda: False)
except DiskFull as error:
    print(error)
setrlimit(RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))
video.close()
video.load()
assert not request.target.exists()
print(video.run_clip(request, on_batch=lambda _: None, canceled=lambda: False).frames, "frames")
video.close()
"""


@pytest.fixture
def harness(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[VideoHarness]:
    with video_harness(ledger, monkeypatch) as harness:
        yield harness


@pytest.mark.parametrize("blocks", range(8))
def test_runner_fails_job_on_full_disk_and_serves_next(harness: VideoHarness, blocks: int) -> None:
    media = harness.ledger.store.settings.media_dir
    with small_disk(media):
        files = harness.submit(A)
        next_files = harness.submit(B)
        fill_disk(media / "ballast", blocks * BLOCK)
        harness.runner.run_job(harness.claim(A))
        job = harness.ledger.get(A)
        assert job.error == {
            "code": "disk_full",
            "message": "The result cannot be written (No space left on device).",
        }
        assert os.listdir(files.folder) == ["clip"]
        (media / "ballast").unlink()
        harness.runner.run_job(harness.claim(B))
        assert harness.ledger.get(B).state == "succeeded"
        assert sorted(os.listdir(next_files.folder)) == ["clip", "result.mp4"]

"""Where there is no room for a job's files, the job fails as such, and leaves none."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import pytest

from tests.support.clips import read_clip, with_sound
from tests.unit.test_video_runner import Bench, bench
from worker.jobs.errors import DiskFull, EngineFailed
from worker.video.encoding.write_errors import writing

__all__ = ["bench"]

BLOCK = 4096
#: for a clip, its segments and its result
ROOM = 512 * 1024


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
def test_an_error_says_why_in_a_sentence(number: int, failure: type[Exception]) -> None:
    for kind in (OSError, av.error.OSError):
        with (
            pytest.raises(failure, match=rf"^The result cannot be written \({os.strerror(number)}\)\.$"),
            writing(),
        ):
            raise kind(number, os.strerror(number))


def test_libavs_shortage_of_memory_is_no_failure_of_the_disk() -> None:
    with pytest.raises(MemoryError), writing():
        raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of its own."""
    path.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", path], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield path
    finally:
        # lazily, for PyAV leaves a file open if not even the header could be written
        subprocess.run(["umount", "--lazy", path], check=True)


def fill(path: Path, room: int) -> None:
    """Let `path` take all the room on its disk but so many bytes."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(BLOCK))
    os.truncate(path, path.stat().st_size // BLOCK * BLOCK - room)


#: fits neither a segment, nor the result, nor half of it
@pytest.mark.parametrize("limit", [500, 2000, 5000])
def test_a_file_that_must_not_grow_any_more_fails_the_run(tmp_path: Path, limit: int) -> None:
    source = with_sound(tmp_path / "in.mp4", "aac")
    child = subprocess.run(
        [sys.executable, "-c", CHILD, source, tmp_path, str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.splitlines() == ["The result cannot be written (File too large).", "25 frames"]
    assert not list(tmp_path.rglob("*.partial"))
    assert len(read_clip(tmp_path / "out.mp4").times) == 25


#: The limit holds for the whole process.
CHILD = """
import sys
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit
from tests.support.clips import ScriptedModel
from worker.jobs.errors import DiskFull
from worker.video.models import MODELS
from worker.video.pipeline import VideoPipeline
from worker.video.request import VideoRequest

source, folder, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
MODELS["scripted"] = ScriptedModel()
video = VideoPipeline(Path(), batch_size=3, segment_batches=2, model="scripted")
video.load()
request = VideoRequest(source, folder / "out.mp4", folder / "work", "matte")
setrlimit(RLIMIT_FSIZE, (limit, RLIM_INFINITY))
try:
    video.run(request, on_batch=lambda _: None, canceled=lambda: False)
except DiskFull as error:
    print(error)
setrlimit(RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))
assert not request.target.exists()
print(video.run(request, on_batch=lambda _: None, canceled=lambda: False).frames, "frames")
"""


@pytest.mark.parametrize("blocks", range(8))
def test_a_full_disk_fails_the_job_and_the_next_is_served(bench: Bench, blocks: int) -> None:
    media = bench.ledger.settings.media_dir
    with small_disk(media):
        files = bench.submit("a")
        next_files = bench.submit("b")
        fill(media / "ballast", blocks * BLOCK)
        bench.runner.run_job(bench.claim("a"))
        job = bench.ledger.get("a")
        assert job.error == {
            "code": "disk_full",
            "message": "The result cannot be written (No space left on device).",
        }
        assert os.listdir(files.folder) == ["clip"]
        (media / "ballast").unlink()
        bench.runner.run_job(bench.claim("b"))
        assert bench.ledger.get("b").state == "succeeded"
        assert sorted(os.listdir(next_files.folder)) == ["clip", "result.mp4"]

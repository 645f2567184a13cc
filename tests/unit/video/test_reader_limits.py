"""ClipReader: it stops at clips that exceed the limits, or refer to other files, whatever the probe saw."""

from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.support.video.bombs import alias_to, false_duration, long_clip, many_streams, resized_midway
from tests.support.video.clips import gradient, make_clip
from tests.support.video.sandboxes import open_clip
from worker.jobs.errors import BadVideo
from worker.jobs.limits import Limits

LIMITS = Limits(max_pixels=64 * 48, max_frames=50, max_duration_s=10, max_streams=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: make_clip(path, [gradient(i) for i in range(51)]), "more than 50 frames"),
        (long_clip, "longer than 10 seconds"),
        (lambda path: false_duration(path.with_suffix(".mkv"), 1), "longer than 10 seconds"),
        (lambda path: many_streams(path.with_suffix(".mkv"), 5), "more than 4 streams"),
        (lambda path: resized_midway(path.with_suffix(".mpg"), 640, 480), "a frame of more than 3072 pixels"),
    ],
    ids=["frames", "seconds", "false-duration", "streams", "growing"],
)
def test_clip_reader_enforces_limits(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    """The probe accepts two of these clips, because their headers are false."""
    with (
        pytest.raises(BadVideo, match=message),
        open_clip(make(tmp_path / "clip.mp4"), 4, LIMITS) as reader,
    ):
        for _ in reader:
            pass


def test_clip_reader_does_not_follow_alias_to_another_file(tmp_path: Path) -> None:
    clip = alias_to(make_clip(tmp_path / "other.mp4", [gradient(i) for i in range(5)]), tmp_path / "clip.mp4")
    with av.open(clip, options={"enable_drefs": "1"}) as container:
        assert len(list(container.decode(video=0))) == 5, "libav itself would follow the alias"
    with pytest.raises(BadVideo), open_clip(clip, 4) as reader:
        list(reader)

"""The folder of segments, and the helper that collects libav's warnings."""

from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.video.clips import gradient, libav_warnings, make_clip
from worker.jobs.errors import EngineFailed
from worker.jobs.media.durable import publish
from worker.video.decoding.header import ClipEnd
from worker.video.encoding.result_file import join_segments
from worker.video.encoding.segments import SegmentFolder
from worker.video.model import Output
from worker.video.stages import Stages


def folder_with(path: Path, *segments: tuple[int, int]) -> SegmentFolder:
    folder = SegmentFolder(path / "segments")
    for first, end in segments:
        partial = folder.partial()
        partial.touch()
        folder.add(partial, first, end, ".nut")
    return folder


@pytest.mark.parametrize(
    ("existing", "limit", "durable"),
    [
        ([], None, []),
        ([(0, 8), (8, 16), (16, 20)], None, [(0, 8), (8, 16), (16, 20)]),
        ([(8, 16), (0, 8)], None, [(0, 8), (8, 16)]),
        ([(8, 16)], None, []),
        ([(0, 8), (16, 24)], None, [(0, 8)]),
        ([(0, 8), (0, 12), (8, 16), (16, 24)], None, [(0, 8), (8, 16), (16, 24)]),
        ([(0, 8), (0, 24), (8, 16)], None, [(0, 24)]),
        ([(0, 8), (8, 16), (16, 24)], 23, [(0, 8), (8, 16)]),
        ([(0, 8), (8, 16), (16, 24)], 16, [(0, 8), (8, 16)]),
        ([(0, 24), (0, 8)], 9, [(0, 8)]),
        ([(0, 8)], 0, []),
        ([(99_999_999, 100_000_001), (0, 99_999_999)], None, [(0, 99_999_999), (99_999_999, 100_000_001)]),
    ],
)
def test_segments_longest_sequence_without_gap_is_durable(
    tmp_path: Path, existing: list[tuple[int, int]], limit: int | None, durable: list[tuple[int, int]]
) -> None:
    folder = folder_with(tmp_path, *existing)
    assert [(segment.first, segment.end) for segment in folder.durable(limit)] == durable


def test_segments_never_replace_a_file(tmp_path: Path) -> None:
    """Two attempts at one job may write the same frames."""
    one = folder_with(tmp_path, (0, 8)).durable()[0].path
    folder = folder_with(tmp_path, (0, 8))
    assert one.exists()
    assert len(list((tmp_path / "segments").iterdir())) == 2
    assert len(folder.durable()) == 1


@pytest.mark.parametrize("segments", [[], [(0, 8)], [(0, 8), (16, 20)]])
def test_result_is_not_joined_if_segments_are_missing(
    tmp_path: Path, segments: list[tuple[int, int]]
) -> None:
    """Nothing but the number of frames would show that records are missing."""
    folder, target = folder_with(tmp_path, *segments), tmp_path / "result.ndjson"
    output, sandbox = Output("records"), cast(Any, None)
    with pytest.raises(EngineFailed, match="are missing"):
        join_segments(sandbox, folder, output, 20, ClipEnd(20, 0), publish, target, Stages())
    assert not target.exists()


def test_segments_ignore_unfinished_and_unknown_files(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    for path in (folder.partial(), folder.partial(), tmp_path / "segments" / "00000000-00000008.nut.partial"):
        path.touch()
    assert folder.durable() == ()


def test_segments_record_end_of_clip(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, (0, 8))
    assert folder.end(8) is None
    folder.complete(8, ClipEnd(320, 2))
    folder.complete(8, ClipEnd(320, 2))
    assert folder.end(8) == ClipEnd(320, 2)
    assert folder.end(0) is None


def test_segments_ignore_end_without_time_of_older_version(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (tmp_path / "segments" / "00000008.complete").touch()
    assert folder.end(8) is None


def test_libav_warnings_report_damage(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.ts", [gradient(i) for i in range(50)])
    assert libav_warnings(clip) == []
    content = bytearray(clip.read_bytes())
    content[5000:5400] = bytes(400)
    clip.write_bytes(content)
    assert libav_warnings(clip)

"""ClipReader reads parts of a clip, in any order, with the frames and times of the whole clip."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.support.video.clips import gradient, make_clip
from tests.support.video.sandboxes import open_clip
from worker.video.decoding.reader import ClipReader, Window

FRAMES = 22


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("parts") / "clip.mp4", [gradient(i) for i in range(FRAMES)])


@dataclass(frozen=True)
class Batch:
    """What a reader has yielded, in memory that it does not use again."""

    index: int
    pts: tuple[int, ...]
    next_pts: int | None
    pixels: bytes


def read_part(reader: ClipReader, window: Window, first: int = 0, until: int | None = None) -> list[Batch]:
    """Return the batches of a part, without the places that no frame fills."""
    return [
        Batch(
            batch.index,
            batch.pts,
            batch.next_pts,
            batch.window[: window.before + batch.valid + window.after].tobytes(),
        )
        for batch in reader.batches(window, first=first, until=until)
    ]


@pytest.mark.parametrize(
    "window",
    [Window(4), Window(4, ahead=True), Window(4, 2, 3, ahead=True), Window(2, 5, 1, ahead=True)],
    ids=str,
)
def test_reader_parts_together_are_the_whole_clip(clip: Path, window: Window) -> None:
    with open_clip(clip, 0) as reader:
        whole = read_part(reader, window)
        end = reader.end
    assert [batch.index for batch in whole] == list(range(-(-FRAMES // window.size)))
    with open_clip(clip, 0) as reader:
        cuts = [0, window.size, 4 * window.size, 5 * window.size, FRAMES]
        parts = [read_part(reader, window, first, until) for first, until in pairwise(cuts)]
        assert [batch for part in parts for batch in part] == whole
        assert reader.end == end


@pytest.mark.parametrize("until", [FRAMES, None])
def test_reader_goes_back_to_earlier_part(clip: Path, until: int | None) -> None:
    window = Window(4, 1, 1, ahead=True)
    with open_clip(clip, 0) as reader:
        last = read_part(reader, window, 20, until)
        end = reader.end
        assert [batch.index for batch in last] == [5]
        whole = read_part(reader, window)
        assert whole[5:] == last
        assert read_part(reader, window, 8, 16) == whole[2:4]
        assert reader.end == end


def test_reader_part_that_does_not_reach_end_has_no_end(clip: Path) -> None:
    with open_clip(clip, 0) as reader:
        read_part(reader, Window(4, ahead=True), 4, 16)
        assert not hasattr(reader, "end")


def test_reader_part_behind_clip_is_empty_and_tells_end(clip: Path) -> None:
    with open_clip(clip, 0) as reader:
        assert read_part(reader, Window(4, 2), FRAMES) == []
        assert reader.end.tick == FRAMES * 512


def test_reader_parts_share_buffers(clip: Path) -> None:
    shapes = list[tuple[int, ...]]()

    def allocate(shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        shapes.append(shape)
        return np.empty(shape, np.uint8)

    with open_clip(clip, 0) as reader:
        for first in (0, 8):
            assert list(reader.batches(Window(4), first=first, until=first + 4, allocate=allocate))
    assert shapes == [(4, 48, 64, 3)] * 3

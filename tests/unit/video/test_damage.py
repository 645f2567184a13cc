"""Damaged recordings: what libav can show is processed, and the damage is counted, up to a limit."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from tests.support.video.alpha_models import StubVideoModel
from tests.support.video.clips import is_same_clip, read_clip, truncate
from tests.support.video.pictures import numbered_picture, shown_number
from tests.support.video.pipeline import stub_pipeline
from tests.support.video.transport_streams import SIZE, VIDEO, lose_packet
from worker.jobs.errors import BadVideo
from worker.video.decoding.damage import MAX_CONCEALED, MAX_CONCEALED_SHARE
from worker.video.decoding.decoder import ClipDecoder
from worker.video.request import BatchDone, VideoRequest, VideoResult

#: Frames between two key frames.
GOP = 10


def recording(path: Path, numbers: range, codec: str = "libx264", size: tuple[int, int] = (192, 144)) -> Path:
    """Write a clip of noisy pictures that show these numbers, with a key frame every `GOP` frames."""
    noise = np.random.default_rng(1)
    options = {"forced-idr": "1", "x265-params": "log-level=error"}
    with av.open(path, "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate, stream.codec_context.gop_size = 2_000_000, GOP
        for index, number in enumerate(numbers):
            scale = np.ones((size[1] // 48, size[0] // 64, 1), np.uint8)
            picture = np.kron(numbered_picture(number), scale).astype(int)
            picture = (picture + noise.integers(-40, 40, picture.shape)).clip(0, 255)
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8))
            frame.pts, frame.time_base = index, Fraction(1, 25)
            frame.pict_type = PictureType.NONE if index % GOP else PictureType.I
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def decode(path: Path) -> tuple[list[int], list[Fraction], int]:
    """Return the numbers that the frames show, their times from the first, and how many are concealed."""
    with closing(ClipDecoder(path)) as decoder:
        frames = [(shown_number(decoder.upright(frame)), frame.pts or 0) for frame in decoder.frames]
        tick, concealed = decoder.header.time_base, decoder.end.concealed
    return [number for number, _ in frames], [(pts - frames[0][1]) * tick for _, pts in frames], concealed


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "libx265", "mpeg4"])
def test_decoder_conceals_one_lost_packet(tmp_path: Path, codec: str) -> None:
    clip = recording(tmp_path / "in.ts", range(30), codec)
    assert decode(clip) == (list(range(30)), [Fraction(index, 25) for index in range(30)], 0)
    packets = clip.stat().st_size // SIZE
    numbers, times, concealed = decode(lose_packet(clip, VIDEO, packets // 2))
    assert concealed in ((1, 2) if codec == "mpeg4" else (1,)), "of MPEG-4, a frame beside it may count too"
    assert len(numbers) in (29, 30), "a decoder may leave a frame out"
    assert set(times) <= {Fraction(index, 25) for index in range(30)}
    wrong = [time * 25 for number, time in zip(numbers, times, strict=True) if number != time * 25]
    assert all(abs(place - 15) <= GOP for place in wrong), "all is well again from a key frame on"


def test_decoder_shows_all_frames_of_joined_recordings(tmp_path: Path) -> None:
    one = recording(tmp_path / "1.ts", range(20))
    other = recording(tmp_path / "2.ts", range(20, 45))
    (tmp_path / "in.ts").write_bytes(one.read_bytes() + other.read_bytes())
    numbers, times, concealed = decode(tmp_path / "in.ts")
    assert (numbers, concealed) == (list(range(45)), 0)
    assert times == [Fraction(index, 25) for index in range(45)]


def test_decoder_scales_joined_recording_of_another_size(tmp_path: Path) -> None:
    one = recording(tmp_path / "1.ts", range(20))
    other = recording(tmp_path / "2.ts", range(20, 40), size=(128, 96))
    (tmp_path / "in.ts").write_bytes(one.read_bytes() + other.read_bytes())
    assert decode(tmp_path / "in.ts")[0] == list(range(40))


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "libx265"])
def test_decoder_begins_at_first_key_frame(tmp_path: Path, codec: str) -> None:
    """A recorder begins anywhere. Frames that nobody can decode are no damage."""
    clip = recording(tmp_path / "in.ts", range(30), codec)
    content = clip.read_bytes()
    clip.write_bytes(content[: 2 * SIZE] + content[len(content) // SIZE // 6 * SIZE :])
    numbers, _, concealed = decode(clip)
    assert numbers == list(range(numbers[0], 30))
    assert 1 < numbers[0] <= GOP
    assert concealed == 0


def test_decoder_keeps_frames_before_end_that_is_missing(tmp_path: Path) -> None:
    clip = recording(tmp_path / "whole.ts", range(30))
    numbers, _, concealed = decode(truncate(clip, tmp_path / "in.ts", 0.5))
    assert 10 < len(numbers) < 20
    assert numbers[:-3] == list(range(len(numbers) - 3))
    assert concealed <= 1


def holes(path: Path, frames: slice) -> Path:
    """Overwrite 40 bytes of some frames of a Matroska file."""
    with av.open(path) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content = path.read_bytes()
    for packet in packets[frames]:
        middle = len(packet) // 2
        assert content.count(packet) == 1
        content = content.replace(packet, packet[:middle] + b"\xff" * 40 + packet[middle + 40 :])
    path.write_bytes(content)
    return path


def test_decoder_counts_damage_inside_frames(tmp_path: Path) -> None:
    clip = holes(recording(tmp_path / "in.mkv", range(60)), slice(10, None, 20))
    numbers, _, concealed = decode(clip)
    assert len(numbers) == 60
    assert concealed == 3


def test_decoder_refuses_more_damage_than_the_limit(tmp_path: Path) -> None:
    clip = holes(recording(tmp_path / "in.mkv", range(60)), slice(1, None, 3))
    with pytest.raises(BadVideo, match=r"The clip is damaged: \d+ of its first \d+ frames") as caught:
        decode(clip)
    damaged, frames = (int(word) for word in str(caught.value).split() if word.isdecimal())
    assert damaged == MAX_CONCEALED + frames // MAX_CONCEALED_SHARE + 1


def test_decoder_says_why_nothing_can_be_decoded(tmp_path: Path) -> None:
    """All packets of this clip are noise."""
    clip = recording(tmp_path / "in.mkv", range(9))
    with av.open(clip) as old, av.open(tmp_path / "out.mkv", "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                noise = av.Packet(b"\0\0\0\x08" + bytes(range(101, 109)))
                noise.pts, noise.dts, noise.time_base = packet.pts, packet.dts, packet.time_base
                noise.stream = copy
                new.mux(noise)
    with pytest.raises(BadVideo, match=r"The clip cannot be decoded \(.*\)\."):
        decode(tmp_path / "out.mkv")


class Killed(BaseException):
    """The end of a run that the pipeline does not catch."""


def lost(folder: Path) -> Path:
    return lose_packet(recording(folder / "in.ts", range(25)), VIDEO, 100)


def joined(folder: Path) -> Path:
    parts = [recording(folder / f"{numbers.start}.ts", numbers) for numbers in (range(12), range(12, 25))]
    (folder / "in.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    return folder / "in.ts"


def damaged_inside(folder: Path) -> Path:
    """Write a clip with an index, of whose frames one is damaged."""
    return holes(recording(folder / "in.mkv", range(25)), slice(12, 13))


@pytest.mark.parametrize("make", [lost, joined, damaged_inside])
def test_pipeline_resume_gives_same_result_for_damaged_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path]
) -> None:
    """Each of the attempts is killed after some batches. The last one finds all frames finished."""
    source = make(tmp_path)

    def run(folder: Path, done: int, killed_at: int | None = None) -> VideoResult:
        def on_batch(batch: BatchDone) -> None:
            nonlocal done
            done = batch.done
            if batch.done == killed_at:
                raise Killed

        request = VideoRequest(source, folder / "out.mp4", folder / "work", {"effect": "matte"}, done=done)
        with stub_pipeline(StubVideoModel(), 3, 1) as video:
            return video.run_clip(request, on_batch=on_batch, canceled=lambda: False)

    whole = run(tmp_path / "whole", 0)
    assert (whole.frames, whole.concealed) == (25, int(make is not joined))
    for begin, end in ((0, 6), (6, 15), (15, 21)):
        with pytest.raises(Killed):
            run(tmp_path / "parts", begin, end)
    for done in (21, 25):
        again = run(tmp_path / "parts", done)
        assert replace(again, seconds=0, bytes=0) == replace(whole, seconds=0, bytes=0)
        assert is_same_clip(read_clip(tmp_path / "parts/out.mp4"), read_clip(tmp_path / "whole/out.mp4"))

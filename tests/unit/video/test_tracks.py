"""The sound, the subtitles and the tags of results, compared with those of their clips."""

import struct
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.support.video.clips import gradient, libav_warnings, remux
from tests.support.video.copies import copy_clip
from tests.support.video.sandboxes import open_clip
from tests.support.video.sounds import BEFORE_S, RATE, SoundTrack, heard, lag_ms, make_sound_clip
from tests.support.video.transport_streams import AUDIO, lose_packet, move_times
from worker.jobs.errors import BadVideo
from worker.jobs.limits import DEFAULTS, Limits
from worker.video.tracks.report import TrackReport
from worker.video.tracks.tracks import write_tracks

MS = Fraction(1, 1000)
FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.mark.parametrize(
    ("suffix", "track", "action"),
    [
        ("avi", SoundTrack("pcm_u8", 11_025, "mono"), "encoded"),
        ("mov", SoundTrack("pcm_mulaw", 8_000, "mono"), "encoded"),
        ("mov", SoundTrack("pcm_alaw", 8_000, "mono"), "encoded"),
        ("mov", SoundTrack("pcm_s8", 32_000), "encoded"),
        ("avi", SoundTrack("adpcm_ima_wav", 22_050, "mono"), "encoded"),
        ("avi", SoundTrack("adpcm_ms", 44_100), "encoded"),
        ("mov", SoundTrack("adpcm_ima_qt", 44_100), "encoded"),
        ("mkv", SoundTrack("vorbis", 44_100), "encoded"),
        ("avi", SoundTrack("wmav2", 44_100), "encoded"),
        ("mkv", SoundTrack("mp2", 44_100), "encoded"),
        ("mkv", SoundTrack("tta", 44_100, format="s16"), "encoded"),
        ("mkv", SoundTrack("wavpack", 96_000), "encoded"),
        ("mkv", SoundTrack("pcm_u8", 37_800, "mono"), "encoded"),
        ("mkv", SoundTrack("pcm_u8", 48_000, "7.1"), "encoded"),
        ("mkv", SoundTrack("pcm_u8", 48_000, "2.1"), "encoded"),
        ("mkv", SoundTrack("pcm_u8", 48_000, "hexadecagonal"), "encoded"),
        ("mkv", SoundTrack("pcm_f32le", 96_000), "copied"),
        ("mkv", SoundTrack("pcm_s24le", 48_000, "5.1"), "copied"),
        ("avi", SoundTrack("pcm_s16le", 11_025), "copied"),
        ("mkv", SoundTrack("aac", 48_000, "7.1"), "copied"),
        ("ts", SoundTrack("aac", 96_000), "copied"),
        ("mkv", SoundTrack("flac", 44_100), "copied"),
        ("mkv", SoundTrack("libopus"), "copied"),
        ("avi", SoundTrack("libmp3lame", 44_100), "copied"),
        ("ts", SoundTrack("ac3", 48_000, "5.1"), "copied"),
        ("mkv", SoundTrack("eac3"), "copied"),
        ("mov", SoundTrack("alac", 44_100), "copied"),
    ],
    ids=lambda value: value.codec if isinstance(value, SoundTrack) else value,
)
def test_tracks_keep_sound_of_every_codec(
    tmp_path: Path, suffix: str, track: SoundTrack, action: str
) -> None:
    source, target = make_sound_clip(tmp_path / f"in.{suffix}", track), tmp_path / "out.mp4"
    [report] = copy_clip(source, target).audio
    assert (report.stream, report.action, report.silence_s) == (1, action, 0)
    lag, likeness = lag_ms(heard(target), heard(source))
    assert abs(lag) < 5
    assert likeness > 0.95
    with av.open(target) as container:
        assert (
            container.streams.audio[0].codec.canonical_name == report.codec if action == "copied" else "aac"
        )
        assert len(container.streams) == 2


def test_tracks_encode_truehd(tmp_path: Path) -> None:
    """libav's MP4 muxer has this codec, but does not write it. Its frames are shorter than a millisecond."""
    [report] = copy_clip(FIXTURES / "truehd.mkv", tmp_path / "out.mp4").audio
    assert (report.codec, report.action, report.silence_s) == ("truehd", "encoded", 0)
    lag, likeness = lag_ms(heard(tmp_path / "out.mp4"), heard(FIXTURES / "truehd.mkv"))
    assert abs(lag) < 5
    assert likeness > 0.95


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "aac"), ("mkv", "vorbis"), ("ts", "aac"), ("ts", "mp2")]
)
@pytest.mark.parametrize(
    ("start_s", "seconds"), [(0.7, 1.3), (0, 0.8), (0, 2.9)], ids=["late", "short", "long"]
)
def test_tracks_keep_start_and_length_of_sound(
    tmp_path: Path, suffix: str, codec: str, start_s: float, seconds: float
) -> None:
    keeps_start_and_length(tmp_path / f"in.{suffix}", SoundTrack(codec, start_s=start_s, seconds=seconds))


@pytest.mark.parametrize("codec", ["aac", "mp2"])
def test_tracks_keep_sound_that_begins_before_pictures(tmp_path: Path, codec: str) -> None:
    keeps_start_and_length(tmp_path / "in.ts", SoundTrack(codec, start_s=-0.3, seconds=1.5))


def test_tracks_keep_sound_of_recording_whose_clock_wraps(tmp_path: Path) -> None:
    """The clock of MPEG has 33 bits. libav gives the frames before it wraps times below 0."""
    plain = make_sound_clip(tmp_path / "plain.mpg", SoundTrack("mp2"))
    source, target = tmp_path / "in.mpg", tmp_path / "out.mp4"
    remux(plain, source, output_ts_offset=str(2**33 / 90_000 - 2.5))
    with av.open(source) as container:
        assert (container.start_time or 0) < -1_500_000
    copy_clip(source, target)
    lag, likeness = lag_ms(heard(target), heard(plain))
    assert abs(lag) < 5
    assert likeness > 0.95


def keeps_start_and_length(source: Path, track: SoundTrack) -> None:
    target = make_sound_clip(source, track).with_name("out.mp4")
    copy_clip(source, target)
    before, after = heard(source), heard(target)
    assert abs(lag_ms(after, before)[0]) < 5
    assert (
        abs(np.flatnonzero(np.abs(after) > 0.05)[-1] - np.flatnonzero(np.abs(before) > 0.05)[-1])
        < 0.05 * RATE
    )
    assert libav_warnings(target) == []


def is_gapless(path: Path) -> bool:
    """Return whether each decoded frame of the sound begins where the one before it ends."""
    with av.open(path) as container:
        frames = [(frame.pts or 0, frame.samples) for frame in container.decode(audio=0)]
    return all(pts + samples == later for (pts, samples), (later, _) in pairwise(frames))


@pytest.mark.parametrize("codec", ["aac", "mp2", "libmp3lame", "libopus"])
def test_tracks_replace_lost_sound_with_silence(tmp_path: Path, codec: str) -> None:
    track = SoundTrack(codec, is_lost=lambda packet: 30 <= packet < 34)
    source, target = make_sound_clip(tmp_path / "in.mkv", track), tmp_path / "out.mp4"
    [report] = copy_clip(source, target).audio
    with av.open(source) as container:
        frame = next(islice(container.decode(audio=0), 3, None))
        lost_s = 4 * frame.samples / frame.sample_rate
    assert report.action == "encoded"
    assert report.silence_s == pytest.approx(lost_s, abs=0.015)
    lag, likeness = lag_ms(heard(target), heard(source))
    assert abs(lag) < 5
    assert likeness > 0.95
    assert is_gapless(target)


def test_tracks_mend_lost_packet_of_transport_stream(tmp_path: Path) -> None:
    source, target = make_sound_clip(tmp_path / "in.ts", SoundTrack("aac")), tmp_path / "out.mp4"
    intact = heard(source)
    lose_packet(source, AUDIO, 40)
    [report] = copy_clip(source, target).audio
    assert (report.action, report.reason) == ("encoded", "It is damaged.")
    lag, likeness = lag_ms(heard(target), intact)
    assert abs(lag) < 5
    assert likeness > 0.9
    assert is_gapless(target)


@pytest.mark.parametrize("seconds", [30, 0.5, -0.5, -30, 90_000])
def test_tracks_ignore_single_wrong_time_of_sound(tmp_path: Path, seconds: float) -> None:
    source, target = make_sound_clip(tmp_path / "in.ts", SoundTrack("aac", start_s=40)), tmp_path / "out.mp4"
    intact = heard(source, seconds=44)
    move_times(source, AUDIO, slice(30, 33), seconds)
    [report] = copy_clip(source, target).audio
    assert report.action == "encoded"
    lag, likeness = lag_ms(heard(target, seconds=44), intact)
    assert abs(lag) < 5
    assert likeness > 0.9
    assert is_gapless(target)


def test_tracks_leave_out_sound_that_overlaps_after_times_jump_back(tmp_path: Path) -> None:
    source, target = make_sound_clip(tmp_path / "in.ts", SoundTrack("aac")), tmp_path / "out.mp4"
    intact = heard(source)
    move_times(source, AUDIO, slice(50, None), -0.3)
    [report] = copy_clip(source, target).audio
    assert report.action == "encoded"
    assert is_gapless(target)
    sound, half = heard(target), round((BEFORE_S + 1.2) * RATE)
    early = half - RATE // 4
    assert lag_ms(sound[:early], intact[:early])[0] == pytest.approx(0, abs=5)
    assert lag_ms(sound[half:], intact[half:])[0] == pytest.approx(-300, abs=5)


def test_tracks_keep_sound_whose_channels_and_rate_change(tmp_path: Path) -> None:
    parts = [
        make_sound_clip(tmp_path / f"{rate}.ts", SoundTrack("mp2", rate, layout))
        for rate, layout in ((48_000, "stereo"), (32_000, "mono"))
    ]
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    [report] = write_tracks(source, tmp_path / "tracks.mp4", DEFAULTS).audio
    assert report.action == "encoded"
    with av.open(tmp_path / "tracks.mp4") as container:
        stream = container.streams.audio[0]
        assert (stream.rate, stream.layout.name) == (48_000, "stereo")
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(sound) / 48_000 == pytest.approx(4, abs=0.2)
    assert sound[-90_000:].std() > 0.1


def test_tracks_do_not_need_sound_that_begins_in_the_middle(tmp_path: Path) -> None:
    silent, loud = make_sound_clip(tmp_path / "a.ts"), make_sound_clip(tmp_path / "b.ts", SoundTrack("mp2"))
    source = tmp_path / "in.ts"
    source.write_bytes(silent.read_bytes() * 40 + loud.read_bytes())
    assert all(
        report.action == "encoded" for report in write_tracks(source, tmp_path / "t.mp4", DEFAULTS).audio
    )


def test_tracks_leave_out_streams_without_sound_or_with_unknown_codec(tmp_path: Path) -> None:
    lost = SoundTrack("aac", is_lost=lambda packet: True)
    source, target = (
        make_sound_clip(tmp_path / "in.mkv", lost, SoundTrack("pcm_u8", 8000)),
        tmp_path / "out.mp4",
    )
    empty, sound = copy_clip(source, target).audio
    assert (empty.action, empty.reason) == ("left_out", "It has no sound.")
    assert sound.action == "encoded"
    content = source.read_bytes()
    source.write_bytes(content.replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT"))
    unknown = copy_clip(source, target).audio[1]
    assert unknown == TrackReport(2, "unknown", "left_out", "Its codec is not read here.")
    with av.open(target) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("codec", ["aac", "pcm_u8"])
def test_tracks_refuse_sound_beyond_limit(tmp_path: Path, codec: str) -> None:
    source = make_sound_clip(tmp_path / "in.mkv", SoundTrack(codec, 8000, "mono", seconds=5))
    with pytest.raises(BadVideo, match="sound is longer than 3 seconds"):
        write_tracks(source, tmp_path / "tracks.mp4", Limits(max_duration_s=3))


def test_tracks_keep_languages_titles_and_default(tmp_path: Path) -> None:
    tracks = [
        SoundTrack("aac", 44_100, metadata=[("language", "deu"), ("title", "Kommentar")]),
        SoundTrack("pcm_u8", 8000, "mono", seed=1, metadata=[("language", "eng")], is_default=True),
        SoundTrack("ac3", seed=2, metadata=[("language", "fra")]),
    ]
    source, target = make_sound_clip(tmp_path / "in.mkv", *tracks), tmp_path / "out.mp4"
    assert [report.action for report in copy_clip(source, target).audio] == ["copied", "encoded", "copied"]
    with av.open(target) as container:
        streams = container.streams.audio
        assert [stream.language for stream in streams] == ["deu", "eng", "fra"]
        assert [stream.metadata.get("name") for stream in streams] == ["Kommentar", None, None]
        assert [bool(stream.disposition & Disposition.default) for stream in streams] == [False, True, False]
    for number in range(3):
        lag, likeness = lag_ms(heard(target, number), heard(source, number))
        assert abs(lag) < 5
        assert likeness > 0.95


def make_text_clip(path: Path, codec: str, *texts: bytes, duration: int = 300) -> Path:
    """Write a clip of two seconds with a title, two chapters, and a text every 0.4 seconds.

    Each text is shown for `duration` milliseconds.
    """
    with av.open(path, "w") as output:
        video, text = output.add_stream("mpeg4", rate=25), output.add_mux_stream(codec)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        text.time_base = MS
        text.metadata.update({"language": "fra", "title": "Paroles"})
        output.metadata.update({"title": "Été", "date": "2024-05-06", "artist": "somebody"})
        chapters = [("One", 0, 800), ("Deux", 800, 2000)]
        output.set_chapters(
            [
                {"id": n, "start": start, "end": end, "time_base": MS, "metadata": {"title": title}}
                for n, (title, start, end) in enumerate(chapters)
            ]
        )
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(gradient(index))
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for index, content in enumerate(texts):
            packet = av.Packet(content)
            packet.pts = packet.dts = 400 * index
            packet.duration, packet.time_base, packet.stream = duration, MS, text
            output.mux(packet)
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "texts", "action"),
    [
        ("mkv", "subrip", (b"<i>Bonjour</i>", "Été\nici".encode()), "encoded"),
        (
            "mkv",
            "ass",
            (b"0,0,Default,,0,0,0,,{\\b1}Bonjour", "1,0,Default,,0,0,0,,Été\\Nici".encode()),
            "encoded",
        ),
        ("mkv", "webvtt", (b"Bonjour", "Été\nici".encode()), "encoded"),
        ("mp4", "mov_text", (b"\0\x07Bonjour", b"\0\x0a" + "Été\nici".encode()), "copied"),
    ],
)
def test_tracks_keep_text_title_date_and_chapters(
    tmp_path: Path, suffix: str, codec: str, texts: tuple[bytes, ...], action: str
) -> None:
    source, target = make_text_clip(tmp_path / f"in.{suffix}", codec, *texts), tmp_path / "out.mp4"
    [report] = copy_clip(source, target).subtitles
    assert (report.stream, report.codec, report.action) == (1, codec, action)
    with av.open(target) as container:
        stream = container.streams.subtitles[0]
        assert (stream.language, stream.metadata["name"]) == ("fra", "Paroles")
        tags = container.metadata
        assert (tags["title"], tags["date"], tags["artist"]) == ("Été", "2024-05-06", "somebody")
        chapters = [
            (c["metadata"]["title"], c["start"] * (c["time_base"] or 0)) for c in container.chapters()
        ]
        assert chapters == [("One", 0), ("Deux", Fraction(4, 5))]
        shown = [
            (
                (packet.pts or 0) * packet.time_base,
                (packet.duration or 0) * packet.time_base,
                bytes(packet)[2:9],
            )
            for packet in container.demux(stream)
            if packet.size > 2
        ]
    assert shown == [
        (0, Fraction(3, 10), b"Bonjour"),
        (Fraction(2, 5), Fraction(3, 10), "Été\ni".encode()),
    ]


def test_tracks_show_overlapping_subtitles_together(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mp4"
    make_text_clip(source, "subrip", b"one", b"<i>two</i>", b"three", duration=700)
    copy_clip(source, target)
    with av.open(target) as container:
        shown = [
            ((packet.pts or 0), (packet.pts or 0) + (packet.duration or 0), bytes(packet)[2:].split(b"\0")[0])
            for packet in container.demux(container.streams.subtitles[0])
            if packet.size > 2
        ]
    assert shown == [
        (0, 400, b"one"),
        (400, 700, b"one\ntwo"),
        (700, 800, b"two"),
        (800, 1100, b"two\nthree"),
        (1100, 1500, b"three"),
    ]


def test_tracks_name_subtitles_that_mp4_cannot_hold(tmp_path: Path) -> None:
    source, target = make_text_clip(tmp_path / "in.mkv", "dvd_subtitle"), tmp_path / "out.mp4"
    [report] = copy_clip(source, target).subtitles
    assert report == TrackReport(1, "dvd_subtitle", "left_out", "MP4 can hold text only.")


def test_tracks_keep_sound_whose_channels_are_listed_one_by_one(tmp_path: Path) -> None:
    """MOV lists those of 7.1. Decoding with such a list ends the process, so a sandbox writes the tracks."""
    source = make_sound_clip(tmp_path / "in.mov", SoundTrack("pcm_s24le", layout="7.1"))
    content = source.read_bytes()
    as_bits, as_list = (
        struct.pack(">4s3I", b"chan", 0, 1 << 16, 0x63F),
        struct.pack(">4s3I", b"chan", 0, 128 << 16 | 8, 0),
    )
    assert as_bits in content
    source.write_bytes(content.replace(as_bits, as_list))
    with open_clip(source, 1) as reader:
        report = reader.sandbox.call("tracks", target=tmp_path / "tracks.mp4")
    assert report["audio"][0]["action"] == "copied"
    sounds = []
    for path in (source, tmp_path / "tracks.mp4"):
        with av.open(path) as container:
            sounds.append(b"".join(bytes(packet) for packet in container.demux(audio=0)))
    assert len(sounds[0]) == 2 * 48_000 * 8 * 3
    assert sounds[1] == sounds[0]

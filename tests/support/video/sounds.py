"""Clips with sound that can be recognised, and measures of what is heard when."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from tests.support.video.clips import gradient

Sound = NDArray[np.float64]
#: Samples a second in which sounds are compared, and the seconds before the first picture that are compared.
RATE, BEFORE_S = 8000, 1


@dataclass(frozen=True)
class SoundTrack:
    """A track of `seconds` of noise, which begins `start_s` later than the pictures.

    Packets for whose number `is_lost` is true are left out. `metadata` describes the stream.
    """

    codec: str
    rate: int = 48_000
    layout: str = "stereo"
    format: str | None = None
    seconds: float = 2.0
    start_s: float = 0.0
    seed: int = 0
    is_lost: Callable[[int], bool] = lambda packet: False
    metadata: Sequence[tuple[str, str]] = ()
    is_default: bool = False


def make_sound_clip(path: Path, *tracks: SoundTrack, times_ms: Sequence[int] = range(0, 2000, 40)) -> Path:
    """Write a clip with a picture at each of these times, and with these tracks."""
    with av.open(path, "w") as output:
        video = output.add_stream("mpeg4", rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        is_regular = all(time % 40 == 0 for time in times_ms)  # AVI can hold no other times
        video.time_base = video.codec_context.time_base = Fraction(1, 25 if is_regular else 1000)
        streams = [_add_sound(output, track) for track in tracks]
        packets: list[Any] = []
        for index, time in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(gradient(index))
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            packets += video.encode(frame)
        packets += video.encode(None)
        for stream, track in zip(streams, tracks, strict=True):
            packets += _sound_packets(stream, track)
        output.start_encoding()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


def _add_sound(output: av.container.OutputContainer, track: SoundTrack) -> av.AudioStream:
    stream = output.add_stream(track.codec, rate=track.rate, options={"strict": "experimental"})
    assert isinstance(stream, av.AudioStream)
    stream.codec_context.layout = track.layout
    if track.format:
        stream.codec_context.format = track.format
    stream.codec_context.time_base = Fraction(1, track.rate)
    stream.bit_rate = 64_000 * stream.codec_context.channels
    stream.metadata.update(dict(track.metadata))
    if track.is_default:
        stream.disposition = av.stream.Disposition.default
    return stream


def _sound_packets(stream: av.AudioStream, track: SoundTrack) -> list[Any]:
    sound = noise(track.rate, track.seconds, track.seed)
    channels = stream.codec_context.channels
    packets: list[Any] = []
    for start in range(0, len(sound), 1000):
        piece = np.repeat(sound[start : start + 1000], channels)[None]
        frame = av.AudioFrame.from_ndarray(piece, "flt", track.layout)
        frame.pts, frame.sample_rate = start + round(track.start_s * track.rate), track.rate
        frame.time_base = Fraction(1, track.rate)
        packets += stream.encode(frame)
    packets += stream.encode(None)
    return [packet for number, packet in enumerate(packets) if not track.is_lost(number)]


def noise(rate: int, seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Return sound (samples) that is unlike itself at any other time, and has little above 1.5 kHz."""
    coarse = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * 3000) + 8)
    times = np.arange(round(seconds * rate)) / rate
    return np.interp(times, np.arange(len(coarse)) / 3000, coarse).astype(np.float32)


def heard(path: Path, track: int = 0, seconds: float = 4.0) -> Sound:
    """Return what is heard, all channels mixed, from `BEFORE_S` before the first picture on, for so long."""
    with av.open(path) as container:
        first = next(container.decode(video=0))
        origin = Fraction(first.pts or 0) * (first.time_base or 1) - BEFORE_S
    times, line, end = np.arange(round(seconds * RATE)) / RATE, np.zeros(round(seconds * RATE)), 0.0
    with av.open(path) as container:
        stream = container.streams.audio[track]
        for packet in container.demux(stream):
            for frame in _decode(stream, packet):
                if frame.pts is None or not frame.time_base:
                    continue
                start = float(frame.pts * frame.time_base - origin)
                if abs(start - end) < 0.002:  # Matroska rounds to milliseconds
                    start = end
                end = start + frame.samples / frame.sample_rate
                here = slice(*np.searchsorted(times, [start, end]))
                parts = av.AudioResampler("flt", "mono", frame.sample_rate).resample(frame)
                mixed = np.concatenate([part.to_ndarray()[0] for part in parts])
                line[here] = np.interp(times[here], start + np.arange(len(mixed)) / frame.sample_rate, mixed)
    return line


def _decode(stream: av.AudioStream, packet: Any) -> list[av.AudioFrame]:
    try:
        return stream.decode(packet)
    except av.FFmpegError:
        return []


def lag_ms(sound: Sound, reference: Sound) -> tuple[float, float]:
    """Return by how many milliseconds `sound` is late, and how much it is then like `reference` (0..1)."""
    size = 2 * len(reference)
    spectrum = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(reference, size))
    correlation = np.fft.irfft(spectrum, size)
    best = int(np.argmax(correlation))
    scale = float(np.sqrt((sound**2).sum() * (reference**2).sum())) or 1.0
    return (best - size if best > len(reference) else best) * 1000 / RATE, float(correlation[best]) / scale

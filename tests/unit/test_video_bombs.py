"""Small files that would cost gigabytes, hours or secrets: refused at upload, and while a job decodes."""

import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.support.clips import gradient, make_clip
from worker.jobs.errors import BadVideo, InvalidInput
from worker.jobs.limits import Limits
from worker.jobs.media.probe_process import Field, probe_in_process
from worker.video.decoding.reader import ClipReader
from worker.video.inference.composite import load_image

LIMITS = Limits(max_pixels=64 * 48, max_frames=50, max_duration_s=10, max_streams=4)
Make = Callable[[Path], Path]


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *numbers: int) -> bytes:
    """A box of version 0 without flags that holds 32-bit numbers."""
    return box(kind, bytes(4), struct.pack(f">{len(numbers)}I", *numbers))


def mp4(path: Path, samples: int, tracks: int = 1, width: int = 64) -> Path:
    """An MP4 whose tracks claim so many samples of one byte, with hardly a byte behind it."""
    picture = bytes(16) + struct.pack(">HH", width, 48) + struct.pack(">IIIH", 72 << 16, 72 << 16, 0, 1)
    entry = box(b"raw ", bytes(7) + b"\1", picture, bytes(32), struct.pack(">Hh", 24, -1))
    table = [
        box(b"stsd", bytes(4), struct.pack(">I", 1), entry),
        full(b"stts", 1, samples, 1),
        full(b"stsc", 1, 1, samples, 1),
        full(b"stsz", 1, samples),
        full(b"stco", 1, 1000),
    ]
    media = box(
        b"mdia",
        full(b"mdhd", 0, 0, 1000, 1000, 0),
        box(b"hdlr", bytes(8), b"vide", bytes(13)),
        box(b"minf", full(b"vmhd", 0, 0), box(b"stbl", *table)),
    )
    track = box(b"trak", box(b"tkhd", struct.pack(">21I", 3, 0, 0, 1, *[0] * 17)), media)
    header = full(b"mvhd", 0, 0, 1000, 1000, *[0] * 20)
    path.write_bytes(box(b"ftyp", b"isom", bytes(4)) + box(b"moov", header, track * tracks) + bytes(64))
    return path


def png(path: Path, side: int) -> Path:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = zlib.compressobj(9)
    packed = b"".join([*(rows.compress(bytes(side * 3 + 1)) for _ in range(side)), rows.flush()])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


def gif(path: Path, side: int, frames: int) -> Path:
    frame = b"\x21\xf9\x04\0\x0a\0\0\0\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    path.write_bytes(head + frame * frames + b";")
    return path


def slow(path: Path, frames: int = 3, seconds: int = 20) -> Path:
    """A few frames, of which each is shown for so long."""
    return make_clip(
        path, [gradient(i) for i in range(frames)], pts=[i * seconds * 12_800 for i in range(frames)]
    )


def lying(path: Path, seconds: float) -> Path:
    """A Matroska file of one second, or of a minute, that says how long it is."""
    content = bytearray(slow(path).read_bytes())
    place = content.index(b"\x44\x89\x88") + 3
    content[place : place + 8] = struct.pack(">d", seconds * 1000)
    path.write_bytes(content)
    return path


def growing(path: Path, width: int, height: int) -> Path:
    """An MPEG program stream whose frames change their size on the way."""
    parts = [
        make_clip(
            path.with_name(f"{w}.mpg"),
            [gradient(i, w, h) for i in range(10)],
            codec="mpeg2video",
            time_base=Fraction(1, 25),
        )
        for w, h in ((64, 48), (width, height))
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def many_streams(path: Path, streams: int) -> Path:
    with av.open(path, "w") as output:
        for _ in range(streams):
            stream = output.add_stream("ffv1", rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for stream in output.streams.video:
            output.mux([*stream.encode(av.VideoFrame.from_ndarray(gradient(0))), *stream.encode(None)])
    return path


#: What the container itself says; all of these are a few KB, the picture of zeros 1 MB.
CLAIMS: dict[str, tuple[Field, Make, str]] = {
    "index": ("file", lambda path: mp4(path, 50_000_000), "50000000 frames: more than 50"),
    "frames": ("file", lambda path: mp4(path, 51), "51 frames: more than 50"),
    "pixels": ("file", lambda path: mp4(path, 1, width=65_534), "no size, or more than 3072 pixels"),
    "tracks": ("file", lambda path: mp4(path, 1, tracks=5_000), "too many streams"),
    "streams": ("file", lambda path: many_streams(path.with_suffix(".mkv"), 5), "more than 4 streams"),
    "seconds": ("file", slow, "longer than 10 seconds"),
    "lie": ("file", lambda path: lying(path.with_suffix(".mkv"), 1e9), "longer than 10 seconds"),
    "canvas": ("file", lambda path: gif(path, 16_000, 2), "no size, or more than 3072 pixels"),
    "loops": ("file", lambda path: gif(path, 48, 300_000), "300000 frames: more than 50"),
    "image": ("background", lambda path: png(path, 16_000), "more than 3072 pixels"),
}


@pytest.mark.parametrize("bomb", CLAIMS)
def test_a_bomb_is_refused_at_upload_in_a_sentence(tmp_path: Path, bomb: str) -> None:
    field, make, message = CLAIMS[bomb]
    with pytest.raises(InvalidInput, match=message) as caught:
        probe_in_process(field, make(tmp_path / "upload.mp4"), LIMITS)
    assert caught.value.field == field


def test_what_is_within_the_limits_is_let_in(tmp_path: Path) -> None:
    probe_in_process("file", make_clip(tmp_path / "clip.mp4", [gradient(i) for i in range(50)]), LIMITS)
    probe_in_process("file", many_streams(tmp_path / "clip.mkv", 4), LIMITS)
    probe_in_process("background", png(tmp_path / "image.png", 48), LIMITS)


def test_a_bomb_costs_neither_memory_nor_time(tmp_path: Path) -> None:
    """Without limits this index takes 1.8 GB, the picture 0.8 GB; a process of its own sees the peak."""
    script = (
        "import sys, resource; from pathlib import Path\n"
        "from worker.jobs.errors import InvalidInput\n"
        "from worker.jobs.media.probe_process import probe_in_process\n"
        "from worker.jobs.limits import Limits\n"
        "for field, path in zip(('file', 'background'), sys.argv[1:]):\n"
        "    try: probe_in_process(field, Path(path), Limits())\n"
        "    except InvalidInput: print('refused')\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    bombs = [mp4(tmp_path / "clip.mp4", 50_000_000), png(tmp_path / "image.png", 16_000)]
    run = subprocess.run(
        [sys.executable, "-c", script, *map(str, bombs)], capture_output=True, text=True, check=True
    )
    refusals, peak_mb = run.stdout.split()[:2], int(run.stdout.split()[2])
    assert refusals == ["refused", "refused"]
    assert peak_mb < 300


@pytest.mark.parametrize(
    "died",
    [[sys.executable, "-c", "import os; os.kill(os.getpid(), 24)"], ["sleep", "60"]],
    ids=["CPU", "wall"],
)
def test_an_inspection_that_takes_too_long_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, died: list[str]
) -> None:
    real = subprocess.run
    monkeypatch.setattr("worker.jobs.media.probe_process.MAX_WALL_S", 2)
    monkeypatch.setattr(
        "worker.jobs.media.probe_process.subprocess.run", lambda command, **options: real(died, **options)
    )
    with pytest.raises(InvalidInput, match="too much time"):
        probe_in_process("file", tmp_path / "clip.mp4", LIMITS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: make_clip(path, [gradient(i) for i in range(51)]), "more than 50 frames"),
        (slow, "longer than 10 seconds"),
        (lambda path: lying(path.with_suffix(".mkv"), 1), "longer than 10 seconds"),
        (lambda path: many_streams(path.with_suffix(".mkv"), 5), "more than 4 streams"),
        (lambda path: growing(path.with_suffix(".mpg"), 32, 32), "changes its frame size"),
        (lambda path: growing(path.with_suffix(".mpg"), 640, 480), "a frame of more than 3072 pixels"),
    ],
    ids=["frames", "seconds", "lying", "streams", "shrinking", "growing"],
)
def test_a_job_fails_where_its_clip_passes_the_limits(tmp_path: Path, make: Make, message: str) -> None:
    """Whatever its container said: the probe saw nothing wrong with three of these."""
    with (
        pytest.raises(BadVideo, match=message),
        ClipReader(make(tmp_path / "clip.mp4"), 4, limits=LIMITS) as reader,
    ):
        for _ in reader:
            pass


def test_a_container_that_lies_is_let_in_and_caught_by_the_decoder(tmp_path: Path) -> None:
    probe_in_process("file", lying(tmp_path / "clip.mkv", 1), LIMITS)
    probe_in_process("file", growing(tmp_path / "clip.mpg", 640, 480), LIMITS)


@pytest.fixture
def listener() -> "socket.socket":  # type: ignore[misc]
    """A server of which nobody should ask anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


#: Texts that have players fetch other files: {url} is the listener, {file} a clip in the same folder.
POINTERS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXTINF:1,\n{file}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile {file}\nfile {url}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "rtsp": "[Reference]\nRef1=rtsp://127.0.0.1:{port}/\nRef2={url}\n",
    "asx": '<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "svg": '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="64" '
    'height="48"><image width="64" height="48" xlink:href="{url}"/><image xlink:href="file://{file}"/></svg>',
    "smil": '<smil><body><video src="{url}"/></body></smil>',
    "imf": '<?xml version="1.0"?><AssetMap><Path>{file}</Path></AssetMap>',
    "lavfi": "movie={file}",
    "pattern": "clip%d.mp4",
}


@pytest.mark.parametrize("field", ["file", "background"])
@pytest.mark.parametrize("pointer", POINTERS)
def test_nothing_that_a_text_points_to_is_read(
    tmp_path: Path, listener: socket.socket, pointer: str, field: Field
) -> None:
    other = make_clip(tmp_path / "clip1.mp4", [gradient(0)] * 3)
    port = listener.getsockname()[1]
    path = tmp_path / f"upload.{pointer}"
    path.write_text(POINTERS[pointer].format(url=f"http://127.0.0.1:{port}/a.ts", file=other, port=port))
    with pytest.raises(InvalidInput, match=r"not a video|not an image"):
        probe_in_process(field, path, Limits())
    with pytest.raises(BadVideo):  # the worker would not either
        load_image(path) if field == "background" else ClipReader(path, 4)
    with pytest.raises(BlockingIOError):
        listener.accept()


def elsewhere(source: Path, target: Path) -> Path:
    """`source` with its pictures zeroed, and a QuickTime alias that says they lie in that very file."""
    content = source.read_bytes()
    name = f"/{source.name}".encode()
    alias = bytes(10) + b"\0" + bytes(27) + bytes(12) + b"\0" + bytes(63) + bytes(16)
    alias += struct.pack(">HH", 1, 1) + bytes(16)  # one folder up from the file, one down to the target
    alias += struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2) + struct.pack(">HH", 0xFFFF, 0)
    old = box(b"dref", bytes(4), struct.pack(">I", 1), box(b"url ", b"\0\0\0\1"))
    new = box(b"dref", bytes(4), struct.pack(">I", 1), box(b"alis", bytes(4), alias))
    place = content.index(old)
    moved = bytearray(content[:place] + new + content[place + len(old) :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        start = content.index(kind) - 4
        moved[start : start + 4] = struct.pack(
            ">I", struct.unpack_from(">I", content, start)[0] + len(new) - len(old)
        )
    first = content.index(b"mdat") + 4
    moved[first : content.index(b"moov") - 4] = bytes(content.index(b"moov") - 4 - first)
    target.write_bytes(moved)
    return target


def test_an_mp4_cannot_show_the_pictures_of_another_file(tmp_path: Path) -> None:
    clip = elsewhere(
        make_clip(tmp_path / "other.mp4", [gradient(i) for i in range(5)]), tmp_path / "clip.mp4"
    )
    with av.open(clip, options={"enable_drefs": "1"}) as container:
        assert len(list(container.decode(video=0))) == 5  # so the alias is one that libav would follow
    with pytest.raises(BadVideo), ClipReader(clip, 4) as reader:
        list(reader)

"""probe_in_process: it refuses small uploads that would cost gigabytes, hours or secrets to decode."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from tests.support.video.bombs import (
    black_png,
    false_duration,
    long_clip,
    many_streams,
    raw_mp4,
    resized_midway,
    tiny_frame_gif,
)
from tests.support.video.clips import gradient, make_clip
from tests.support.video.tiny_packets import tiny_packets
from worker.jobs.errors import BadVideo, InvalidInput
from worker.jobs.limits import Limits
from worker.jobs.media.probe.clip_info import ClipInfo
from worker.jobs.media.probe.confinement import landlock_version
from worker.jobs.media.probe.probe_process import MAX_WALL_S, probe_in_process
from worker.video.decoding.decoder import ClipDecoder
from worker.video.decoding.image import decode_image

LIMITS = Limits(max_pixels=64 * 48, max_frames=50, max_duration_s=10, max_streams=4)

#: Files whose header alone shows that they exceed the limits. Each is a few KB, but the black image is 1 MB.
BOMBS: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "index": ("file", lambda path: raw_mp4(path, 50_000_000), "50000000 frames: more than 50"),
    "frames": ("file", lambda path: raw_mp4(path, 51), "51 frames: more than 50"),
    "pixels": ("file", lambda path: raw_mp4(path, 1, width=65_534), "no size, or more than 3072 pixels"),
    "tracks": ("file", lambda path: raw_mp4(path, 1, tracks=5_000), "too many streams"),
    "streams": ("file", lambda path: many_streams(path.with_suffix(".mkv"), 5), "more than 4 streams"),
    "seconds": ("file", long_clip, "longer than 10 seconds"),
    "false-duration": (
        "file",
        lambda path: false_duration(path.with_suffix(".mkv"), 1e9),
        "longer than 10 seconds",
    ),
    "canvas": ("file", lambda path: tiny_frame_gif(path, 16_000, 2), "no size, or more than 3072 pixels"),
    "gif-frames": ("file", lambda path: tiny_frame_gif(path, 48, 300_000), "300000 frames: more than 50"),
    "packets": (
        "file",
        lambda path: tiny_packets(path.with_suffix(".mkv"), 100_000),
        "none in its first 10000 packets",
    ),
    "image": ("background", lambda path: black_png(path, 16_000), "more than 3072 pixels"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_probe_process_refuses_bomb(tmp_path: Path, bomb: str) -> None:
    field, make, message = BOMBS[bomb]
    with pytest.raises(InvalidInput, match=message) as caught:
        probe_in_process(field, make(tmp_path / "upload.mp4"), LIMITS, picture=field == "background")
    assert caught.value.field == field


def test_probe_process_accepts_files_within_limits(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", [gradient(i) for i in range(50)])
    found = ClipInfo(64, 48, frames=50, rate=Fraction(25), duration_s=2.0, codec="h264")
    assert probe_in_process("file", clip, LIMITS) == found
    assert probe_in_process("file", many_streams(tmp_path / "clip.mkv", 4), LIMITS).frames is None
    image = black_png(tmp_path / "image.png", 48)
    assert probe_in_process("background", image, LIMITS, picture=True) == ClipInfo(48, 48)


def test_probe_process_accepts_files_of_the_largest_size(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", [gradient(0, 3840, 2160)])
    assert probe_in_process("file", clip, Limits()).width == 3840
    image = black_png(tmp_path / "image.png", 2880)
    assert probe_in_process("background", image, Limits(), picture=True) == ClipInfo(2880, 2880)


def test_probe_process_accepts_false_headers(tmp_path: Path) -> None:
    """Only decoding shows that these clips exceed the limits. See test_video_reader_limits.py."""
    probe_in_process("file", false_duration(tmp_path / "clip.mkv", 1), LIMITS)
    probe_in_process("file", resized_midway(tmp_path / "clip.mpg", 640, 480), LIMITS)


def test_probe_process_limits_memory(tmp_path: Path) -> None:
    """Without limits the clip's index takes 1.8 GB, the packets of sound 1.1 GB, and the image 0.8 GB.

    Another process runs the probes, so that the peak memory of its children is theirs alone.
    """
    script = (
        "import sys, resource; from pathlib import Path\n"
        "from worker.jobs.errors import InvalidInput\n"
        "from worker.jobs.media.probe.probe_process import probe_in_process\n"
        "from worker.jobs.limits import Limits\n"
        "for field, path in zip(('file', 'file', 'background'), sys.argv[1:]):\n"
        "    try: probe_in_process(field, Path(path), Limits(), picture=field == 'background')\n"
        "    except InvalidInput: print('refused')\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    bombs = [
        raw_mp4(tmp_path / "clip.mp4", 50_000_000),
        tiny_packets(tmp_path / "clip.mkv", 4_000_000),
        black_png(tmp_path / "image.png", 16_000),
    ]
    run = subprocess.run(
        [sys.executable, "-c", script, *map(str, bombs)], capture_output=True, text=True, check=True
    )
    *refusals, peak_mb = run.stdout.split()
    assert refusals == ["refused"] * 3
    assert int(peak_mb) <= 512


@pytest.mark.parametrize(
    ("child", "max_wall_s"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", MAX_WALL_S),
        ("import signal; signal.pause()", 0.2),
    ],
    ids=["cpu", "wall"],
)
def test_probe_process_refuses_slow_probe(tmp_path: Path, child: str, max_wall_s: float) -> None:
    command = [sys.executable, "-c", child]
    with pytest.raises(InvalidInput, match="too much time"):
        probe_in_process("file", tmp_path / "clip.mp4", LIMITS, max_wall_s=max_wall_s, command=command)


def test_probe_process_has_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python itself sets LC_CTYPE if there is no locale."""
    monkeypatch.setenv("STOKER_REDIS_URL", "redis://:secret@redis:6379/0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    child = "import json, os; print(json.dumps({'refused': ' '.join({*os.environ} - {'LC_CTYPE'})}))"
    with pytest.raises(InvalidInput) as caught:
        probe_in_process("file", tmp_path / "clip.mp4", LIMITS, command=[sys.executable, "-c", child])
    assert str(caught.value) == "PYTHONPATH"


#: The child process with another probe, which tries what code in a hostile file might try.
HOSTILE = """
import json, os, resource, socket, sys
from worker.jobs.errors import InvalidInput
from worker.jobs.media.probe import probe_child
def attempt(action):
    try:
        action()
    except PermissionError:
        return "denied"
    return "done"
def hostile_probe(path, *_):
    raise InvalidInput("file", " ".join(attempt(action) for action in (
        lambda: open(path).close(),
        lambda: open(path, "a"),
        lambda: open(path.with_name("other")),
        lambda: open(f"/proc/{os.getppid()}/environ"),
        lambda: os.listdir("/"),
        lambda: socket.create_connection(("127.0.0.1", 9)),
    )))
probe_child._probe = hostile_probe
json.dump(probe_child.main(sys.argv[1]), sys.stdout)
"""


@pytest.mark.skipif(landlock_version() < 4, reason="the kernel's Landlock does not know TCP")
def test_probe_process_reads_nothing_but_its_file(tmp_path: Path) -> None:
    for name in ("clip", "other"):
        (tmp_path / name).touch()
    with pytest.raises(InvalidInput) as caught:
        probe_in_process("file", tmp_path / "clip", LIMITS, command=[sys.executable, "-c", HOSTILE])
    assert str(caught.value).split() == ["done"] + ["denied"] * 5


def test_probe_process_raises_if_the_child_crashes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="3"):
        probe_in_process(
            "file", tmp_path / "clip.mp4", LIMITS, command=[sys.executable, "-c", "raise SystemExit(3)"]
        )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that no code under test may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


#: Texts that make a player read other files: {url} is on the listener, {file} is a clip in the same folder.
PLAYLISTS = {
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
@pytest.mark.parametrize("playlist", PLAYLISTS)
def test_probe_process_opens_no_referenced_file(
    tmp_path: Path, listener: socket.socket, playlist: str, field: str
) -> None:
    """The worker, which opens files without a probe, does not follow references either."""
    other = make_clip(tmp_path / "clip1.mp4", [gradient(0)] * 3)
    port = listener.getsockname()[1]
    path = tmp_path / f"upload.{playlist}"
    path.write_text(PLAYLISTS[playlist].format(url=f"http://127.0.0.1:{port}/a.ts", file=other, port=port))
    with pytest.raises(InvalidInput, match=r"not a video|not an image"):
        probe_in_process(field, path, Limits(), picture=field == "background")
    with pytest.raises(BadVideo):
        decode_image(path) if field == "background" else ClipDecoder(path)
    with pytest.raises(BlockingIOError):
        listener.accept()

"""The probe of uploads: whatever is in a file, it describes the clip or refuses it."""

import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.video.clips import gradient, make_clip
from worker.jobs.errors import InvalidInput
from worker.jobs.limits import DEFAULTS
from worker.jobs.media.probe.probe_process import probe_in_process

#: The codec of the clip in each kind of container, by its file name extension.
CODECS = {
    "mp4": "libx264",
    "mkv": "libx264",
    "webm": "libvpx",
    "avi": "mpeg4",
    "ts": "libx264",
    "gif": "gif",
}
EDIT = st.tuples(st.integers(0, 2**12), st.binary(min_size=1, max_size=8))


@cache
def clip(extension: str) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"clip.{extension}"
        pixels = "rgb8" if extension == "gif" else "yuv420p"
        pictures = [gradient(index) for index in range(4)]
        return make_clip(path, pictures, codec=CODECS[extension], pix_fmt=pixels).read_bytes()


@settings(max_examples=settings().max_examples // 10)  # each example starts a process
@given(
    extension=st.sampled_from(sorted(CODECS)),
    edits=st.lists(EDIT, max_size=6),
    end=st.none() | st.integers(0, 2**12),
)
def test_probe_of_any_damaged_clip_answers(
    extension: str, edits: list[tuple[int, bytes]], end: int | None
) -> None:
    """The edits replace bytes of the clip, mostly in its header, and `end` cuts it off."""
    content = bytearray(clip(extension))
    for start, replacement in edits:
        start %= len(content)
        content[start : start + len(replacement)] = replacement
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        path.write_bytes(content[:end])
        with suppress(InvalidInput):
            found = probe_in_process("file", path, DEFAULTS)
            assert json.dumps(found.to_json())

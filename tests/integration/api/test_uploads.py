"""Uploads of clips and backgrounds: checks, limits, and nothing left after a refusal."""

import resource
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support.video.bombs import black_png, raw_mp4
from tests.support.video.clips import gradient, make_clip
from tests.support.web.uploads import write_image
from tests.support.web.webstack import Web, assert_refused, serve, upload

MAX_UPLOAD_BYTES = 200_000
#: Settings of this module's server.
SETTINGS = {"max_upload_bytes": MAX_UPLOAD_BYTES, "max_duration_s": 1}


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("effect", {"effect": "sparkle"}),
        ("pad", {"pad": "ones"}),
        ("deinterlace", {"deinterlace": "perhaps"}),
        ("odd_size", {"odd_size": "crop"}),
        ("timeout_s", {"timeout_s": "soon"}),
        ("max_queue_s", {"max_queue_s": "0"}),
        ("model", {"model": "sam"}),
        ("background", {"background": "green"}),
        ("background", {"background": b"no image"}),
        ("background", {"background": b""}),
        ("background", {"background": ["#000000", "#ffffff"]}),
        ("background_image", {"background_image": "true"}),
        ("speed", {"speed": "2"}),
        ("mask", {"mask": b"a file"}),
    ],
)
def test_upload_refusal_names_the_field(web: Web, clip: bytes, field: str, fields: dict[str, Any]) -> None:
    assert_refused(web, upload(web, clip, **fields), 422, field)


def test_upload_refuses_a_truncated_background(web: Web, clip: bytes, tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.png")
    assert_refused(web, upload(web, clip, background=image[:60]), 422, "background")


def test_upload_refuses_files_that_are_not_clips(web: Web, tmp_path: Path) -> None:
    tiny = write_image(tmp_path / "1x1.png", 1, 1)
    image = write_image(tmp_path / "image.png")
    for name, clip in {
        "none": None,
        "empty": b"",
        "text": b"I am not a video, whatever my name says.",
        "an image": image,
        "one pixel": tiny,
    }.items():
        response = upload(web, clip)
        assert response.status_code == 422, name
        assert_refused(web, response, 422, "file")


def test_upload_refuses_text_clips_and_other_bodies(web: Web, clip: bytes) -> None:
    assert_refused(web, upload(web, None, file="clip"), 422, "file")
    assert_refused(
        web, web.http.post("/v1/jobs/video", content=clip, headers={"Content-Type": "video/mp4"}), 415
    )
    for form in ("multipart/form-data; boundary=x", "multipart/form-data"):
        headers = {"Content-Type": form}
        assert_refused(web, web.http.post("/v1/jobs/video", content=b"nonsense", headers=headers), 400)


def test_upload_refuses_decompression_bombs(web: Web, clip: bytes, tmp_path: Path) -> None:
    assert "50000000 frames" in assert_refused(
        web, upload(web, raw_mp4(tmp_path / "a", 50_000_000).read_bytes()), 422, "file"
    )
    image = black_png(tmp_path / "b", 8_000).read_bytes()
    assert "pixels" in assert_refused(web, upload(web, clip, background=image), 422, "background")
    long = make_clip(tmp_path / "c.mp4", [gradient(0)] * 26).read_bytes()
    assert "longer than 1 sec" in assert_refused(web, upload(web, long), 422, "file")


@pytest.mark.parametrize(
    "name", ["../../clip.mp4", "/etc/passwd", "..", "a\\..\\b", "x" * 5000, "\u202egpj.exe"]
)
def test_upload_names_never_reach_a_path(web: Web, clip: bytes, tmp_path: Path, name: str) -> None:
    image = write_image(tmp_path / "image.png")
    files = {"file": (name, clip, "text/html"), "background": (name, image, name.encode().hex())}
    response = web.http.post("/v1/jobs/video", files=files)
    assert response.status_code == 202, response.text
    media = web.settings.media_dir
    folder = f"{response.json()['id']}"
    written = {str(path.relative_to(media)) for path in media.rglob("*")}
    assert written == {folder, f"{folder}/clip", f"{folder}/background"}
    assert {path.name for path in web.settings.home_dir.iterdir()} == {"media", "slots"}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("part", ["file", "field"])
def test_upload_over_the_limit_is_refused(web: Web, chunked: bool, part: str) -> None:
    boundary, filename = uuid.uuid4().hex, '; filename="a.mp4"' if part == "file" else ""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"{filename}\r\n\r\n'
    pieces = [head.encode(), *[b"x" * 50_000] * 5, f"\r\n--{boundary}--\r\n".encode()]
    content: Any = iter(pieces) if chunked else b"".join(pieces)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    response = web.http.post("/v1/jobs/video", content=content, headers=headers)
    assert ("Content-Length" in response.request.headers) != chunked
    assert_refused(web, response, 413, "file")


def test_upload_with_too_many_parts_is_refused(web: Web, clip: bytes) -> None:
    assert_refused(web, upload(web, clip, **{f"field{i}": "x" for i in range(80)}), 413, "file")


def test_upload_accepts_a_truncated_clip(web: Web, clip: bytes) -> None:
    assert upload(web, clip[:-100]).status_code == 202


def test_upload_sets_the_jobs_timeouts(web: Web, clip: bytes) -> None:
    response = upload(web, clip, timeout_s="90", max_queue_s="7.5")
    assert response.status_code == 202, response.text
    spec = web.ledger.get(response.json()["id"]).spec
    assert (spec.timeout_s, spec.max_queue_s) == (90, 7.5)


def test_upload_larger_than_all_buffers_arrives_whole(web: Web, clip: bytes) -> None:
    size = MAX_UPLOAD_BYTES - len(clip) - 1000  # the form around it needs the rest
    padded = clip + size.to_bytes(4) + b"free" + b"\r\n--" * (size // 4)  # looks like the start of a boundary
    response = upload(web, padded)
    assert response.status_code == 202, response.text
    assert (web.settings.media_dir / response.json()["id"] / "clip").read_bytes() == padded


def test_upload_without_disk_space_answers_507(redis_url: str, clip: bytes, tmp_path: Path) -> None:
    with serve(redis_url, tmp_path / "home", {resource.RLIMIT_FSIZE: 50_000}) as web:
        size = 100_000
        response = upload(web, clip + size.to_bytes(4) + b"free" + b"x" * (size - 8))
        detail = assert_refused(web, response, 507)
        assert detail == "There is no room for the upload."
        assert upload(web, clip).status_code == 202

"""Tests of the video routes with OpenAI's Python client."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.stack import eventually
from tests.support.web.openai_clients import client_of
from tests.support.web.uploads import write_clip, write_image
from tests.support.web.webstack import TIMEOUT_S, Web, upload
from worker.jobs.events import Canceled, Failed, Progress, Succeeded
from worker.jobs.specs import VideoJob

#: OpenAI ends its own video service in 2026. Its clients keep the routes, but warn.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning")

RESULT = b"0123456789" * 1000
FACTS = {"frames": 50, "frame_rate": "25/1", "width": 64, "height": 48}


def create(client: openai.OpenAI, clip: bytes, **options: Any) -> Any:
    return client.videos.create(
        **{"prompt": "a sea", "model": "matte", "input_reference": ("../c.mp4", clip, "video/mp4")} | options
    )


def job_of(video: Any) -> str:
    return str(video.id.removeprefix("video_"))


def finish(web: Web, job_id: str) -> None:
    result = web.settings.media_dir / job_id / "result.mp4"
    result.write_bytes(RESULT)
    web.worker.append(job_id, Succeeded(FACTS, {}), result=FACTS, usage={})


def test_video_lifecycle(web: Web, clip: bytes) -> None:
    with client_of(web) as client, ThreadPoolExecutor(1) as pool:
        video = create(client, clip, seconds="4", size="1280x720")
        job_id = job_of(video)
        assert (video.object, video.status, video.progress, video.model) == ("video", "queued", 0, "matte")
        assert (video.prompt, video.seconds, video.size) == ("a sea", "4", "1280x720")
        assert (video.completed_at, video.expires_at, video.error) == (None, None, None)
        web.worker.claim(job_id)
        web.worker.append(job_id, Progress(5, 16, "frames"), done=5, total=16)
        running = client.videos.retrieve(video.id)
        assert (running.status, running.progress) == ("in_progress", 31)
        polled = pool.submit(client.videos.poll, video.id, poll_interval_ms=20)
        finish(web, job_id)
        ended = polled.result(TIMEOUT_S)
        assert (ended.status, ended.progress) == ("completed", 100)
        assert ended.completed_at is not None
        assert ended.created_at <= ended.completed_at
        assert ended.expires_at == ended.completed_at + web.settings.retention_s
        assert client.videos.retrieve(job_id) == ended  # the job's own id works too
        assert client.videos.download_content(video.id).read() == RESULT
        part = client.videos.download_content(video.id, extra_headers={"Range": "bytes=10-19"})
        assert (part.response.status_code, part.read()) == (206, RESULT[10:20])
        assert part.response.headers["Content-Type"] == "video/mp4"
        deleted = client.videos.delete(video.id)
        assert (deleted.id, deleted.deleted, deleted.object) == (video.id, True, "video.deleted")
        with pytest.raises(openai.NotFoundError):
            client.videos.retrieve(video.id)
    assert web.is_untouched()


def test_video_parameters_reach_job(web: Web, clip: bytes) -> None:
    extra = {"effect": "blur", "background": "#010203", "pad": "zeros", "priority": 7, "seed": 4, "fps": 24}
    with client_of(web) as client:
        video = create(client, clip, model=openai.omit, extra_body=extra)
    record = web.ledger.get(job_of(video))
    assert isinstance(record.spec, VideoJob)
    assert record.spec.options == {"effect": "blur", "background": "#010203"}
    assert record.spec.pad == "zeros"
    assert (record.spec.priority, record.spec.model) == (7, "matte")
    assert (video.seconds, video.size) == ("0.12", "64x48")  # those of the clip
    assert (web.settings.media_dir / record.id / "clip").read_bytes() == clip


def test_video_background_image_is_stored(web: Web, clip: bytes, tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.png")
    files = {"input_reference": ("c.mp4", clip), "background": ("b.png", image)}
    response = web.http.post("/v1/videos", data={"prompt": "a"}, files=files)
    assert response.status_code == 200, response.text
    job_id = response.headers["X-Stoker-Job"]
    assert response.json()["id"] == f"video_{job_id}"
    assert (web.settings.media_dir / job_id / "background").read_bytes() == image


@pytest.mark.parametrize(
    ("param", "options"),
    [
        ("input_reference", {"input_reference": openai.omit}),
        ("input_reference", {"input_reference": b"no video"}),
        ("effect", {"extra_body": {"effect": "sparkle"}}),
        ("background", {"extra_body": {"background": "green"}}),
        ("pad", {"extra_body": {"pad": "ones"}}),
        ("priority", {"extra_body": {"priority": "11"}}),
        ("prompt", {"prompt": "x" * 1025}),
        ("seconds", {"seconds": "x" * 1025}),
        ("size", {"size": "x" * 1025}),
        ("timeout_s", {"extra_body": {"timeout_s": "1e9"}}),
    ],
)
def test_video_invalid_request_names_parameter(
    web: Web, clip: bytes, param: str, options: dict[str, Any]
) -> None:
    with client_of(web) as client, pytest.raises(openai.BadRequestError) as caught:
        create(client, clip, **options)
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    assert web.is_untouched()


def test_video_refuses_small_size_unknown_model_and_other_jobs(web: Web, clip: bytes, tmp_path: Path) -> None:
    with client_of(web) as client:
        with pytest.raises(openai.BadRequestError, match="16 pixels"):
            create(client, write_clip(tmp_path / "small.mp4", width=14))
        with pytest.raises(openai.NotFoundError) as unknown:
            create(client, clip, model="sora-2")
        assert unknown.value.code == "model_not_found"
        assert web.is_untouched()
        chat = web.submit()
        for name in ("video_nobody", "nobody", f"video_{chat}"):
            with pytest.raises(openai.NotFoundError):
                client.videos.retrieve(name)
            with pytest.raises(openai.NotFoundError):
                client.videos.delete(name)
    assert web.http.post("/v1/videos", json={"prompt": "a"}).status_code == 415
    assert web.job(chat)["state"] == "queued"


def test_video_content_requires_success(web: Web, clip: bytes) -> None:
    with client_of(web) as client:
        video = create(client, clip)
        with pytest.raises(openai.ConflictError, match="queued"):
            client.videos.download_content(video.id)
        with pytest.raises(openai.BadRequestError) as caught:
            client.videos.download_content(video.id, variant="thumbnail")
        assert caught.value.param == "variant"
        web.worker.claim(job_of(video))
        error = {"code": "bad_video", "message": "The clip breaks off."}
        web.worker.append(job_of(video), Failed(**error), error=error)
        ended = client.videos.poll(video.id)
        assert ended.status == "failed"
        assert ended.error is not None
        assert (ended.error.code, ended.error.message) == ("bad_video", "The clip breaks off.")
        with pytest.raises(openai.ConflictError, match="breaks off"):
            client.videos.download_content(video.id)


def test_video_canceled_is_shown_as_failed(web: Web, clip: bytes) -> None:
    with client_of(web) as client:
        video = create(client, clip)
        web.http.post(f"/v1/jobs/{job_of(video)}/cancel")
        ended = client.videos.retrieve(video.id)
    assert (ended.status, ended.error and ended.error.code) == ("failed", "canceled")


def test_video_delete_waits_for_running_job(web: Web, clip: bytes) -> None:
    with client_of(web) as client, ThreadPoolExecutor(1) as pool:
        running, waiting = create(client, clip), create(client, clip)
        web.worker.claim(job_of(running))
        assert client.videos.delete(waiting.id).deleted
        deleted = pool.submit(client.videos.delete, running.id)
        eventually(lambda: web.worker.append(job_of(running)) == "cancel" or None, "a cancel", TIMEOUT_S)
        assert not deleted.done()
        web.worker.append(job_of(running), Canceled())
        assert deleted.result(TIMEOUT_S).deleted
    assert web.is_untouched()


def test_video_list_pages_in_both_orders(web: Web, clip: bytes) -> None:
    with client_of(web) as client:
        ids = [create(client, clip, prompt=str(n)).id for n in range(4)]
        ids.append(f"video_{upload(web, clip).json()['id']}")  # of a native job
        web.submit()
        assert [video.id for video in client.videos.list()] == ids[::-1]
        assert [video.id for video in client.videos.list(limit=2)] == ids[
            ::-1
        ]  # the client requests all pages
        assert [video.id for video in client.videos.list(limit=2, order="asc")] == ids
        page = client.videos.list(limit=2, after=ids[3])
        assert [video.id for video in page.data] == [ids[2], ids[1]]
        assert (page.has_more, page.last_id) == (True, ids[1])
        assert client.videos.list(after=ids[0]).data == []
        for param, query in {"limit": {"limit": 0}, "order": {"order": "up"}}.items():
            with pytest.raises(openai.BadRequestError) as caught:
                client.videos.list(**query)  # type: ignore[arg-type]
            assert caught.value.param == param
        with pytest.raises(openai.NotFoundError):
            client.videos.list(after="video_nobody")


def test_video_of_native_job_has_size_and_length_of_result(web: Web, clip: bytes) -> None:
    job_id = upload(web, clip).json()["id"]
    with client_of(web) as client:
        assert client.videos.retrieve(job_id).to_dict()["size"] == ""
        web.worker.claim(job_id)
        finish(web, job_id)
        ended = client.videos.retrieve(job_id)
    assert (ended.size, ended.seconds, ended.prompt) == ("64x48", "2", None)

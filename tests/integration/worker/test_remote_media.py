"""Videos through gunicorn and workers that share an S3 server but no disk."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.s3 import S3Server
from tests.support.stack import eventually, main_event_types
from tests.support.video.clips import make_clip, read_clip
from tests.support.video.pictures import numbered_picture
from tests.support.web.uploads import write_image
from tests.support.web.webstack import Web, serve, upload
from webapi.local.commands import worker_argv
from webapi.local.supervisor import spawn
from worker.jobs.media.object_store import ObjectStore
from worker.jobs.settings import child_env

pytestmark = [pytest.mark.slow, pytest.mark.long]

FRAMES, BATCH, SEGMENT = 40, 4, 2
HOSTS = ("one", "other")


@pytest.fixture(scope="module")
def api(s3: S3Server, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with serve(redis_url, tmp_path_factory.mktemp("api"), media_url="s3://media/x", lease_ttl_s=2) as web:
        yield web


@pytest.fixture(scope="module")
def workers(
    api: Web, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """Two warmed-up workers, each with a home of its own."""
    root = tmp_path_factory.mktemp("hosts")
    (root / "bars.safetensors").touch()
    processes = {}
    for name in HOSTS:
        (root / name).mkdir()
        changes = {"home": root / name, "worker": "video", "video_model": str(root / "bars.safetensors")}
        settings = api.settings.replace(batch_size=BATCH, segment_batches=SEGMENT, devices="cpu", **changes)
        argv = [
            "tests.support.workers.fake" if part == "worker.app" else part
            for part in worker_argv("video", settings)
        ]
        with (root / f"{name}.log").open("wb") as log:
            processes[name] = spawn(argv, child_env(settings), log)
    try:
        pids = {process.pid for process in processes.values()}
        eventually(lambda: pids <= {w.pid for w in api.registry.workers() if w.state == "ready"}, "workers")
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", [numbered_picture(i) for i in range(FRAMES)])


@pytest.fixture(scope="module")
def store(api: Web) -> ObjectStore:
    return ObjectStore(f"s3://media/x/{api.settings.prefix}")


def submit(api: Web, clip: Path) -> httpx.Response:
    with clip.open("rb") as file:
        return api.http.post(
            "/v1/jobs/video", files={"file": file}, data={"model": "bars", "effect": "matte"}
        )


@pytest.fixture(scope="module")
def video_job(api: Web, workers: dict[str, "subprocess.Popen[bytes]"], store: ObjectStore, clip: Path) -> str:
    """The id of an ended job. Its first worker was killed after it had finished a segment."""
    job_id = str(submit(api, clip).json()["id"])
    eventually(lambda: any("/work/" in key for key in store.list()), "a finished segment")
    name = api.job(job_id)["worker"]
    os.kill(next(w.pid for w in api.registry.workers() if w.name == name), signal.SIGKILL)
    with api.events(job_id) as events:
        assert list(events)[-1].event == "succeeded"
    return job_id


def test_remote_media_job_of_a_killed_worker_finishes_on_another_host(
    api: Web, video_job: str, store: ObjectStore, tmp_path: Path
) -> None:
    events = [event.data for event in api.ledger.events(video_job)]
    kinds = [
        kind
        for kind in main_event_types(event["type"] for event in events)
        if kind not in ("batch", "progress")
    ]
    assert kinds == ["queued", "started", "requeued", "started", "succeeded"]
    again = [event["index"] for event in events if event["type"] == "batch" and event["attempt"] == 2]
    assert again[0] >= SEGMENT
    eventually(
        lambda: set(store.list()) == {f"{video_job}/clip", f"{video_job}/result.mp4"}, "nothing left over"
    )
    (tmp_path / "out.mp4").write_bytes(api.http.get(f"/v1/jobs/{video_job}/result").content)
    assert len(read_clip(tmp_path / "out.mp4").times) == FRAMES


def test_remote_media_result_supports_byte_ranges(api: Web, video_job: str) -> None:
    url = f"/v1/jobs/{video_job}/result"
    whole = api.http.get(url)
    size = len(whole.content)
    assert (whole.status_code, whole.headers["Content-Type"]) == (200, "video/mp4")
    assert int(whole.headers["Content-Length"]) == size == api.job(video_job)["result"]["bytes"]
    for wanted, first, last in (("100-199", 100, 199), ("-10", size - 10, size - 1), ("5-", 5, size - 1)):
        part = api.http.get(url, headers={"Range": f"bytes={wanted}"})
        assert (part.status_code, part.content) == (206, whole.content[first : last + 1])
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    for headers, status in (
        ({"Range": f"bytes={size}-"}, 416),
        ({"Range": "frames=1-2"}, 200),
        ({"Range": "bytes=0-1,5-6"}, 200),
        ({"If-None-Match": whole.headers["ETag"]}, 304),
        ({"Range": "bytes=0-9", "If-Range": '"another"'}, 200),
    ):
        assert api.http.get(url, headers=headers).status_code == status, headers
    head = api.http.head(url)
    assert (head.headers["Content-Length"], head.content) == (str(size), b"")


def test_remote_media_stores_no_refused_clip_and_deletes_with_the_job(
    api: Web, store: ObjectStore, clip: Path, tmp_path: Path
) -> None:
    text = tmp_path / "in.mp4"
    text.write_text("not a video")
    before = set(store.list())
    assert submit(api, text).status_code == 422
    assert set(store.list()) <= before, "the clips of other jobs that have ended may go meanwhile"
    answer = upload(api, clip.read_bytes(), model="matte", background=write_image(tmp_path / "a.png"))
    job_id = answer.json()["id"]  # no worker serves this model
    names = ("clip", "background")
    assert set(store.list()) - before == {f"{job_id}/{name}" for name in names}
    assert api.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    again = api.http.post(f"/v1/jobs/{job_id}/retry").json()["id"]
    assert set(store.list()) - before == {f"{one}/{name}" for one in (job_id, again) for name in names}
    assert api.http.post(f"/v1/jobs/{again}/cancel").status_code == 200
    for one in (job_id, again):
        assert api.http.delete(f"/v1/jobs/{one}").status_code == 204
    assert set(store.list()) <= before
    assert not list(api.settings.staging_dir.iterdir())


def test_remote_media_outage_refuses_uploads_only(api: Web, s3: S3Server, video_job: str, clip: Path) -> None:
    with s3.stopped():
        for answer in (submit(api, clip), api.http.get(f"/v1/jobs/{video_job}/result")):
            assert (answer.status_code, answer.json()["code"]) == (503, "media_unavailable")
            assert "Retry-After" in answer.headers
        assert api.http.get("/livez").status_code == 200
        assert [job["id"] for job in api.http.get("/v1/jobs").json()["jobs"]] == [video_job]
    assert api.http.get(f"/v1/jobs/{video_job}/result").status_code == 404, "the store came back empty"
    assert submit(api, clip).status_code == 202


def test_remote_media_holds_the_files_of_batches(api: Web, store: ObjectStore) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}}
    content = json.dumps(line).encode()
    file = api.http.post("/v1/files", data={"purpose": "batch"}, files={"file": content}).json()
    assert f"files/{file['id']}" in store.list()
    part = api.http.get(f"/v1/files/{file['id']}/content", headers={"Range": "bytes=1-5"})
    assert (part.status_code, part.content) == (206, content[1:6])
    asked = {"input_file_id": file["id"], "endpoint": line["url"], "completion_window": "24h"}
    url = f"/v1/batches/{api.http.post('/v1/batches', json=asked).json()['id']}"
    done = eventually(lambda: _completed(api, url), "the end of the batch")
    error = json.loads(api.http.get(f"/v1/files/{done['error_file_id']}/content").text)
    assert (error["custom_id"], error["response"]["status_code"]) == ("a", 400)
    for file_id in (file["id"], done["error_file_id"]):
        eventually(lambda file_id=file_id: api.http.delete(f"/v1/files/{file_id}").is_success, "a deletion")  # type: ignore[misc]
    eventually(
        lambda: not [key for key in store.list() if key.startswith(("files/", "batches/"))], "no files"
    )


def _completed(api: Web, url: str) -> dict[str, Any] | None:
    batch: dict[str, Any] = api.http.get(url).json()
    return batch if batch["status"] == "completed" else None

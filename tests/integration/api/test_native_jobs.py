"""The native routes of jobs, from submit to result, cancel and delete."""

from pathlib import Path

import pytest

from tests.support.ledger import check_accounts
from tests.support.web.uploads import write_clip, write_image
from tests.support.web.webstack import CHAT, HELLO, Web, upload
from worker.jobs.broker import messages_key
from worker.jobs.events import Failed, Progress, Succeeded, Token
from worker.jobs.media.files import JobFiles
from worker.jobs.specs import VideoJob

TEXT = "To\u2028kyo é"
DONE = Succeeded({"text": TEXT, "finish_reason": "stop"}, {"total_tokens": 3})


def test_chat_job_from_submit_to_result(web: Web) -> None:
    response = web.http.post(
        "/v1/jobs/chat", json=HELLO | {"stop": "x", "seed": 7, "webhook_url": "http://example.com/?secret"}
    )
    queued = response.json()
    job_id = queued["id"]
    assert response.status_code == 202
    assert response.headers["Location"] == queued["links"]["self"] == f"/v1/jobs/{job_id}"
    assert queued == {
        "id": job_id,
        "kind": "chat",
        "model": "tiny",
        "parameters": {"stop": ["x"], "seed": 7},
        "state": "queued",
        "created_at": queued["created_at"],
        "started_at": None,
        "finished_at": None,
        "queue_position": 1,
        "estimated_start": None,
        "attempt": 0,
        "worker": None,
        "device": None,
        "progress": {"done": 0, "total": None, "unit": "tokens"},
        "usage": None,
        "result": None,
        "error": None,
        "retry_of": None,
        "links": {name: f"/v1/jobs/{job_id}{end}" for name, end in
                  {"self": "", "events": "/events", "result": "/result", "cancel": "/cancel"}.items()},
    }  # fmt: skip
    assert queued["created_at"].endswith("Z")
    assert web.ledger.get(job_id).spec.model == "tiny"

    web.worker.claim(job_id)
    web.worker.append(job_id, Token(TEXT, 0, 1), done=1, total=8)
    running = web.job(job_id)
    assert (running["state"], running["attempt"], running["worker"]) == ("running", 1, "scripted")
    assert (running["device"], running["queue_position"]) == ("cpu", None)
    assert running["progress"] == {"done": 1, "total": 8, "unit": "tokens"}
    early = web.http.get(f"/v1/jobs/{job_id}/result")
    assert (early.status_code, early.json()["code"]) == (409, "conflict")

    web.worker.append(job_id, DONE, usage=DONE.usage, result=DONE.result)
    ended = web.job(job_id)
    assert (ended["state"], ended["usage"], ended["result"]) == ("succeeded", DONE.usage, DONE.result)
    assert ended["created_at"] <= ended["started_at"] <= ended["finished_at"]
    assert web.http.get(ended["links"]["result"]).json() == {
        "id": job_id,
        "message": {"role": "assistant", "content": TEXT},
        "text": TEXT,
        "finish_reason": "stop",
        "usage": DONE.usage,
    }


def test_chat_job_message_is_on_the_broker(web: Web) -> None:
    web.ready_worker("chat", slots=1)
    job_id = web.submit()
    web.submit()  # no slot is free for this one
    (message,) = web.ledger.store.client.lrange(messages_key(web.settings, CHAT), 0, -1)
    assert f'"id": "{job_id}"' in message
    assert '"task": "stoker.chat"' in message


def test_job_list_positions_and_pages(web: Web) -> None:
    jobs = [web.submit() for _ in range(3)]
    assert [web.job(job)["queue_position"] for job in jobs] == [1, 2, 3]
    web.worker.claim(jobs[0])
    assert [web.job(job)["queue_position"] for job in jobs] == [None, 1, 2]

    first = web.http.get("/v1/jobs", params={"limit": 2, "kind": "chat"}).json()
    assert [job["id"] for job in first["jobs"]] == [jobs[2], jobs[1]]
    second = web.http.get(first["links"]["next"]).json()
    assert [job["id"] for job in second["jobs"]] == [jobs[0]]
    assert second["links"]["next"] is None
    running = web.http.get("/v1/jobs", params={"state": "running"}).json()
    assert [job["id"] for job in running["jobs"]] == [jobs[0]]
    assert web.http.get("/v1/jobs", params={"kind": "video"}).json()["jobs"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "kind=audio", "state=lost", "after=nobody", "pgae=2"]
)
def test_job_list_refuses_bad_queries(web: Web, query: str) -> None:
    response = web.http.get(f"/v1/jobs?{query}")
    assert (response.status_code, response.json()["field"]) == (422, query.split("=")[0])


def test_cancel_waiting_job_ends_at_once(web: Web) -> None:
    job_id = web.submit()
    for _ in range(2):
        response = web.http.post(f"/v1/jobs/{job_id}/cancel")
        assert (response.status_code, response.json()["state"]) == (200, "canceled")
    assert web.ledger.claim(job_id, "w", "cpu") is None
    result = web.http.get(f"/v1/jobs/{job_id}/result")
    assert (result.status_code, result.json()["detail"]) == (409, "the job was canceled")


def test_cancel_running_job_notifies_the_worker(web: Web) -> None:
    job_id = web.submit()
    web.worker.claim(job_id)
    for _ in range(2):
        response = web.http.post(f"/v1/jobs/{job_id}/cancel")
        assert (response.status_code, response.json()["state"]) == (202, "running")
    assert web.worker.append(job_id, Token("a", 0, 1)) == "cancel"


def test_failed_job_reports_its_error(web: Web) -> None:
    job_id = web.submit()
    web.worker.claim(job_id)
    error = {"code": "engine_failed", "message": "out of memory"}
    web.worker.append(job_id, Failed(**error), error=error)
    assert web.job(job_id)["error"] == error
    result = web.http.get(f"/v1/jobs/{job_id}/result")
    assert (result.status_code, result.json()["detail"]) == (409, "the job failed: out of memory")


def test_delete_accepts_ended_jobs_only(web: Web) -> None:
    job_id = web.submit()
    assert web.http.delete(f"/v1/jobs/{job_id}").status_code == 409
    web.http.post(f"/v1/jobs/{job_id}/cancel")
    assert web.http.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert web.http.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert web.http.get(f"/v1/jobs/{job_id}").json()["code"] == "not_found"


def test_delete_of_a_waiting_video_removes_its_files_at_once(web: Web, clip: bytes) -> None:
    job_id = upload(web, clip).json()["id"]
    assert web.ledger.store.client.hget(web.ledger.store.key("owner", "", "file_bytes"), job_id) == str(
        len(clip)
    )
    assert web.http.delete(f"/v1/videos/{job_id}").status_code == 200
    assert list(web.settings.media_dir.iterdir()) == []
    assert web.ledger.with_inputs(0) == []
    check_accounts(web.ledger)
    assert web.ledger.store.client.hgetall(web.ledger.store.key("owner", "", "file_bytes")) == {
        "total": "0",
        "ended": "0",
    }


def test_video_job_from_upload_to_byte_ranges(web: Web, tmp_path: Path) -> None:
    clip, image = write_clip(tmp_path / "in.mp4"), write_image(tmp_path / "in.png")
    response = web.http.post(
        "/v1/jobs/video",
        data={"pad": "zeros", "deinterlace": "false", "odd_size": "scale"},
        files={"file": ("../../evil.mp4", clip), "background": ("/etc/x.png", image)},
    )
    assert response.status_code == 202, response.text
    job_id = response.json()["id"]
    files = JobFiles.at(web.settings.media_dir, job_id)
    assert (files.clip.read_bytes(), files.upload("background").read_bytes()) == (clip, image)
    assert sorted(path.name for path in files.folder.iterdir()) == ["background", "clip"]
    assert str(web.settings.home) not in response.text
    assert web.ledger.get(job_id).spec == VideoJob(
        model="matte", uploads=("background",), pad="zeros", deinterlace=False, odd_size="scale"
    )

    web.worker.claim(job_id)
    files.result.write_bytes(bytes(range(256)) * 4)
    done = Succeeded({"frames": 3}, {"frames": 3})
    web.worker.append(job_id, Progress(3, 3, "frames"), done, done=3, total=3, result=done.result)
    assert web.job(job_id)["progress"] == {"done": 3, "total": 3, "unit": "frames"}
    url = f"/v1/jobs/{job_id}/result"
    whole = web.http.get(url)
    assert (whole.headers["Content-Type"], len(whole.content)) == ("video/mp4", 1024)
    part = web.http.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert part.headers["Content-Range"] == "bytes 10-19/1024"
    for odd in ("items=0-5", "garbage", "bytes=0-0,5-6", "bytes=-99999999", "bytes=5-2"):
        whole = web.http.get(url, headers={"Range": odd})
        assert (whole.status_code, len(whole.content)) == (200, 1024), odd
    beyond = web.http.get(url, headers={"Range": "bytes=5000-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */1024")
    assert beyond.headers["Content-Type"] == "application/problem+json"

    files.result.unlink()
    assert web.http.get(url).status_code == 404
    assert web.http.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert not files.folder.exists()

"""The repetition of jobs that have failed or were canceled, as new jobs."""

import pytest

from tests.support.web.webstack import Web, start_job, upload
from worker.jobs.dispatch.file_cleanup import FileCleanup
from worker.jobs.events import Failed, Succeeded
from worker.jobs.media.open import open_media_store


def test_retry_makes_a_new_job_that_names_the_old_one(web: Web) -> None:
    job_id = web.submit(temperature=0.5, priority=3)
    web.worker.claim(job_id)
    web.worker.append(job_id, Failed("engine_failed", "x"), error={"code": "engine_failed", "message": "x"})
    answers = [
        web.http.post(f"/v1/jobs/{job_id}/retry", headers={"Idempotency-Key": "again"}) for _ in range(2)
    ]
    new = answers[0].json()
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[1].json()["id"] == new["id"] != job_id
    assert answers[0].headers["Location"] == f"/v1/jobs/{new['id']}"
    assert (new["state"], new["retry_of"], new["attempt"]) == ("queued", job_id, 0)
    assert new["parameters"] == web.job(job_id)["parameters"] == {"temperature": 0.5, "priority": 3}
    assert web.ledger.get(new["id"]).spec == web.ledger.get(job_id).spec
    assert (web.job(job_id)["state"], web.job(job_id)["retry_of"]) == ("failed", None)


def test_retry_of_a_response_is_a_response(web: Web) -> None:
    body = {"input": "Hi", "background": True, "metadata": {"a": "b"}}
    first = web.http.post("/v1/responses", json=body).json()["id"]
    web.http.post(f"/v1/responses/{first}/cancel").raise_for_status()
    new = web.http.post(f"/v1/jobs/{first.removeprefix('resp_')}/retry").json()["id"]
    response = web.http.get(f"/v1/responses/resp_{new}").raise_for_status().json()
    assert (response["status"], response["metadata"]) == ("queued", {"a": "b"})


def test_retry_refuses_jobs_that_have_not_failed(web: Web) -> None:
    waiting, running, done = web.submit(), start_job(web), start_job(web)
    web.worker.append(done, Succeeded({"text": "Hi", "finish_reason": "stop"}, {}))
    for job_id, state in ((waiting, "queued"), (running, "running"), (done, "succeeded")):
        answer = web.http.post(f"/v1/jobs/{job_id}/retry")
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        assert f"the job is {state};" in answer.json()["detail"]
    assert web.http.post(f"/v1/jobs/{'0' * 32}/retry").status_code == 404


def test_retry_of_a_video_has_the_same_upload(web: Web, clip: bytes) -> None:
    job_id = upload(web, clip, effect="blur").json()["id"]
    assert web.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    cleanup = FileCleanup(web.ledger, open_media_store(web.settings))
    cleanup.remove_inputs(0)
    cleanup.drop_unneeded(0)
    new = web.http.post(f"/v1/jobs/{job_id}/retry").json()
    assert new["parameters"] == {"effect": "blur"}
    assert web.http.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert (web.settings.media_dir / new["id"] / "clip").read_bytes() == clip
    account = web.ledger.store.key("owner", "", "file_bytes")
    assert web.ledger.store.client.hgetall(account) == {
        new["id"]: str(len(clip)), "total": str(len(clip)), "ended": "0"
    }  # fmt: skip


@pytest.mark.parametrize("taken", [False, True])
def test_retry_without_the_upload_is_refused_and_leaves_no_files(web: Web, clip: bytes, taken: bool) -> None:
    job_id = upload(web, clip, effect="blur").json()["id"]
    web.http.post(f"/v1/jobs/{job_id}/cancel")
    path = web.settings.media_dir / job_id / "clip"
    headers = {}
    if taken:  # the key was used by another request, so the submit itself fails
        headers = {"Idempotency-Key": "a"}
        assert web.http.post("/v1/jobs/chat", json={"messages": [{"role": "user", "content": "Hi"}]},
                             headers=headers).is_success  # fmt: skip
    else:
        path.unlink()
    answer = web.http.post(f"/v1/jobs/{job_id}/retry", headers=headers)
    assert answer.status_code == (422 if taken else 409), answer.text
    assert [folder.name for folder in web.settings.media_dir.iterdir()] == [job_id]

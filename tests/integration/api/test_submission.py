"""Submission: idempotency keys, waiting for the end, full queues and estimated starts."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.ledger import a_second_later
from tests.support.web.scripted_worker import ScriptedWorker
from tests.support.web.uploads import write_clip
from tests.support.web.webstack import CHAT, HELLO, TIMEOUT_S, VIDEO, Web, serve, tiny_template, upload
from worker.jobs.broker import messages_key, queued_messages
from worker.jobs.dispatch.dispatcher import Dispatcher
from worker.jobs.dispatch.recovery import Recovery
from worker.jobs.events import Succeeded
from worker.jobs.prompt.packed_prompt import unpack
from worker.jobs.specs import ChatJob, validate

DONE = Succeeded({"text": "Hi"}, {})


def submit(web: Web, path: str = "chat", **headers: str) -> httpx.Response:
    """Submit the chat `HELLO` with these headers, whose names have `_` for `-`."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.http.post(f"/v1/jobs/{path}", json=HELLO, headers=headers)


def test_idempotency_key_of_fifty_requests_makes_one_job(web: Web) -> None:
    web.ready_worker("chat", slots=100)
    together = threading.Barrier(50)

    def send(_: int) -> httpx.Response:
        together.wait(TIMEOUT_S)
        return submit(web, Idempotency_Key="k")

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(send, range(50)))
    assert {answer.status_code for answer in answers} == {202}
    (job_id,) = {answer.json()["id"] for answer in answers}
    assert [record.id for record in web.ledger.page()] == [job_id]
    assert len(web.ledger.events(job_id)) == 1
    assert queued_messages(web.settings, web.ledger.store.client, CHAT) == {job_id}


def test_idempotency_key_with_another_body_is_refused(web: Web) -> None:
    job_id = submit(web, Idempotency_Key="k").json()["id"]
    other = web.http.post("/v1/jobs/chat", json=HELLO | {"seed": 1}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    same = {"messages": [{"content": "Hi", "role": "user"}], "temperature": 1.0}  # equal after validation
    again = web.http.post("/v1/jobs/chat", json=same, headers={"Idempotency-Key": "k"})
    assert again.json()["id"] == job_id
    assert submit(web, Idempotency_Key="k" * 256).json()["field"] == "Idempotency-Key"


def test_idempotency_key_of_two_uploads_makes_one_job(web: Web, tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{frames}.mp4", frames) for frames in (3, 4)]
    web.http.headers["Idempotency-Key"] = "clip"
    try:
        first, again, other = (upload(web, clip) for clip in (clips[0], clips[0], clips[1]))
    finally:
        del web.http.headers["Idempotency-Key"]
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    assert other.status_code == 422
    assert [folder.name for folder in web.settings.media_dir.iterdir()] == [first.json()["id"]]


def test_prefer_wait_answers_when_the_job_ends(web: Web) -> None:
    subscribed = web.ledger.store.client.pubsub()  # type: ignore[no-untyped-call]
    subscribed.psubscribe(web.ledger.store.channel("*").replace("{*}", "*"))

    def work() -> None:
        message = None
        while message is None or message["type"] != "pmessage":
            message = subscribed.get_message(timeout=TIMEOUT_S)
            assert message
        (record,) = web.ledger.page()
        web.worker.claim(record.id)
        web.worker.append(record.id, DONE, result=DONE.result)

    thread = threading.Thread(target=work)
    thread.start()
    answer = submit(web, Prefer="respond-async, wait=15")
    thread.join(TIMEOUT_S)
    subscribed.close()
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=15"


@pytest.mark.parametrize("prefer", ["wait=1", "wait=soon", "wait=-1", "wait", "handling=lenient"])
def test_prefer_wait_answers_with_the_queued_job_after_the_wait(web: Web, prefer: str) -> None:
    answer = submit(web, Prefer=prefer)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers.get("Preference-Applied") == ("wait=1" if prefer == "wait=1" else None)


def test_full_queue_retry_after_follows_the_measured_rate(redis_url: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    with serve(redis_url, tmp_path, max_waiting=2) as web:
        worker = ScriptedWorker(web.ledger, web.ready_worker("chat", slots=2).name)
        web.ready_worker("video", slots=1)
        for _ in range(2):
            worker.claim(web.submit())
        for _ in range(2):
            web.submit()
        assert submit(web).headers["Retry-After"] == "5"  # the default: nothing was measured yet
        web.ledger.store.client.hset(web.ledger.store.key("service"), mapping={CHAT: 30, VIDEO: 7.5})
        full = submit(web)
        assert (full.status_code, full.json()["code"], full.headers["Retry-After"]) == (
            429,
            "queue_full",
            "15",
        )
        for _ in range(2):
            assert upload(web, clip).status_code == 202
        refused = upload(web, clip)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "8")
        web.http.headers["Idempotency-Key"] = "k"
        try:
            web.ledger.cancel(web.ledger.page(kind="video")[0].id)
            # The second request finds the job of the first, although the queue is full again.
            known = [upload(web, clip).json()["id"] for _ in range(2)]
        finally:
            del web.http.headers["Idempotency-Key"]
        assert known[0] == known[1]
        jobs = {record.id for record in web.ledger.page(kind="video")}
        assert {folder.name for folder in web.settings.media_dir.iterdir()} == jobs
        queues = {queue["name"]: queue for queue in web.http.get("/v1/queues").json()["queues"]}
        assert queues[CHAT] == {
            "name": CHAT, "waiting": 2, "running": 2, "slots": 2, "max_waiting": 2, "estimated_wait_s": 45.0,
            "paused": False
        }  # fmt: skip


def test_queue_position_events_follow_the_queue(web: Web) -> None:
    jobs = [web.submit() for _ in range(3)]
    recovery = Recovery(Dispatcher(web.ledger.store))
    with web.events(jobs[2]) as stream:
        positions = [next(stream).json()["position"]]
        for job_id in jobs[:2]:
            web.worker.claim(job_id)
            a_second_later(web.ledger)
            recovery.dispatch_waiting()
            event = next(stream)
            positions.append(event.json()["position"])
            assert event.event == "queued"
    assert positions == [3, 2, 1]
    assert web.job(jobs[2])["queue_position"] == 1


def test_estimated_start_comes_from_measured_service_times(web: Web) -> None:
    worker = ScriptedWorker(web.ledger, web.ready_worker("chat", slots=1).name)
    worker.claim(web.submit())
    job_id = web.submit()
    assert web.job(job_id)["estimated_start"] is None
    web.ledger.store.client.hset(web.ledger.store.key("service"), CHAT, 3600)
    job = web.job(job_id)
    assert job["estimated_start"] > job["created_at"]
    worker.claim(job_id)
    assert web.job(job_id)["estimated_start"] is None


def test_token_ids_travel_with_a_chat_but_not_with_a_repeated_one(web: Web) -> None:
    web.ready_worker("chat", slots=2)
    job_id, template = web.submit(), tiny_template()
    web.http.post(f"/v1/jobs/{job_id}/cancel")
    web.http.post(f"/v1/jobs/{job_id}/retry").raise_for_status()
    texts = web.ledger.store.client.lrange(messages_key(web.settings, CHAT), 0, -1)
    again, first = (json.loads(text)["headers"]["record"] for text in texts)
    assert unpack(template, first["prompt"]) == template.encode_job(validate(ChatJob, HELLO), None)
    assert (again["retry_of"], again.get("prompt")) == (job_id, None)

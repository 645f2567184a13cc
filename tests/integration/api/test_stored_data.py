"""The API beside a newer version of Stoker, whose jobs and cards it cannot read."""

import json
from typing import Any

import pytest

from tests.support.web.webstack import CHAT, HELLO, VIDEO, Web
from worker.jobs.events import Failed
from worker.jobs.specs import VideoJob, validate

NEWER_CARD = json.dumps({"schema": "2", "queue": CHAT, "state": "ready", "slots": {"chat": 1}})


def rewrite(web: Web, job_id: str, **fields: str) -> None:
    """Change fields of the job's stored record, as a newer version would write them."""
    changes: dict[Any, str] = dict(fields)
    web.ledger.store.client.hset(web.ledger.store.channel(job_id) + ":record", mapping=changes)


def unreadable_jobs(web: Web) -> list[str]:
    """Submit a chat and a video that the API cannot read, and a chat that it can."""
    chat = web.submit()
    rewrite(web, chat, schema="3.0", spec="[]")
    web.ledger.submit("0" * 32, VIDEO, validate(VideoJob, {"model": "matte"}))
    rewrite(web, "0" * 32, spec='{"effect": "added"}')
    return [chat, "0" * 32, web.submit()]


def test_api_shows_lists_and_cancels_jobs_that_it_cannot_read(web: Web) -> None:
    jobs = unreadable_jobs(web)
    web.worker.claim(jobs[0])
    error = {"code": "unsupported", "message": "no"}
    web.worker.append(jobs[0], Failed(**error), error=error)
    listed = {job["id"]: job for job in web.http.get("/v1/jobs").raise_for_status().json()["jobs"]}
    assert listed.keys() == set(jobs)
    shown = web.job(jobs[0])
    assert (shown["state"], shown["error"]) == ("failed", error)
    assert shown["finished_at"]
    [video] = web.http.get("/v1/videos").raise_for_status().json()["data"]
    assert (video["id"], video["model"], video["seconds"]) == (f"video_{jobs[1]}", "matte", "")
    canceled = web.http.post(f"/v1/jobs/{jobs[1]}/cancel").raise_for_status().json()
    assert canceled["state"] == "canceled"
    with web.events(jobs[0]) as events:
        assert [event.event for event in events] == ["queued", "started", "failed"]
    for job_id in jobs[:2]:
        assert web.http.delete(f"/v1/jobs/{job_id}").status_code == 204


@pytest.mark.parametrize("newer", [{"added": 1}, {"schema": "2"}], ids=["field", "major"])
def test_api_goes_on_beside_newer_cards(web: Web, newer: dict[str, Any]) -> None:
    cards = web.ledger.store.key("worker", "cards")
    for kind in ("chat", "video"):
        web.ready_worker(kind)
    for key in (cards, web.ledger.store.key("models")):
        for text in web.ledger.store.client.hvals(key):
            card = {**json.loads(text), **newer, "name": "newer", "queue": "chat.newer"}
            web.ledger.store.client.hset(key, "newer", json.dumps(card))
    leases = web.ledger.store.key("workers")
    web.ledger.store.client.zadd(leases, {"newer": web.ledger.store.client.zscore(leases, "chat1") or 0})
    readable = "schema" not in newer
    assert web.http.get("/readyz").status_code == 200
    workers = [card["name"] for card in web.http.get("/v1/workers").raise_for_status().json()["workers"]]
    assert workers == ["chat1", *["newer"] * readable, "video1"]
    models = {model["id"] for model in web.http.get("/v1/models").raise_for_status().json()["data"]}
    assert models == {"tiny", "matte", *["newer"] * readable}
    assert "stoker_workers" in web.http.get("/metrics").raise_for_status().text
    assert web.http.get("/v1/queues").status_code == 200
    assert web.http.post("/v1/jobs/chat", json=HELLO | {"model": "tiny"}).status_code == 202


def test_api_shows_jobs_of_an_unknown_kind(web: Web) -> None:
    job_id = web.submit()
    rewrite(web, job_id, kind="newer")
    assert web.job(job_id)["progress"] == {"done": 0, "total": None, "unit": "units"}
    assert web.http.get("/v1/jobs").json()["jobs"][0]["kind"] == "newer"
    response = web.http.get(f"/v1/jobs/{job_id}/result")
    assert (response.status_code, response.json()["code"]) == (503, "unsupported")
    assert web.http.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "canceled"
    assert web.http.delete(f"/v1/jobs/{job_id}").status_code == 204


def test_api_counts_no_slots_of_a_card_that_it_cannot_read(web: Web) -> None:
    web.ready_worker("chat", slots=2)
    web.ledger.store.client.hset(web.ledger.store.key("worker", "cards"), "newer", NEWER_CARD)
    web.submit()
    queues = {queue["name"]: queue for queue in web.http.get("/v1/queues").json()["queues"]}
    assert queues[CHAT]["slots"] == 2

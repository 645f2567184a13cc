"""Stream tokens, with which browsers read a job's events and result."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from http.cookies import SimpleCookie

import httpx
import pytest

from tests.support.web.webstack import HELLO, TIMEOUT_S, Web
from webapi.auth.stream_tokens import COOKIE, serializer
from webapi.keys.key import NewKey
from webapi.keys.keys import Keys
from webapi.services.backend import Backend
from worker.jobs.events import Succeeded

DONE = Succeeded({"text": "Yes.", "finish_reason": "stop"}, {})

#: Settings of this module's server.
SETTINGS = {"token_s": 100}


@dataclass
class Caller:
    """A client with an API key, and its ended jobs."""

    web: Web
    key: NewKey
    http: httpx.Client

    def job(self) -> str:
        """Submit a chat, let it succeed, and return its id."""
        job_id = str(self.http.post("/v1/jobs/chat", json=HELLO).json()["id"])
        self.web.worker.claim(job_id)
        self.web.worker.append(job_id, DONE, result=DONE.result)
        return job_id

    def token(self, job_id: str) -> str:
        """Request a stream token for the job."""
        return str(self.http.post(f"/v1/jobs/{job_id}/token").raise_for_status().json()["token"])


@pytest.fixture
def me(web: Web) -> Iterator[Caller]:
    key = Keys(web.ledger.store).create("me")
    headers = {"Authorization": f"Bearer {key.text}"}
    with httpx.Client(base_url=web.http.base_url, headers=headers, timeout=TIMEOUT_S) as http:
        yield Caller(web, key, http)


def test_stream_token_reads_events_and_result(me: Caller, web: Web) -> None:
    job_id = me.job()
    answer = me.http.post(f"/v1/jobs/{job_id}/token").json()
    assert web.http.get(answer["events"]).text.count("data: ") == 3
    assert web.http.get(answer["result"]).json()["text"] == "Yes."
    assert web.http.head(answer["result"]).status_code == 200
    resumed = web.http.get(answer["events"], headers={"Last-Event-ID": "2"})
    assert resumed.text.startswith("id: 3\n")
    from_now_s = datetime.fromisoformat(answer["expires_at"]).timestamp() - time.time()
    assert 0 < from_now_s <= 101


def test_stream_token_opens_no_other_route(me: Caller, web: Web) -> None:
    job_id, other = me.job(), me.job()
    query = {"token": me.token(job_id)}
    for method, path in [
        ("GET", f"/v1/jobs/{job_id}"),
        ("GET", f"/v1/jobs/{job_id}/memory"),
        ("POST", f"/v1/jobs/{job_id}/cancel"),
        ("POST", f"/v1/jobs/{job_id}/token"),
        ("DELETE", f"/v1/jobs/{job_id}"),
        ("POST", f"/v1/jobs/{job_id}/events"),
        ("GET", "/v1/jobs"),
        ("GET", f"/v1/jobs/{other}/events"),
        ("GET", f"/v1/jobs/{other}/result"),
    ]:
        assert web.http.request(method, path, params=query).status_code == 401, (method, path)


def test_stream_token_refuses_changes(me: Caller, web: Web) -> None:
    job_id = me.job()
    payload, _, signature = me.token(job_id).rpartition(".")
    other, _, _ = me.token(me.job()).rpartition(".")
    for token in ("", "x", payload, f"{other}.{signature}", f"{payload}.{signature[::-1]}", f".{signature}"):
        url = f"/v1/jobs/{job_id}/events"
        assert web.http.get(url, params={"token": token}).status_code == 401, token


def test_stream_token_ends_with_its_key(me: Caller, web: Web) -> None:
    job_id = me.job()
    url, token = f"/v1/jobs/{job_id}/result", me.token(job_id)
    assert web.http.get(url, params={"token": token}).status_code == 200
    Keys(web.ledger.store).revoke(me.key.key.id)
    assert web.http.get(url, params={"token": token}).status_code == 401


def test_stream_token_with_unknown_fields_is_read(me: Caller, web: Web) -> None:
    job_id = me.job()
    fields = [job_id, me.key.key.id, time.time() + 60, {"added": 1}]
    token = serializer(Backend.from_settings(web.settings)).dumps(fields)
    assert web.http.get(f"/v1/jobs/{job_id}/result", params={"token": str(token)}).status_code == 200


def test_stream_token_expires(me: Caller, web: Web) -> None:
    job_id, signed = me.job(), serializer(Backend.from_settings(web.settings))
    its_job, key_id, expires_at = signed.loads(me.token(job_id))
    assert (its_job, key_id) == (job_id, me.key.key.id)
    old = signed.dumps([job_id, key_id, expires_at - 101])
    assert web.http.get(f"/v1/jobs/{job_id}/events", params={"token": old}).status_code == 401


def test_stream_token_cookie_replaces_the_query(me: Caller, web: Web) -> None:
    job_id = me.job()
    response = me.http.post(f"/v1/jobs/{job_id}/token")
    cookie = SimpleCookie(response.headers["Set-Cookie"])[COOKIE]
    assert cookie.value == response.json()["token"]
    assert (cookie["path"], cookie["samesite"], cookie["max-age"]) == (f"/v1/jobs/{job_id}", "Strict", "100")
    assert (cookie["httponly"], cookie["secure"]) == (True, "")
    proxied = me.http.post(f"/v1/jobs/{job_id}/token", headers={"X-Forwarded-Proto": "https"})
    assert SimpleCookie(proxied.headers["Set-Cookie"])[COOKIE]["secure"] is True
    headers = {"Cookie": f"{COOKIE}={cookie.value}"}
    assert web.http.get(f"/v1/jobs/{job_id}/result", headers=headers).status_code == 200
    assert web.http.get(f"/v1/jobs/{job_id}", headers=headers).status_code == 401


def test_stream_token_without_keys_is_issued_but_not_required(web: Web) -> None:
    job_id = web.submit()
    answer = web.http.post(f"/v1/jobs/{job_id}/token").json()
    web.worker.claim(job_id)
    web.worker.append(job_id, DONE, result=DONE.result)
    assert web.http.get(answer["result"]).json()["text"] == "Yes."
    Keys(web.ledger.store).create("first")
    assert web.http.get(answer["result"]).status_code == 401


def test_event_stream_answers_204_after_the_last_event(me: Caller) -> None:
    url = f"/v1/jobs/{me.job()}/events"
    assert me.http.get(url, headers={"Last-Event-ID": "3"}).status_code == 204
    assert me.http.get(url, headers={"Last-Event-ID": "2"}).text.startswith("id: 3\n")

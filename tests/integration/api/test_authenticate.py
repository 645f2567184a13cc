"""Authentication by API key, and the jobs that a key may see."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.support.stack import main_event_types
from tests.support.web.webstack import HELLO, TIMEOUT_S, Web, publish_able_model
from webapi.app import create_app
from webapi.client import ApiError, Client
from webapi.keys.key import NewKey
from webapi.keys.keys import Keys
from worker.jobs.events import Succeeded
from worker.jobs.ledger.ledger import Ledger
from worker.jobs.settings import Settings

DONE = Succeeded({"text": "Yes.", "finish_reason": "stop"}, {})
ROUTES = [
    ("POST", "/v1/jobs/chat"),
    ("POST", "/v1/jobs/video"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/abc"),
    ("GET", "/v1/jobs/abc/events"),
    ("GET", "/v1/jobs/abc/result"),
    ("GET", "/v1/queues"),
    ("GET", "/v1/workers"),
    ("GET", "/metrics"),
    ("GET", "/nowhere"),
]

Caller = Callable[[NewKey], httpx.Client]


@pytest.fixture
def caller(web: Web) -> Iterator[Caller]:
    with ExitStack() as stack:

        def call(key: NewKey) -> httpx.Client:
            headers = {"Authorization": f"Bearer {key.text}"}
            client = httpx.Client(base_url=web.http.base_url, headers=headers, timeout=TIMEOUT_S)
            return stack.enter_context(client)

        yield call


def assert_unauthorized(response: httpx.Response) -> str:
    """Check that the response is a 401 problem, and return its detail."""
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized"), response.text
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.headers["Content-Type"] == "application/problem+json"
    return str(response.json()["detail"])


def test_auth_without_keys_accepts_loopback_requests(web: Web) -> None:
    assert web.http.get("/v1/jobs", headers={"Authorization": "Bearer anything"}).status_code == 200
    for host in ("localhost", "localhost:99", "[::1]:8000"):
        assert web.http.get("/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example:80"}, {"Host": "10.0.0.1"},
     {"Origin": "https://evil.example"}, {"Origin": "null"}],
)  # fmt: skip
def test_auth_without_keys_refuses_foreign_hosts_and_origins(web: Web, headers: dict[str, str]) -> None:
    for response in (
        web.http.post("/v1/jobs/video", files={"file": b"x"}, headers=headers),
        web.http.get("/v1/jobs", headers=headers),
    ):
        assert "no API key yet" in assert_unauthorized(response)
    own = {"Origin": str(web.http.base_url).rstrip("/")}
    assert web.http.post("/v1/jobs/chat", json=HELLO, headers=own).status_code == 202


@pytest.mark.parametrize(
    "name", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "x-forwarded-host", "X-Real-IP", "Via"]
)
def test_auth_without_keys_refuses_requests_through_a_proxy(web: Web, caller: Caller, name: str) -> None:
    assert "through a proxy" in assert_unauthorized(web.http.get("/v1/jobs", headers={name: ""}))
    assert web.http.get("/livez", headers={name: ""}).status_code == 200
    assert caller(Keys(web.ledger.store).create("ci")).get("/v1/jobs", headers={name: ""}).status_code == 200


def test_auth_with_keys_is_required_by_every_route(web: Web, caller: Caller) -> None:
    key = Keys(web.ledger.store).create("ci")
    headers = [{}, {"Authorization": "Bearer"}, {"Authorization": "Bearer sk-stoker-x"},
               {"Authorization": f"Basic {key.text}"}, {"Authorization": key.text}]  # fmt: skip
    for method, path in ROUTES:
        details = {assert_unauthorized(web.http.request(method, path, headers=header)) for header in headers}
        assert len(details) == 1
        assert caller(key).request(method, path).status_code != 401
    for path in ("/livez", "/readyz", "/health", "/version", "/openapi.json", "/docs"):
        assert web.http.get(path).status_code != 401
    assert_unauthorized(web.http.get("/v1/jobs", headers=[(b"Authorization", b"Basic \xff")]))
    lower = {"Authorization": f"bearer {key.text}"}
    assert web.http.get("/v1/queues", headers=lower).status_code == 200


def test_auth_refuses_revoked_and_expired_keys_at_once(web: Web, caller: Caller) -> None:
    keys = Keys(web.ledger.store)
    revoked, expired = keys.create("a"), keys.create("b", expires_s=3600)
    clients = [caller(revoked), caller(expired)]
    assert [client.get("/v1/queues").status_code for client in clients] == [200, 200]
    keys.revoke(revoked.key.id)
    web.ledger.store.client.hset(web.ledger.store.key("key", expired.key.id), "expires_at", str(time.time()))
    for client in (*clients, web.http):
        assert_unauthorized(client.get("/v1/queues"))


def test_access_hides_jobs_of_other_keys(web: Web, caller: Caller) -> None:
    before = web.submit()
    keys = Keys(web.ledger.store)
    mine, other = caller(keys.create("mine")), caller(keys.create("other"))
    job_id = mine.post("/v1/jobs/chat", json=HELLO).json()["id"]
    assert web.ledger.get(job_id).owner == keys.list()[0].id
    web.worker.claim(job_id)
    web.worker.append(job_id, DONE, result=DONE.result)
    assert [job["id"] for job in mine.get("/v1/jobs").json()["jobs"]] == [job_id]
    assert other.get("/v1/jobs").json()["jobs"] == []
    assert other.get("/v1/jobs", params={"after": job_id}).status_code == 422
    routes = [("GET", ""), ("GET", "/events"), ("GET", "/result"), ("GET", "/memory"),
              ("GET", "/memory.svg"), ("POST", "/token"), ("POST", "/cancel"), ("DELETE", "")]  # fmt: skip
    for method, path in routes:
        url = f"/v1/jobs/{job_id}{path}"
        missing = other.request(method, url.replace(job_id, "0" * 32))
        theirs = other.request(method, url)
        assert (theirs.status_code, theirs.text.replace(job_id, "0" * 32)) == (404, missing.text)
        assert mine.request(method, url.replace(job_id, before)).status_code == 404
    for method, path in routes:
        assert mine.request(method, f"/v1/jobs/{job_id}{path}").is_success


def test_auth_key_limit_applies_to_its_key_only(web: Web, caller: Caller) -> None:
    keys = Keys(web.ledger.store)
    capped, free = caller(keys.create("a", max_waiting=1)), caller(keys.create("b"))
    answers = [
        client.post("/v1/jobs/chat", json=HELLO).status_code for client in (capped, capped, free, free)
    ]
    assert answers == [202, 429, 202, 202]


def test_auth_key_limit_counts_choices(web: Web, caller: Caller) -> None:
    """More choices than the key may ever have are refused by name, because to try again would not help."""
    able = publish_able_model(web)
    capped = caller(Keys(web.ledger.store).create("a", max_waiting=5, max_running=4))
    answers = [capped.post("/v1/jobs/chat", json=HELLO | {"model": able, "n": n}).json() for n in (4, 2, 5)]
    assert [answer.get("code") for answer in answers] == [None, "queue_full", "invalid_input"]
    assert (answers[2]["field"], answers[2]["detail"]) == ("n", "may be at most 4 for this API key")


def test_auth_no_auth_accepts_every_request(settings: Settings, ledger: Ledger) -> None:
    Keys(ledger.store).create("ci")
    api = create_app(settings.replace(no_auth=True, host="0.0.0.0")).test_client()
    for headers in ({}, {"Host": "api.example", "Authorization": "Bearer anything"}):
        assert api.get("/v1/jobs", headers=headers).status_code == 200


def test_auth_public_host_without_keys_refuses_requests(settings: Settings, ledger: Ledger) -> None:
    api = create_app(settings.replace(host="0.0.0.0")).test_client()
    refused = api.get("/v1/jobs")
    assert (refused.status_code, "no API key yet" in refused.text) == (401, True)
    assert api.get("/livez").status_code == 200
    headers = {"Authorization": f"Bearer {Keys(ledger.store).create('ci').text}", "Host": "api.example"}
    assert api.get("/v1/queues", headers=headers).status_code == 200


def test_auth_without_redis_answers_503(settings: Settings) -> None:
    away = settings.replace(redis_url="redis://127.0.0.1:1/0")
    api = create_app(away).test_client()
    for headers in ({}, {"Authorization": f"Bearer sk-stoker-{'0' * 12}-{'A' * 43}"}):
        assert api.get("/v1/jobs", headers=headers).status_code == 503


def test_client_sends_key_idempotency_key_and_wait(web: Web, caller: Caller) -> None:
    key = Keys(web.ledger.store).create("ci")
    with Client(str(web.http.base_url)) as stranger, pytest.raises(ApiError, match="Send a valid API key"):
        stranger.submit_chat(HELLO)
    with Client(str(web.http.base_url), key.text) as client:
        sent: list[httpx.Request] = []
        client.http.event_hooks["request"].append(sent.append)
        job = client.submit_chat(HELLO, idempotency_key="once", wait=1)
        assert client.job(job["id"])["state"] == "queued"
        web.worker.claim(job["id"])
        web.worker.append(job["id"], DONE, result=DONE.result)
        types = (event["type"] for event in client.follow(job["id"]))
        assert main_event_types(types) == ["queued", "started", "succeeded"]
        assert next(client.events(job["id"], after=2))["type"] == "succeeded"
    assert (sent[0].headers["Idempotency-Key"], sent[0].headers["Prefer"]) == ("once", "wait=1")
    assert "Prefer" not in sent[1].headers

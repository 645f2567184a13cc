"""Scopes of API keys: what a key may do, and how a request is refused that its key does not allow."""

from collections.abc import Callable

import pytest
from flask import Blueprint, Flask

from tests.support.web.webstack import HELLO, Web
from webapi.app import create_app
from webapi.description.route import route_of
from webapi.keys.key import ALL_SCOPES, Scope
from webapi.keys.keys import Keys
from webapi.native import ops
from webapi.openai import errors
from worker.jobs.events import Succeeded
from worker.jobs.settings import Settings

DONE = Succeeded({"text": "Yes.", "finish_reason": "stop"}, {})

Auth = Callable[..., dict[str, str]]


@pytest.fixture
def auth(web: Web) -> Auth:
    """Create a key with these scopes, and return the header of its requests."""
    return lambda *scopes: {
        "Authorization": f"Bearer {Keys(web.ledger.store).create('ci', scopes=scopes).text}"
    }


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(Settings(redis_url="redis://127.0.0.1:1/0"))


def requests(app: Flask) -> list[tuple[str, str, str]]:
    """Return a method, a path and the endpoint for every route that needs a key."""
    found = []
    for rule in app.url_map.iter_rules():
        if route_of(app, rule.endpoint).scope != "public":
            [method] = (rule.methods or set()) - {"HEAD", "OPTIONS"}
            values = dict.fromkeys(rule.arguments, "0" * 32)
            built = rule.build(values)
            assert built
            found.append((method, built[1], rule.endpoint))
    return found


def test_app_is_not_created_with_a_view_without_a_description(monkeypatch: pytest.MonkeyPatch) -> None:
    blueprint = Blueprint("new", __name__)
    blueprint.add_url_rule("/new", "hi", lambda: "Hi")
    monkeypatch.setattr(ops, "routes", blueprint)
    with pytest.raises(TypeError, match=r"^the view of new\.hi has no @describe$"):
        create_app(Settings(redis_url="redis://127.0.0.1:1/0"))


def test_view_without_a_description_needs_admin(settings: Settings) -> None:
    app = create_app(settings)
    app.add_url_rule("/new", view_func=lambda: "Hi")
    keys = Keys(app.extensions["stoker"].ledger.store)
    answers = [
        app.test_client().get("/new", headers={"Authorization": f"Bearer {keys.create('ci', scopes=s).text}"})
        for s in (["submit", "read", "metrics"], ["admin"])
    ]
    assert [answer.status_code for answer in answers] == [403, 200]


@pytest.mark.parametrize("scope", ALL_SCOPES)
def test_key_with_one_scope_opens_the_routes_of_this_scope_only(
    web: Web, auth: Auth, app: Flask, scope: Scope
) -> None:
    headers = auth(scope)
    for method, path, endpoint in requests(app):
        answer = web.http.request(method, path, headers=headers)
        assert (answer.status_code != 403) == (route_of(app, endpoint).scope == scope), (
            method,
            path,
            answer.text,
        )
        assert answer.status_code != 401
    assert web.http.get("/nowhere", headers=headers).status_code == 404
    assert web.http.post("/livez").status_code == 405
    wrong_method = web.http.put("/metrics", headers=headers)
    assert wrong_method.status_code == (405 if scope == "metrics" else 403)
    assert web.http.get("/openapi.json", headers=headers).status_code == 200


def test_missing_scope_is_refused_in_the_form_of_the_route(web: Web, auth: Auth) -> None:
    message = "This API key lacks the scope `read`. It has: submit, metrics."
    headers = auth("submit", "metrics")
    native = web.http.get("/v1/jobs", headers=headers)
    assert native.headers["Content-Type"] == "application/problem+json"
    assert (native.status_code, native.json()["code"], native.json()["detail"]) == (403, "forbidden", message)
    assert errors.handles("/v1/models")
    like_openai = web.http.get("/v1/models", headers=headers).json()["error"]
    assert like_openai == {"message": message, "type": "permission_error", "param": None, "code": "forbidden"}


def test_missing_scope_is_refused_before_the_body_is_read(web: Web, auth: Auth) -> None:
    answer = web.http.post("/v1/jobs/video", headers=auth("read"), files={"file": b"no clip"})
    assert answer.status_code == 403
    assert web.is_untouched()


def test_scope_submit_gets_the_result_with_its_submit_and_in_no_other_way(web: Web, auth: Auth) -> None:
    headers = auth("submit") | {"Idempotency-Key": "once"}
    job_id = web.http.post("/v1/jobs/chat", json=HELLO, headers=headers).json()["id"]
    web.worker.claim(job_id)
    web.worker.append(job_id, DONE, result=DONE.result)
    answer = web.http.post("/v1/jobs/chat", json=HELLO, headers=headers | {"Prefer": "wait=5"})
    assert (answer.status_code, answer.json()["result"]["text"]) == (200, "Yes.")
    for path in ("", "/result", "/events"):
        assert web.http.get(f"/v1/jobs/{job_id}{path}", headers=headers).status_code == 403
    assert web.http.post(f"/v1/jobs/{job_id}/token", headers=headers).status_code == 403
    canceled = web.http.post(f"/v1/jobs/{job_id}/cancel", headers=headers)
    assert (canceled.status_code, canceled.json()["state"], canceled.json()["result"]) == (
        200,
        "succeeded",
        None,
    )
    assert web.http.delete(f"/v1/jobs/{job_id}", headers=headers).status_code == 204


def test_stream_token_needs_the_scope_read(web: Web) -> None:
    """A key can only lose its scope in Redis, but then its tokens end with it."""
    key = Keys(web.ledger.store).create("ci")
    headers = {"Authorization": f"Bearer {key.text}"}
    job_id = web.http.post("/v1/jobs/chat", json=HELLO, headers=headers).json()["id"]
    web.worker.claim(job_id)
    web.worker.append(job_id, DONE, result=DONE.result)
    url = web.http.post(f"/v1/jobs/{job_id}/token", headers=headers).json()["result"]
    assert web.http.get(url).status_code == 200
    web.ledger.store.client.hset(web.ledger.store.key("key", key.key.id), "scopes", "submit")
    assert web.http.get(url).status_code == 403


def test_rotated_key_keeps_its_jobs_and_stream_tokens(web: Web) -> None:
    key = Keys(web.ledger.store).create("ci")
    old = {"Authorization": f"Bearer {key.text}"}
    job_id = web.http.post("/v1/jobs/chat", json=HELLO, headers=old).json()["id"]
    token = web.http.post(f"/v1/jobs/{job_id}/token", headers=old).json()["token"]
    new = {
        "Authorization": f"Bearer {Keys(web.ledger.store).rotate(key.key.id, grace_s=0, expires_s=60).text}"
    }

    def status(**sent: dict[str, str]) -> int:
        return web.http.get(f"/v1/jobs/{job_id}/result", **sent).status_code  # type: ignore[arg-type]

    assert [status(headers=old), status(headers=new), status(params={"token": token})] == [401, 409, 409]


def test_mistyped_key_is_refused_with_the_reason(web: Web) -> None:
    text = Keys(web.ledger.store).create("ci").text
    wrong = text[:30] + ("A" if text[30] != "A" else "B") + text[31:]
    answer = web.http.get("/v1/jobs", headers={"Authorization": f"Bearer {wrong}"})
    assert (answer.status_code, "its checksum is wrong" in answer.json()["detail"]) == (401, True)

"""An installation that serves chats only."""

import pytest

from tests.support.web.webstack import Web, assert_refused, upload

SETTINGS = {"kinds": "chat"}


def test_readyz_needs_no_worker_of_other_kinds(web: Web) -> None:
    assert web.http.get("/readyz").json()["detail"] == "no worker is ready for: chat"
    web.ready_worker("chat")
    assert web.http.get("/readyz").json() == {"status": "ready"}


def test_submit_of_a_kind_that_is_not_served_is_refused(web: Web, clip: bytes) -> None:
    web.ready_worker("video")  # left over from an installation that served it
    detail = assert_refused(web, upload(web, clip), 404)
    assert detail == "This installation serves no such jobs, only those of the kind: chat."
    assert web.http.post("/v1/jobs/video", content=b"no form").json()["code"] == "kind_not_served"
    response = web.http.post("/v1/videos", files={"input_reference": clip})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "kind_not_served")
    assert web.job(web.submit())["kind"] == "chat"


def test_document_omits_submits_of_kinds_that_are_not_served(web: Web) -> None:
    paths = web.http.get("/openapi.json").json()["paths"]
    assert "/v1/jobs/video" not in paths
    assert "post" in paths["/v1/jobs/chat"]
    assert paths["/v1/videos"].keys() == {"get"}


@pytest.mark.parametrize("kind", ["chat", "video"])
def test_jobs_of_every_kind_are_listed(web: Web, kind: str) -> None:
    chat = web.submit()
    listed = web.http.get("/v1/jobs", params={"kind": kind}).json()["jobs"]
    assert [job["id"] for job in listed] == ([chat] if kind == "chat" else [])


def test_models_of_other_kinds_are_not_listed(web: Web) -> None:
    assert [model["id"] for model in web.http.get("/v1/models").json()["data"]] == ["tiny"]
    assert web.http.get("/v1/models/matte").status_code == 404

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.webstack import CHAT, CONTEXT_LENGTH, HELLO, Web, serve, write_clip, write_image
from worker.jobs.events import Succeeded
from worker.jobs.records import ModelCard

MAX_UPLOAD_BYTES = 200_000
USER = {"role": "user", "content": "Hi"}
PROMPT = "<user>"


@pytest.fixture(scope="module")
def server(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    home, limits = tmp_path_factory.mktemp("home"), {"max_upload_bytes": MAX_UPLOAD_BYTES, "max_waiting": 2}
    with serve(redis_url, home, **limits) as web:
        yield web


@pytest.fixture
def web(server: Web) -> Web:
    server.reset()
    return server


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    return write_clip(tmp_path / "clip.mp4")


def refused(web: Web, response: httpx.Response, status: int, field: str | None = None) -> str:
    """The refusal is a problem document that names the field, and nothing else happened."""
    problem = response.json()
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.status_code, problem["status"]) == (status, status), response.text
    assert problem.get("field") == field, response.text
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["code"]
    assert web.nothing_happened()
    return str(problem["detail"])


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("messages", {}),
        ("messages", {"messages": []}),
        ("messages", {"messages": "Hi"}),
        ("messages", {"messages": None}),
        ("messages.0.role", {"messages": [{"role": "wizard", "content": "Hi"}]}),
        ("messages.0.content", {"messages": [{"role": "user"}]}),
        ("messages.0.content", {"messages": [{"role": "user", "content": 7}]}),
        ("messages.0.content", {"messages": [{"role": "user", "content": "\ud800"}]}),
        ("messages.0.name", {"messages": [USER | {"name": "Bob"}]}),
        ("messages", {"messages": [{"role": "user", "content": "x" * CONTEXT_LENGTH}]}),
        ("max_tokens", HELLO | {"max_tokens": 0}),
        ("max_tokens", HELLO | {"max_tokens": 1.5}),
        ("max_tokens", HELLO | {"max_tokens": "9"}),
        ("temperature", HELLO | {"temperature": -0.1}),
        ("temperature", HELLO | {"temperature": float("nan")}),
        ("top_p", HELLO | {"top_p": 0}),
        ("seed", HELLO | {"seed": 2**63}),
        ("stop", HELLO | {"stop": ["a"] * 5}),
        ("stop.0", HELLO | {"stop": ""}),
        ("model", HELLO | {"model": "gpt"}),
        ("model", HELLO | {"model": "matte"}),
        ("max_new_tokens", HELLO | {"max_new_tokens": 3}),
        ("body", [HELLO]),
        ("body", "Hi"),
        ("body", None),
    ],
)
def test_a_bad_chat_is_refused_by_field(web: Web, field: str, body: Any) -> None:
    headers = {"Content-Type": "application/json"}
    response = web.http.post("/v1/jobs/chat", content=json.dumps(body), headers=headers)
    refused(web, response, 422, field)


def test_the_refusal_of_a_long_prompt_names_both_numbers(web: Web) -> None:
    fits = "x" * (CONTEXT_LENGTH - len(PROMPT) - 1)
    response = web.http.post("/v1/jobs/chat", json={"messages": [USER | {"content": fits + "x"}]})
    detail = refused(web, response, 422, "messages")
    assert f"{CONTEXT_LENGTH} tokens" in detail
    assert f"context of {CONTEXT_LENGTH}" in detail
    web.submit(messages=[USER | {"content": fits}])


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (400, b"{", "application/json"),
        (400, b"", "application/json"),
        (400, b'{"messages": "\xff"}', "application/json"),
        (400, b"[" * 100_000, "application/json"),
        (415, b"messages=Hi", "application/x-www-form-urlencoded"),
        (415, b"{}", "text/plain"),
    ],
)
def test_a_body_that_is_no_json_is_refused(web: Web, status: int, content: bytes, kind: str) -> None:
    response = web.http.post("/v1/jobs/chat", content=content, headers={"Content-Type": kind})
    refused(web, response, status)


def test_a_conversation_that_is_no_text_but_a_dump_is_refused(web: Web) -> None:
    response = web.http.post("/v1/jobs/chat", json=HELLO | {"model": "x" * (17 * 2**20)})
    refused(web, response, 413, "body")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/jobs/nobody", 404, "not_found"),
        ("GET", "/v1/jobs/nobody/result", 404, "not_found"),
        ("GET", "/v1/jobs/nobody/memory", 404, "not_found"),
        ("POST", "/v1/jobs/nobody/cancel", 404, "not_found"),
        ("DELETE", "/v1/jobs/..%2f..", 404, "not_found"),
        ("PUT", "/v1/jobs/chat", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_a_problem_too(web: Web, method: str, path: str, status: int, code: str) -> None:
    response = web.http.request(method, path)
    refused(web, response, status)
    assert response.json()["code"] == code
    assert ("Allow" in response.headers) == (status == 405)


def upload(web: Web, clip: bytes | None, **fields: Any) -> httpx.Response:
    """Fields of type bytes are files, with a name that promises too much."""
    files = {name: (f"{name}.mp4", value) for name, value in fields.items() if isinstance(value, bytes)}
    data = {name: value for name, value in fields.items() if not isinstance(value, bytes)}
    if clip is not None:
        files["file"] = ("../clip.mp4", clip)
    return web.http.post("/v1/jobs/video", data=data, files=files or {"nothing": b""})


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("effect", {"effect": "sparkle"}),
        ("pad", {"pad": "ones"}),
        ("model", {"model": "sam"}),
        ("background", {"background": "green"}),
        ("background", {"background": b"no image"}),
        ("background", {"background": b""}),
        ("background", {"background": ["#000000", "#ffffff"]}),
        ("background_image", {"background_image": "true"}),
        ("speed", {"speed": "2"}),
        ("mask", {"mask": b"a file"}),
    ],
)
def test_a_bad_video_field_is_refused(web: Web, clip: bytes, field: str, fields: dict[str, Any]) -> None:
    refused(web, upload(web, clip, **fields), 422, field)


def test_a_background_that_breaks_off_is_refused(web: Web, clip: bytes, tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.png")
    refused(web, upload(web, clip, background=image[:60]), 422, "background")


def test_a_clip_that_cannot_be_one_is_refused(web: Web, tmp_path: Path) -> None:
    odd = write_clip(tmp_path / "odd.mp4", width=63)
    tiny = write_image(tmp_path / "1x1.png", 1, 1)
    image = write_image(tmp_path / "image.png")
    for name, clip in {
        "none": None,
        "empty": b"",
        "text": b"I am not a video, whatever my name says.",
        "an image": image,
        "one pixel": tiny,
        "odd": odd,
    }.items():
        response = upload(web, clip)
        assert response.status_code == 422, name
        refused(web, response, 422, "file")


def test_the_clip_as_text_and_a_body_that_is_no_form(web: Web, clip: bytes) -> None:
    refused(web, upload(web, None, file="clip"), 422, "file")
    refused(web, web.http.post("/v1/jobs/video", content=clip, headers={"Content-Type": "video/mp4"}), 415)
    for form in ("multipart/form-data; boundary=x", "multipart/form-data"):
        headers = {"Content-Type": form}
        refused(web, web.http.post("/v1/jobs/video", content=b"nonsense", headers=headers), 400)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("part", ["file", "field"])
def test_an_upload_over_the_cap_is_refused(web: Web, chunked: bool, part: str) -> None:
    boundary, filename = uuid.uuid4().hex, '; filename="a.mp4"' if part == "file" else ""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"{filename}\r\n\r\n'
    pieces = [head.encode(), *[b"x" * 50_000] * 5, f"\r\n--{boundary}--\r\n".encode()]
    content: Any = iter(pieces) if chunked else b"".join(pieces)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    response = web.http.post("/v1/jobs/video", content=content, headers=headers)
    assert ("Content-Length" in response.request.headers) != chunked
    refused(web, response, 413, "file")


def test_a_form_of_too_many_parts_is_refused(web: Web, clip: bytes) -> None:
    refused(web, upload(web, clip, **{f"field{i}": "x" for i in range(20)}), 413, "file")


def test_a_clip_that_breaks_off_is_taken_and_fails_later(web: Web, clip: bytes) -> None:
    assert upload(web, clip[:-100]).status_code == 202


def test_a_full_queue_says_when_to_come_back(web: Web, clip: bytes) -> None:
    web.ready_worker("chat", slots=1)
    done = web.submit()
    web.worker.claim(done)
    web.worker.append(done, Succeeded({}, {}))
    web.ledger.redis.hset(web.ledger.key("service"), CHAT, 30)
    for _ in range(2):
        web.submit()
    response = web.http.post("/v1/jobs/chat", json=HELLO)
    assert (response.status_code, response.json()["code"]) == (429, "queue_full")
    assert response.headers["Retry-After"] == "30"
    assert len(web.ledger.page()) == 3
    for expected in (202, 202, 429):
        assert upload(web, clip).status_code == expected
    assert len(list(web.settings.media_dir.iterdir())) == 2
    assert len(web.ledger.page(kind="video")) == 2


def test_without_a_model_the_service_is_not_ready(web: Web, clip: bytes) -> None:
    web.ledger.redis.delete(web.ledger.key("models"))
    for response in (web.http.post("/v1/jobs/chat", json=HELLO), upload(web, clip)):
        refused(web, response, 503)
        assert int(response.headers["Retry-After"]) > 0


def test_several_models_and_none_is_the_default(web: Web) -> None:
    web.registry.publish_model(ModelCard("other", "chat", "chat.other", CONTEXT_LENGTH))
    detail = refused(web, web.http.post("/v1/jobs/chat", json=HELLO), 422, "model")
    assert "other, tiny" in detail
    refused(web, web.http.post("/v1/jobs/chat", json=HELLO | {"model": "other"}), 503)
    web.submit(model="tiny")

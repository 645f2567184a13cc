"""Streams without a token for a while: they open, say why in comments, and outlive a proxy's idle limit."""

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support.stack import eventually, free_port
from tests.support.web.openai_clients import (
    ANSWER,
    HI,
    answer,
    answer_tokens,
    client_of,
    new_job,
    request_completion,
    success_event,
)
from tests.support.web.webstack import TIMEOUT_S, Web
from webapi.openai.comments import end_comments
from worker.jobs.events import Canceled, Failed, Token

#: Settings of this module's server.
SETTINGS = {"stream_silence_s": 0.2, "heartbeat_s": 0.5}
BODY = {"messages": HI, "stream": True}


@contextmanager
def open_stream(web: Web, **changes: Any) -> Iterator[tuple[str, Iterator[str]]]:
    """Send a streamed request, and yield the id of its job and the lines of the answer that are not empty."""
    with web.http.stream("POST", "/v1/chat/completions", json=BODY | changes) as response:
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        yield response.headers["X-Stoker-Job"], filter(None, response.iter_lines())


def next_other(lines: Iterator[str], *comments: str) -> str:
    """Return the next line that is none of these comments."""
    return next(line for line in lines if line not in (":", *comments))


def test_silent_stream_opens_and_tells_place_and_state(web: Web) -> None:
    ahead = web.submit()
    with open_stream(web) as (job_id, lines):
        assert [next(lines) for _ in range(3)] == [": queued, place 2"] * 3
        web.ledger.cancel(ahead)
        web.worker.claim(job_id)
        assert next_other(lines, ": queued, place 2", ": queued, place 1") == ": running"
        web.worker.append(job_id, *answer_tokens()[:1])
        first = next_other(lines, ": running")
        assert '"delta":{"role":"assistant","content":"Hel"}' in first
        assert next(lines) == ": running"
        web.ledger.requeue(job_id, web.worker.name, "drain")
        assert next_other(lines, ": running").startswith(": queued")
        web.worker.claim(job_id)
        web.worker.append(job_id, *answer_tokens()[1:], success_event())
        rest = [line for line in lines if line[0] != ":"]
    assert all(line.startswith("data: ") for line in rest)
    assert (len(rest), rest[-1]) == (4, "data: [DONE]")


def test_silent_stream_is_understood_by_clients_that_strip_what_they_receive() -> None:
    """vLLM's benchmark joins stripped pieces, and looks for blank lines between messages afterwards."""
    texts = ["data: 1\n\n", ": running\n\n", ": running\n\n", "data: 2\n\n", ": running\n\n", "data: 3\n\n"]
    buffer, messages = "", []
    for text in end_comments(texts):
        *complete, buffer = (buffer + text.strip()).split("\n\n")
        messages += complete
        if buffer.startswith("data: "):
            messages.append(buffer)
            buffer = ""
    assert [message for message in messages if message[0] != ":"] == ["data: 1", "data: 2", "data: 3"]


def test_silent_stream_is_an_ordinary_one_for_the_client(web: Web) -> None:
    with client_of(web) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.chat.completions.create, model="tiny", messages=HI, stream=True)
        job_id = new_job(web, future)
        chunks: Any = future.result(
            TIMEOUT_S
        )  # the job is not claimed yet, so a comment has opened the stream
        answer(web, job_id)
        deltas = [chunk.choices[0].delta for chunk in chunks]
    assert [delta.content for delta in deltas] == [*ANSWER, None]
    assert [delta.role for delta in deltas] == ["assistant", None, None, None]


@pytest.mark.parametrize(
    ("end", "code", "kind"),
    [
        (Failed("expired", "It waited too long."), "expired", "server_error"),
        (Failed("engine_failed", "It broke."), "engine_failed", "server_error"),
        (Canceled(), "canceled", "conflict_error"),
    ],
)
def test_silent_stream_has_errors_in_the_stream(
    web: Web, end: Failed | Canceled, code: str, kind: str
) -> None:
    with client_of(web) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.chat.completions.create, model="tiny", messages=HI, stream=True)
        job_id = new_job(web, future)
        chunks: Any = future.result(TIMEOUT_S)
        web.worker.claim(job_id)
        web.worker.append(job_id, end)
        with pytest.raises(openai.APIError) as caught:
            next(chunks)
    assert (caught.value.code, caught.value.type) == (code, kind)


def test_silent_stream_of_a_deleted_job_ends_with_an_error(web: Web) -> None:
    with open_stream(web) as (_, lines):
        web.reset()
        *_, error, done = lines
    assert ('"code":"not_found"' in error, done) == (True, "data: [DONE]")


def test_silent_stream_without_a_client_is_canceled(web: Web) -> None:
    with open_stream(web) as (job_id, _):
        pass
    eventually(lambda: web.job(job_id)["state"] == "canceled", "the end", TIMEOUT_S)


def test_completion_without_stream_keeps_its_status(web: Web) -> None:
    with client_of(web) as client, ThreadPoolExecutor(1) as pool, open_stream(web) as (_, lines):
        future = pool.submit(request_completion, client)
        job_id = eventually(lambda: next((r.id for r in web.ledger.page() if r.position == 2), None), "a job")
        for _ in range(3):  # the request is silent for longer than a stream would be
            next(lines)
        web.worker.claim(job_id)
        web.worker.append(job_id, Failed("timeout", "It took too long."))
        with pytest.raises(openai.InternalServerError) as caught:
            future.result(TIMEOUT_S)
    assert caught.value.status_code == 504


@pytest.fixture
def impatient_proxy(web: Web, tmp_path: Path) -> Iterator[str]:
    """An nginx that closes connections to the API after a second without a byte. Yields its URL."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("nginx is not installed")
    port, kinds = free_port(), ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    location = f"location / {{ proxy_pass {web.http.base_url}; proxy_read_timeout 1s; }}"
    server = f"server {{ listen 127.0.0.1:{port}; {location} }}"
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; pid {tmp_path}/pid; events {{}} http {{ access_log off; {temporary} {server} }}"
    )
    process = subprocess.Popen(["nginx", "-e", str(tmp_path / "log"), "-c", str(config)])
    try:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(url), "nginx")
        yield url
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez").is_success
    except httpx.TransportError:
        return False


def test_silent_stream_outlives_the_idle_limit_of_a_proxy(web: Web, impatient_proxy: str) -> None:
    with (
        client_of(web, base_url=f"{impatient_proxy}/v1") as client,
        ThreadPoolExecutor(1) as pool,
        open_stream(web) as (first, lines),
    ):
        future = pool.submit(request_completion, client, stream=True)
        job_id = eventually(lambda: next((r.id for r in web.ledger.page() if r.id != first), None), "a job")
        for _ in range(8):  # comments on another stream: 1.6 s, so the limit has passed
            next(lines)
        web.worker.claim(job_id)
        web.worker.append(job_id, Token("Hello", 0, 1), success_event(("Hello",)))
        chunks = future.result(TIMEOUT_S)
    assert chunks[0].choices[0].delta.content == "Hello"
    assert len(web.ledger.page()) == 2

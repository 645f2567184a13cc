"""Tests that a job is canceled when its client disconnects, in every state of the job, and only then."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.support.stack import eventually
from tests.support.web.openai_clients import (
    HI,
    answer,
    answer_tokens,
    client_of,
    new_job,
    request_completion,
    success_event,
)
from tests.support.web.webstack import TIMEOUT_S, Web
from worker.jobs.events import Canceled, Token


def assert_cancels(web: Web, job_id: str) -> None:
    """Check that the worker learns of the cancel with its next event, and let it end the job as canceled."""
    eventually(lambda: web.worker.append(job_id) == "cancel" or None, "a cancel", TIMEOUT_S)
    web.worker.append(job_id, Canceled())
    assert web.job(job_id)["state"] == "canceled"


def streaming(web: Web, client: openai.OpenAI) -> tuple[str, Any]:
    """Start a streamed completion and read its first token. Return the job's id and the stream."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.chat.completions.create, model="tiny", messages=HI, stream=True)
        job_id = new_job(web, future)
        web.worker.claim(job_id)
        web.worker.append(job_id, Token("Hel", 0, 1))
        stream: Any = future.result(TIMEOUT_S)
    assert next(stream).choices[0].delta.content == "Hel"
    return job_id, stream


def test_disconnect_cancels_idle_stream(web: Web) -> None:
    with client_of(web) as client:
        job_id, stream = streaming(web, client)
        stream.close()
        assert_cancels(web, job_id)
    eventually(lambda: web.subscribers(job_id) == 0, "the feed to unsubscribe")


def test_disconnect_cancels_busy_stream(web: Web) -> None:
    with client_of(web) as client:
        job_id, stream = streaming(web, client)
        stream.close()
        count = 0

        def step() -> bool | None:
            nonlocal count
            count += 1
            return web.worker.append(job_id, Token("x", count, 1)) == "cancel" or None

        eventually(step, "a cancel", TIMEOUT_S)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("running", [False, True])
def test_disconnect_by_client_timeout_cancels_job(web: Web, stream: bool, running: bool) -> None:
    timeout_s = 3 if running else 1  # a claim must come before the client gives up
    with client_of(web, timeout=timeout_s) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(request_completion, client, stream=stream)
        job_id = new_job(web, future)
        if running:
            web.worker.claim(job_id)
        with pytest.raises(openai.APITimeoutError):
            future.result(TIMEOUT_S)
        if running:
            assert_cancels(web, job_id)
        eventually(lambda: web.job(job_id)["state"] == "canceled" or None, "the end", TIMEOUT_S)


def test_disconnect_after_complete_stream_cancels_nothing(web: Web) -> None:
    with client_of(web) as client:
        job_id, stream = streaming(web, client)
        web.worker.append(job_id, success_event())
        list(stream)
        assert web.job(job_id)["state"] == "succeeded"
        with ThreadPoolExecutor(1) as pool:  # on the same connection
            future = pool.submit(request_completion, client)
            answer(web, new_job(web, future))
            future.result(TIMEOUT_S)


def test_disconnect_is_not_seen_in_pipelined_request(web: Web) -> None:
    body = json.dumps({"messages": HI, "stream": True}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    ahead = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    address = web.http.base_url.host, web.http.base_url.port
    with socket.create_connection(address, TIMEOUT_S) as connection, connection.makefile("rb") as answers:
        connection.sendall(request + ahead)
        job_id = new_job(web)
        web.worker.claim(job_id)
        for event in answer_tokens():  # the API checks the connection before each event
            web.worker.append(job_id, event)
            while b'"content"' not in answers.readline():
                pass
        web.worker.append(job_id, success_event())
        rest = answers.read()
    assert b"data: [DONE]" in rest
    assert b'{"status":"alive"}' in rest.replace(b" ", b"")
    assert web.job(job_id)["state"] == "succeeded"


def test_disconnect_after_pipelined_data_cancels_job(web: Web) -> None:
    body = json.dumps({"messages": HI}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    address = web.http.base_url.host, web.http.base_url.port
    with socket.create_connection(address, TIMEOUT_S) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"GET")
        job_id = new_job(web)
    eventually(lambda: web.job(job_id)["state"] == "canceled" or None, "the end", TIMEOUT_S)

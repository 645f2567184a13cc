"""A client that hangs up takes its job with it, whatever the job is doing; and only then."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.support.openai_clients import HI, answer, ask, client_of, done, new_job, said
from tests.support.stack import eventually
from tests.support.webstack import TIMEOUT_S, Web
from worker.jobs.events import Canceled, Token


def told_to_cancel(web: Web, job_id: str) -> None:
    """The worker hears of it with what it appends next, and ends the job."""
    eventually(lambda: web.worker.append(job_id) == "cancel" or None, "a cancel", TIMEOUT_S)
    web.worker.append(job_id, Canceled())
    assert web.job(job_id)["state"] == "canceled"


def streaming(web: Web, client: openai.OpenAI) -> tuple[str, Any]:
    """A stream with one token read."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.chat.completions.create, model="tiny", messages=HI, stream=True)
        job_id = new_job(web, future)
        web.worker.claim(job_id)
        web.worker.append(job_id, Token("Hel", 0, (0,)))
        stream: Any = future.result(TIMEOUT_S)
    assert next(stream).choices[0].delta.content == "Hel"
    return job_id, stream


def test_a_stream_that_is_closed_while_nothing_comes(web: Web) -> None:
    with client_of(web) as client:
        job_id, stream = streaming(web, client)
        stream.close()
        told_to_cancel(web, job_id)
    eventually(lambda: web.subscribers(job_id) == 0, "the feed to unsubscribe")


def test_a_stream_that_is_closed_while_tokens_come(web: Web) -> None:
    with client_of(web) as client:
        job_id, stream = streaming(web, client)
        stream.close()
        count = 0

        def step() -> bool | None:
            nonlocal count
            count += 1
            return web.worker.append(job_id, Token("x", count, (0,))) == "cancel" or None

        eventually(step, "a cancel", TIMEOUT_S)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("running", [False, True])
def test_a_client_that_gives_up_waiting(web: Web, stream: bool, running: bool) -> None:
    with client_of(web, timeout=1) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(ask, client, stream=stream)
        job_id = new_job(web, future)
        if running:
            web.worker.claim(job_id)
        with pytest.raises(openai.APITimeoutError):
            future.result(TIMEOUT_S)
        if running:
            told_to_cancel(web, job_id)
        eventually(lambda: web.job(job_id)["state"] == "canceled" or None, "the end", TIMEOUT_S)


def test_a_stream_that_was_read_to_its_end_cancels_nothing(web: Web) -> None:
    with client_of(web) as client:
        job_id, stream = streaming(web, client)
        web.worker.append(job_id, done())
        list(stream)
        assert web.job(job_id)["state"] == "succeeded"
        with ThreadPoolExecutor(1) as pool:  # on the same connection
            future = pool.submit(ask, client)
            answer(web, new_job(web, future))
            future.result(TIMEOUT_S)


def test_what_a_client_sends_ahead_is_no_hang_up(web: Web) -> None:
    body = json.dumps({"messages": HI, "stream": True}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    ahead = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    address = web.http.base_url.host, web.http.base_url.port
    with socket.create_connection(address, TIMEOUT_S) as connection, connection.makefile("rb") as answers:
        connection.sendall(request + ahead)
        job_id = new_job(web)
        web.worker.claim(job_id)
        for event in said():  # the API looks at the connection before each
            web.worker.append(job_id, event)
            while b'"content"' not in answers.readline():
                pass
        web.worker.append(job_id, done())
        rest = answers.read()
    assert b"data: [DONE]" in rest
    assert b'{"status":"alive"}' in rest.replace(b" ", b"")
    assert web.job(job_id)["state"] == "succeeded"


def test_a_client_that_sent_ahead_and_left_has_left(web: Web) -> None:
    body = json.dumps({"messages": HI}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    address = web.http.base_url.host, web.http.base_url.port
    with socket.create_connection(address, TIMEOUT_S) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"GET")
        job_id = new_job(web)
    eventually(lambda: web.job(job_id)["state"] == "canceled" or None, "the end", TIMEOUT_S)

"""Clients that hold connections open: deadlines on progress, and caps an address and a key."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import openai
import pytest

from tests.support.stack import eventually
from tests.support.web.openai_clients import client_of, request_completion
from tests.support.web.webstack import HELLO, TIMEOUT_S, Web, start_job
from webapi.keys.keys import Keys
from worker.jobs.events import Event, Token

STREAMS, CONNECTIONS = 2, 20
#: Settings of this module's server. Its clients come from an address that counts.
SETTINGS = {
    "head_timeout_s": 1,
    "stall_timeout_s": 1,
    "heartbeat_s": 0.3,
    "max_open_streams_per_key": STREAMS,
    "max_connections_per_address": CONNECTIONS,
    "trusted_proxies": "192.0.2.1",
}
JSON = "Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
FORM = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 99\r\n\r\n--b\r\n"


@contextmanager
def connect(web: Web, request: str) -> Iterator[socket.socket]:
    """Send these bytes on a connection of their own, and yield it."""
    url = web.http.base_url
    with socket.create_connection((url.host, url.port), TIMEOUT_S) as connection:
        connection.sendall(request.encode())
        yield connection


def read_all(connection: socket.socket) -> str:
    """Return what the server sends until it closes the connection."""
    return connection.makefile("r", newline="").read()


@pytest.fixture
def caller(web: Web) -> Iterator[httpx.Client]:
    """A client with a key."""
    headers = {"Authorization": f"Bearer {Keys(web.ledger.store).create('ci').text}"}
    with httpx.Client(base_url=web.http.base_url, timeout=TIMEOUT_S, headers=headers) as client:
        yield client


@pytest.mark.parametrize("head", ["", "GET /livez HTTP/1.1\r\nHost: loc"])
def test_connection_without_complete_head_is_closed(web: Web, head: str) -> None:
    with connect(web, head) as connection:
        assert read_all(connection) == ""


def test_connection_with_long_head_gets_431(web: Web) -> None:
    lines = "".join(f"X-{number}: {'x' * 8000}\r\n" for number in range(9))
    with connect(web, f"GET /livez HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n") as connection:
        assert connection.makefile().readline().startswith("HTTP/1.1 431 ")


def test_connection_with_head_that_trickles_is_closed(web: Web) -> None:
    with connect(web, "GET /livez HTTP/1.1\r\n") as connection:
        connection.settimeout(0.05)

        def is_closed() -> bool:
            try:
                connection.sendall(b"X-Drop: 1\r\n")
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        eventually(is_closed, "the server to close the connection")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/jobs/chat", JSON), ("/v1/jobs/video", FORM), ("/v1/chat/completions", JSON), ("/v1/videos", FORM)],
)
def test_connection_with_body_that_stalls_gets_408(web: Web, path: str, body: str) -> None:
    with connect(web, f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{body}") as connection:
        answer = read_all(connection)
    assert answer.startswith("HTTP/1.1 408 ")
    assert '"code":"request_timeout"' in answer
    assert web.is_untouched()


def test_connection_with_refused_body_that_stalls_is_closed(web: Web) -> None:
    Keys(web.ledger.store).create("ci")
    with connect(web, f"POST /v1/jobs/video HTTP/1.1\r\nHost: localhost\r\n{FORM}") as connection:
        assert read_all(connection).startswith("HTTP/1.1 401 ")


def test_connection_serves_requests_sent_ahead(web: Web) -> None:
    request = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(
        web, 3 * request + request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    ) as connection:
        assert read_all(connection).count('{"status":"alive"}') == 4


def test_connection_of_idle_stream_stays_open(web: Web) -> None:
    with web.http.stream("GET", f"/v1/jobs/{web.submit()}/events") as response:
        comments = [
            line for line, _ in zip(response.iter_lines(), range(12), strict=False) if line[:1] == ":"
        ]
    assert len(comments) > 2 * web.settings.stall_timeout_s / web.settings.heartbeat_s


def test_connection_of_client_that_does_not_read_is_closed(web: Web) -> None:
    job_id = start_job(web)
    with connect(web, f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        eventually(lambda: web.subscribers(job_id) == 1, "the feed to subscribe")
        big: list[Event] = [Token("x" * 100_000, 0, 1)]
        for _ in range(200):  # more than the sockets' buffers hold
            web.worker.append(job_id, *big)
        eventually(lambda: web.subscribers(job_id) == 0, "the server to close the stream")


def test_connections_of_an_address_are_capped(web: Web) -> None:
    web.http.close()
    request = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def status(connection: socket.socket) -> str:
        return connection.recv(2**16).decode().split()[1]

    with ExitStack() as stack:
        held = [stack.enter_context(connect(web, request)) for _ in range(CONNECTIONS)]
        assert [status(each) for each in held] == ["200"] * CONNECTIONS
        with connect(web, request) as refused:
            answer = read_all(refused)
        assert answer.startswith("HTTP/1.1 429 ")
        assert "\r\nRetry-After: 5\r\n" in answer
        held[0].close()

        def admitted() -> bool:
            with connect(web, request) as connection:
                return status(connection) == "200"

        eventually(admitted, "a place for another connection")


def test_streams_of_a_key_are_capped(web: Web, caller: httpx.Client) -> None:
    job_id = caller.post("/v1/jobs/chat", json=HELLO).json()["id"]
    url, other = f"/v1/jobs/{job_id}/events", Keys(web.ledger.store).create("other")
    with ExitStack() as stack:
        for _ in range(STREAMS):
            assert stack.enter_context(caller.stream("GET", url)).status_code == 200
        refused = caller.get(url)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
        assert int(refused.headers["Retry-After"]) > 0
        unawaited = caller.post("/v1/jobs/chat", json=HELLO, headers={"Prefer": "wait=60"})
        assert (unawaited.status_code, "Preference-Applied" in unawaited.headers) == (202, False)
        key = caller.headers["Authorization"].removeprefix("Bearer ")
        with client_of(web, api_key=key) as client, pytest.raises(openai.RateLimitError) as caught:
            request_completion(client)
        assert caught.value.code == "too_many_streams"
        authorization = {"Authorization": f"Bearer {other.text}"}
        theirs = caller.post("/v1/jobs/chat", json=HELLO, headers=authorization).json()["id"]
        with caller.stream("GET", f"/v1/jobs/{theirs}/events", headers=authorization) as stream:
            assert stream.status_code == 200
    eventually(lambda: open_status(caller, url) == 200, "a place for another stream")


def open_status(client: httpx.Client, url: str) -> int:
    with client.stream("GET", url) as response:
        return response.status_code

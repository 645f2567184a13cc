"""Heads of requests that do not follow HTTP, or that speak to the server instead of the app."""

import re
import socket

import pytest

from tests.support.web.webstack import TIMEOUT_S, Web


def send(web: Web, request: str) -> list[str]:
    """Send these bytes and return the lines of the head of the response."""
    url = web.http.base_url
    with socket.create_connection((url.host, url.port), TIMEOUT_S) as connection:
        connection.sendall(request.encode("latin-1"))
        lines = connection.makefile("r", encoding="latin-1")
        return [line.strip() for line in iter(lines.readline, "\n")]


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "Script-Name", "PATH_INFO", "REMOTE_USER", "REMOTE_ADDR"])
@pytest.mark.parametrize("value", ["/x", "/v1", "x"])
def test_head_cannot_set_variables_of_the_server(web: Web, name: str, value: str) -> None:
    assert web.http.get("/v1/jobs", headers={name: value}).json()["jobs"] == []


@pytest.mark.parametrize(
    "head",
    [
        "GET /v1/jobs HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET /v1/jobs HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /v1/jobs/%ff%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n",
        f"GET /nowhere HTTP/1.1\r\nContent-Length: {'9' * 5000}\r\n\r\n",
        "GET /nowhere HTTP/9.9\r\n\r\n",
        f"GET /{'n' * 10_000} HTTP/1.1\r\n\r\n",
        f"GET /nowhere HTTP/1.1\r\nA: {'a' * 20_000}\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nExpect: the unexpected\r\n\r\n",
    ],
)
def test_head_at_fault_is_a_client_error(web: Web, head: str) -> None:
    status, *headers = send(web, head)
    assert status.split()[1].startswith("4")
    assert len([header for header in headers if re.fullmatch("X-Request-Id: [0-9a-f]{32}", header)]) == 1

"""Caps on the uploads and probes that a host has at the same time, and the floor of free space."""

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest

from tests.support.stack import eventually
from tests.support.web.webstack import TIMEOUT_S, Web, assert_refused, serve, upload
from webapi.submission.slots import Slots

#: Settings of this module's server.
SETTINGS = {"max_uploads_per_key": 1, "max_probes": 1, "max_upload_bytes": 10**6}
ROUTES = ["/v1/jobs/video", "/v1/videos"]


@contextmanager
def unsent_upload(web: Web, path: str = ROUTES[0], size: int = 1000) -> Iterator[socket.socket]:
    """Send the head of an upload of `size` bytes, but not its body."""
    url = web.http.base_url
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    with socket.create_connection((url.host, url.port), TIMEOUT_S) as connection:
        connection.sendall(head.encode())
        yield connection


def status_before_body(web: Web, path: str, size: int = 1000) -> int:
    with unsent_upload(web, path, size) as connection:
        return int(connection.makefile("r").readline().split()[1])


@contextmanager
def running_upload(web: Web) -> Iterator[None]:
    """Begin an upload, the only one of the server, and wait until the server has accepted its head."""
    with unsent_upload(web):
        eventually(lambda: list(web.settings.media_dir.glob("*")), "the upload's folder", TIMEOUT_S)
        yield


def wait_until_accepted(web: Web, clip: bytes) -> None:
    eventually(lambda: upload(web, clip).status_code == 202, "the end of the other upload", TIMEOUT_S)


def test_upload_beyond_the_cap_is_refused_until_another_one_ends(web: Web, clip: bytes) -> None:
    with running_upload(web):
        response = upload(web, clip)
        assert response.status_code == 429
        assert response.json()["code"] == "too_many_uploads"
        assert int(response.headers["Retry-After"]) > 0
        assert [status_before_body(web, path) for path in ROUTES] == [429, 429]
        compatible = web.http.post(ROUTES[1], files={"input_reference": clip})
        assert compatible.json()["error"]["type"] == "rate_limit_error"
        web.submit()  # a chat
    wait_until_accepted(web, clip)


def test_upload_cap_counts_all_processes_of_the_host_that_live(web: Web, redis_url: str, clip: bytes) -> None:
    with serve(redis_url, web.settings.home_dir, **SETTINGS) as other, running_upload(other):
        assert upload(web, clip).status_code == 429
        for process in psutil.Process(other.process.pid).children():
            os.kill(process.pid, signal.SIGKILL)
        wait_until_accepted(web, clip)


def test_probe_waits_for_a_slot_while_others_are_served(web: Web, clip: bytes) -> None:
    slots = Slots(web.settings.home_dir / "slots" / "probes" / "all", 1)
    with ThreadPoolExecutor(1) as pool:
        with slots.wait():
            response = pool.submit(upload, web, clip)
            eventually(lambda: list(web.settings.media_dir.glob("*/part1")), "the clip", TIMEOUT_S)
            web.submit()  # a chat
            assert not response.done()
        assert response.result(TIMEOUT_S).status_code == 202


@pytest.mark.parametrize("path", ROUTES)
def test_upload_over_the_limit_is_refused_before_its_body(web: Web, path: str) -> None:
    assert status_before_body(web, path, 10**6 + 1) == 413


@pytest.mark.long
def test_upload_leaves_the_floor_of_free_space(web: Web, redis_url: str, clip: bytes) -> None:
    with serve(redis_url, web.settings.home_dir, min_free_bytes=2**60) as full:
        assert [status_before_body(full, path) for path in ROUTES] == [507, 507]
        assert assert_refused(full, upload(full, clip), 507) == "There is no room for the upload."
        assert full.job(full.submit())["state"] == "queued"

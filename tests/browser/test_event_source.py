"""Tests of a page of another origin in Chromium, and of npm's `EventSource` in Node."""

import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from tests.support.web.uploads import write_clip
from tests.support.web.webstack import HELLO, TIMEOUT_S, Web, logged_events, serve, token_events
from webapi.keys.keys import Keys
from worker.jobs.events import Succeeded

HERE = Path(__file__).parent
FILES = {"/page.html": "text/html", "/follow.js": "text/javascript"}
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DONE = Succeeded({"text": "", "finish_reason": "stop"}, {})

Seen = dict[str, Any]


class Pages(ThreadingHTTPServer):
    """An HTTP server that serves the page and receives its reports."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), PageHandler)
        self.reports: queue.SimpleQueue[Seen] = queue.SimpleQueue()


class PageHandler(BaseHTTPRequestHandler):
    server: Pages

    def do_GET(self) -> None:
        kind = FILES.get(self.path)
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.end_headers()
        if kind:
            self.wfile.write((HERE / self.path[1:]).read_bytes())

    def do_POST(self) -> None:
        self.server.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    with Pages() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def api(redis_url: str, pages: Pages, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    origins = ",".join(f"http://{host}:{pages.server_port}" for host in ("localhost", "127.0.0.1"))
    with serve(redis_url, tmp_path_factory.mktemp("home"), cors_origins=origins) as web:
        yield web


@pytest.fixture
def key(api: Web) -> str:
    return Keys(api.ledger.store).create("page").text


def running_job(api: Web, key: str) -> str:
    response = api.http.post("/v1/jobs/chat", json=HELLO, headers={"Authorization": f"Bearer {key}"})
    job_id = str(response.json()["id"])
    api.worker.claim(job_id)
    api.worker.append(job_id, *token_events(0, 2))
    return job_id


def assert_follows_to_end(api: Web, job_id: str, reports: "queue.SimpleQueue[Seen]") -> None:
    """Assert that the client reports every event once, although the API is killed, and then closes."""
    seen = [reports.get(timeout=TIMEOUT_S) for _ in range(4)]
    (server,) = psutil.Process(api.process.pid).children()
    server.kill()  # gunicorn starts another one
    seen.append(reports.get(timeout=TIMEOUT_S))
    api.worker.append(job_id, *token_events(2, 2), DONE)
    while seen[-1].get("error") != "closed":
        seen.append(reports.get(timeout=TIMEOUT_S))
    events = [one for one in seen if "error" not in one]
    assert [event["data"] for event in events] == logged_events(api.ledger, job_id)
    assert [event["id"] for event in events] == [str(n) for n in range(1, 8)]
    assert {"error": "reconnecting"} in seen[4:5]


@contextmanager
def running(*command: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def chromium(
    origin: str, profile: Path, **options: object
) -> "AbstractContextManager[subprocess.Popen[str]]":
    """Open the page from this origin, with its options in the URL."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    quiet = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    url = f"{origin}/page.html#{quote(json.dumps(options))}"
    return running(str(CHROMIUM), *quiet, *sandbox, f"--user-data-dir={profile}", url)


def root(api: Web) -> str:
    return str(api.http.base_url).rstrip("/")


@pytest.mark.skipif(not (HERE / "node_modules").is_dir(), reason="npm has not installed `eventsource`")
def test_event_source_npm_reconnects(api: Web, key: str) -> None:
    job_id = running_job(api, key)
    headers = {"Authorization": f"Bearer {key}"}
    answer = api.http.post(f"/v1/jobs/{job_id}/token", headers=headers).json()
    reports: queue.SimpleQueue[Seen] = queue.SimpleQueue()
    with running("node", str(HERE / "node.js"), root(api) + answer["events"]) as node:

        def read() -> None:
            assert node.stdout is not None
            for line in node.stdout:
                reports.put(json.loads(line))

        reader = threading.Thread(target=read)
        reader.start()
        assert_follows_to_end(api, job_id, reports)
        node.kill()
        reader.join()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize(
    ("host", "cookie"), [("localhost", False), pytest.param("127.0.0.1", True, marks=pytest.mark.long)]
)
def test_event_source_chromium_reconnects(
    api: Web, key: str, pages: Pages, tmp_path: Path, host: str, cookie: bool
) -> None:
    """A page of another site uses the token in the URL, and a page of the same site uses the cookie."""
    job_id = running_job(api, key)
    origin = f"http://{host}:{pages.server_port}"
    with chromium(origin, tmp_path, api=root(api), job=job_id, key=key, cookie=cookie):
        assert_follows_to_end(api, job_id, pages.reports)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.long
def test_result_chromium_plays_video_cross_site(api: Web, key: str, pages: Pages, tmp_path: Path) -> None:
    files = {"file": write_clip(tmp_path / "in.mp4")}
    response = api.http.post("/v1/jobs/video", files=files, headers={"Authorization": f"Bearer {key}"})
    job_id = response.json()["id"]
    api.worker.claim(job_id)
    write_clip(api.settings.media_dir / job_id / "result.mp4", frames=25, width=96, height=64)
    api.worker.append(job_id, DONE)
    origin = f"http://localhost:{pages.server_port}"
    with chromium(origin, tmp_path / "profile", api=root(api), job=job_id, key=key, video=True):
        assert pages.reports.get(timeout=TIMEOUT_S) == {"size": [96, 64], "seconds": 1}
